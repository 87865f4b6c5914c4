/* What the parts of the page share about saved commands. The server sends them while somebody looks
   at them. It draws nothing.

   Events: "commands" (they have come), "answer" (to the last thing that a visitor wanted; the event's
   `detail`: `to` says which, `wrong` what is wrong by field, `job` and `name` what became of it). */

import { opensElsewhere } from "./dom.js";

class SavedState extends EventTarget {
  constructor() {
    super();
    this.commands = null; // by name; null until they have come
    this.error = ""; // why they have not
    this.component = null; // how the server is told what a visitor wants
    this.answered = null; // number of the last answer that was taken
    this.lookers = new Set(); // the dialogs that are open
    this.wanted = null; // what the server was last told: does anybody look?
    this.openRun = () => {}; // (name, values): opens the dialog that runs one
    this.openSave = () => {}; // (job): opens the dialog that saves what a job ran
    this.openEdit = () => {}; // (command): opens the same dialog for one that is there
  }

  receive(component) {
    const { data } = component;
    this.component = component;
    this.wanted ??= data.wanted;
    this.commands = data.commands;
    this.error = data.error;
    this.dispatchEvent(new Event("commands"));
    this.tellWanted();
    const { answer } = data;
    if (answer && answer.number !== this.answered) {
      this.answered = answer.number;
      this.dispatchEvent(new CustomEvent("answer", { detail: answer }));
    }
  }

  find(name) {
    return this.commands?.find((command) => command.saved === name);
  }

  /** A dialog that shows them has opened or closed. */
  setLooking(dialog, looks) {
    if (looks) {
      this.lookers.add(dialog);
    } else {
      this.lookers.delete(dialog);
    }
    this.tellWanted();
  }

  tellWanted() {
    const wanted = this.lookers.size > 0;
    if (this.component && wanted !== this.wanted) {
      this.wanted = wanted;
      this.component.setStateValue("wanted", wanted);
    }
  }

  act(name, value) {
    this.component?.setTriggerValue(name, value);
  }
}

export const saved = new SavedState();

/** A click on a link to a saved command opens it here. */
export function onSavedLink(event) {
  const link = event.target.closest("[data-saved]");
  if (link && !opensElsewhere(event)) {
    event.preventDefault();
    saved.openRun(link.dataset.saved);
  }
}
