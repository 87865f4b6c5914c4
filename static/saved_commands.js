/* The component that receives the saved commands and sends the visitor's actions on them. Its
   dialog shows the form of a saved command. */

import { closeWhenRemoved } from "./dom.js";
import { adaptKeyHints } from "./key_names.js";
import { page } from "./page_state.js";
import { SaveForm } from "./saved_editor.js";
import { saved } from "./saved_state.js";
import { suggestName } from "./saved_text.js";

class SaveDialog {
  constructor(root) {
    this.dialog = root.querySelector(".save-dialog");
    this.template = root.querySelector(".save-template");
    adaptKeyHints(this.template.content);
    this.form = null; // the form that is shown; it exists only while the dialog is open
    this.kept = null; // a changed form that Escape has closed
    this.onAnswer = (event) => this.takeAnswer(event.detail);
    this.onCommands = () => this.form?.drawNote();
    saved.openSave = (job) => this.openSave(job);
    saved.openForm = (values, source) => this.openForm(values, source);
    saved.openEdit = (command) => this.openEdit(command);
    saved.addEventListener("answer", this.onAnswer);
    saved.addEventListener("commands", this.onCommands);
    page.on("status", this.onCommands);
    this.dialog.addEventListener("cancel", () => this.keep());
    this.dialog.addEventListener("close", () => this.onClose());
  }

  close() {
    saved.removeEventListener("answer", this.onAnswer);
    saved.removeEventListener("commands", this.onCommands);
    page.removeEventListener("status", this.onCommands);
  }

  /** Saves what a job ran. */
  openSave(job) {
    const name = job.saved ?? suggestName(job.title);
    this.open({ origin: { job: job.id }, name, hiddenHint: "same as this job" });
  }

  /** Saves what the run form describes. `source` is the ID of the job that it was filled from. */
  openForm(values, source) {
    const lines = values.command.replace(/^#!.*/, "").trim(); // without a script's interpreter
    const name = suggestName(values.name || lines.split("\n")[0]);
    this.open({ origin: source ? { job: source } : {}, name, values });
  }

  openEdit({ saved: name }) {
    this.open({ origin: { saved: name }, name });
  }

  /** `about`: see SaveForm. Shows the visitor's earlier changes if there are any. */
  open(about) {
    const key = JSON.stringify(about);
    const isKept = this.kept?.key === key;
    this.form = isKept ? this.kept : new SaveForm(this.template, about, key);
    this.kept = null;
    this.dialog.replaceChildren(this.form.node);
    saved.setDialogOpen(this.dialog, true);
    this.dialog.showModal();
    if (isKept) {
      this.form.say("Your changes are still here. Cancel discards them.");
    } else {
      this.form.begin();
    }
  }

  /** Escape has closed the dialog, perhaps by mistake. */
  keep() {
    this.kept = this.form.isDirty ? this.form : null;
  }

  onClose() {
    this.form = null;
    saved.setDialogOpen(this.dialog, false);
    this.dialog.replaceChildren();
  }

  takeAnswer(answer) {
    if (answer.to === "save" && this.form) {
      this.form.takeAnswer(answer);
      if (!answer.wrong) {
        this.dialog.close();
      }
    }
  }
}

export default function mountSavedCommands(component) {
  const root = component.parentElement;
  root.saveDialog ??= new SaveDialog(root);
  saved.receive(component);
  return closeWhenRemoved(root, root.saveDialog);
}
