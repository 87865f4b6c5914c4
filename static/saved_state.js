/* The state that the parts of the page share about saved commands. The server sends them only while
   a dialog shows them. It draws nothing.

   Events: "commands" (they have arrived), "answer" (to the visitor's last action; the event's
   `detail` has the action in `to`, the saved command in `name`, the new job in `job` and errors by
   field in `wrong`). */

import { opensElsewhere } from "./dom.js";
import { page } from "./page_state.js";
import { NOT_SENT } from "./run_form.js";

const RETRY = 4000; // milliseconds until a value is sent again that Streamlit may have lost

class SavedState extends EventTarget {
  constructor() {
    super();
    this.commands = null; // sorted by name; null until they arrive
    this.error = ""; // why they could not be loaded
    this.component = null; // sends the visitor's actions to the server
    this.answered = null; // number of the last answer that was handled
    this.openDialogs = new Set(); // the dialogs that are open
    this.wanted = null; // whether the server was last asked to send them
    this.isWantedThere = null; // what the server knows of that
    this.openRun = () => {}; // (name, values): opens the dialog that runs a saved command
    this.openSave = () => {}; // (job): opens the dialog that saves the job's command
    this.openForm = () => {}; // (values, source): the same for the values of the run form
    this.openEdit = () => {}; // (command): opens the same dialog to edit a saved command
  }

  receive(component) {
    const { data } = component;
    this.component = component;
    this.wanted ??= data.wanted;
    this.isWantedThere = data.wanted;
    this.commands = data.commands;
    this.error = data.error;
    this.dispatchEvent(new Event("commands"));
    this.sendWanted();
    const { answer } = data;
    if (answer && answer.number !== this.answered) {
      this.answered = answer.number;
      this.dispatchEvent(new CustomEvent("answer", { detail: answer }));
    }
  }

  find(name) {
    return this.commands?.find((command) => command.saved === name);
  }

  /** Records that a dialog that shows saved commands has opened or closed. */
  setDialogOpen(dialog, isOpen) {
    if (isOpen) {
      this.openDialogs.add(dialog);
    } else {
      this.openDialogs.delete(dialog);
    }
    this.sendWanted();
  }

  sendWanted() {
    const wanted = this.openDialogs.size > 0;
    if (this.component && wanted !== this.wanted) {
      this.wanted = wanted;
      this.requestWanted();
    }
  }

  /** Streamlit loses one of two components' values if both arrive while it starts a run. */
  requestWanted() {
    this.component.setStateValue("wanted", this.wanted);
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => {
      if (this.isWantedThere !== this.wanted) {
        this.requestWanted();
      }
    }, RETRY);
  }

  act(name, value) {
    this.component?.setTriggerValue(name, value);
  }

  /** Does the API not answer, so that no action can be sent? */
  get isCutOff() {
    return Boolean(page.status.problem);
  }

  /** Shows on buttons of a form whether their actions can be sent. They stay reachable, to say why
      not. */
  drawCutOff(form, buttons) {
    const error = form.querySelector('.wrong[data-field=""]');
    if (!this.isCutOff && error.textContent === NOT_SENT) {
      error.textContent = "";
    }
    for (const button of buttons) {
      button.ariaDisabled = this.isCutOff ? "true" : null;
      button.title = this.isCutOff ? NOT_SENT : "";
    }
  }
}

export const saved = new SavedState();

/** Opens a saved command in this page when its link is clicked. */
export function onSavedLink(event) {
  const link = event.target.closest("[data-saved]");
  if (link && !opensElsewhere(event)) {
    event.preventDefault();
    saved.openRun(link.dataset.saved);
  }
}
