/* The form in its dialog. What is typed stays, also when the dialog or the tab is closed, until
   the job runs. The server checks it and says at which field something is wrong. */

import { showWrong, submitByKey } from "./dom.js";
import { readSetting, writeSetting } from "./page_state.js";

const DRAFT_STORAGE = "sessionStorage"; // of this tab: it may hold what others must not see

export class RunForm {
  /** `send(values)` brings what is typed to the server. */
  constructor(dialog, send) {
    this.dialog = dialog;
    this.form = dialog.querySelector(".new-job");
    this.empty = emptyValues(this.form);
    this.send = send;
    this.source = ""; // the ID of the job that the form was filled from
    this.sentAt = 0; // number of the submission that an answer is awaited for
    this.onOpen = () => {}; // what else the dialog shows steps back
    this.fill({ ...this.empty, ...readSetting("draft", {}, DRAFT_STORAGE) });
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("input", () => this.keepDraft());
    dialog.addEventListener("keydown", (event) => this.onKey(event));
    dialog.querySelector(".close-form").addEventListener("click", () => dialog.close());
  }

  open() {
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    this.onOpen();
    const wrong = this.form.querySelector('[aria-invalid="true"]');
    (wrong ?? this.form.elements.command).focus();
  }

  /** Fill the form from a job's values, to be changed; `source` is that job's ID. */
  edit(values, source) {
    this.fill({ ...this.empty, ...values });
    this.source = source;
    this.showWrong({});
    this.form.querySelector("details").open = Boolean(values.env);
    this.open();
  }

  fill(values) {
    for (const [name, value] of Object.entries(values)) {
      if (name in this.empty) {
        this.form.elements[name].value = value ?? "";
      }
    }
  }

  values() {
    return Object.fromEntries(
      Object.keys(this.empty).map((name) => [name, this.form.elements[name].value]),
    );
  }

  keepDraft() {
    writeSetting("draft", this.values(), DRAFT_STORAGE);
  }

  onKey(event) {
    if (!this.form.hidden) {
      submitByKey(event, this.form);
    }
  }

  submit(event) {
    event.preventDefault(); // which would close the dialog before anybody knows
    this.send({ values: this.values(), source: this.source });
  }

  /** The server has taken the job: the next one begins with an empty form. */
  accept() {
    this.fill(this.empty);
    this.source = "";
    this.showWrong({});
    this.keepDraft();
    this.dialog.close();
  }

  showWrong(wrong) {
    showWrong(this.form, wrong);
    const more = this.form.querySelector("details");
    if (more.querySelector('[aria-invalid="true"]')) {
      more.open = true;
    }
  }
}

/** The values that the HTML gives to the fields, by name. */
function emptyValues(form) {
  const fields = [...form.elements].filter((element) => element.name);
  return Object.fromEntries(fields.map((field) => [field.name, field.defaultValue]));
}
