/* The run form in its dialog. The typed text is kept, even if the dialog is closed or the page is
   reloaded, until the job is submitted. The server validates it and returns an error for each
   field. */

import { clearWrong, fieldText, setFieldText, showWrong, submitByKey } from "./dom.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { HIDDEN } from "./saved_form_text.js";

export const NOT_SENT = "Not sent: the API isn't answering. Your text is kept; try again.";
const SECRET = /TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH(?!OR)|(?:^|_|API)KEY(?:_|$)/; // as in rows.py
const NEW_JOB = "Run a job";
const DRAFT_STORAGE = "sessionStorage"; // of this tab only: the text may contain secrets

export class RunForm {
  /** `send({ values, source })` submits the form to the server. */
  constructor(dialog, send) {
    this.dialog = dialog;
    this.form = dialog.querySelector(".new-job");
    this.empty = readValues(this.form);
    this.send = send;
    this.source = ""; // the ID of the job that the form was filled from
    this.sentAt = 0; // number of the submission whose answer is awaited
    this.onOpen = () => {}; // lets SavedPanel show the form instead of a saved command
    this.readDraft();
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("input", ({ target }) => this.onInput(target));
    page.on("status", () => this.drawProblem());
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

  /** Fills the form with the values of the job `source`, an ID, for the visitor to edit. */
  edit(values, source) {
    this.fill({ ...this.empty, ...values });
    this.source = source;
    this.showWrong({});
    this.form.querySelector("details").open = this.usesMore(values);
    this.form.querySelector("h2").textContent = source
      ? `Run a copy of ${values.name || "this job"}`
      : NEW_JOB;
    this.open();
  }

  /** Does a field under More have a value of its own? */
  usesMore(values) {
    const more = this.form.querySelector("details");
    const fields = [...this.form.elements].filter((field) => field.name && more.contains(field));
    return fields.some(({ name }) => (values[name] ?? this.empty[name]) !== this.empty[name]);
  }

  fill(values) {
    for (const [name, value] of Object.entries(values)) {
      if (name in this.empty) {
        setFieldText(this.form.elements[name], value ?? "");
      }
    }
  }

  values() {
    return readValues(this.form);
  }

  readDraft() {
    const { source = "", ...values } = readSetting("draft", {}, DRAFT_STORAGE);
    this.fill({ ...this.empty, ...values });
    this.source = source; // has the values that the environment of the form hides
  }

  keepDraft() {
    const values = this.values();
    const env = hideSecrets(values.env);
    const source = env === values.env ? this.source : ""; // which has other values for these names
    writeSetting("draft", { ...values, env, source }, DRAFT_STORAGE);
  }

  /** An error disappears as the visitor corrects its field. */
  onInput({ name }) {
    this.keepDraft();
    clearWrong(this.form, name);
    clearWrong(this.form, "");
  }

  /** While the API does not answer, nothing is sent. The button stays reachable, to say why. */
  drawProblem() {
    const run = this.form.querySelector(".run");
    run.ariaDisabled = page.status.problem ? "true" : null;
    run.title = page.status.problem ? NOT_SENT : "";
    const error = this.form.querySelector('.wrong[data-field=""]');
    if (!page.status.problem && error.textContent === NOT_SENT) {
      clearWrong(this.form, "");
    }
  }

  onKey(event) {
    if (!this.form.hidden) {
      submitByKey(event, this.form);
    }
  }

  submit(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    if (page.status.problem) {
      this.showWrong({ "": NOT_SENT });
      return;
    }
    this.send({ values: this.values(), source: this.source });
  }

  /** The server has accepted the job: clears the form and closes the dialog. */
  accept() {
    this.clear();
    this.dialog.close();
  }

  clear() {
    this.fill(this.empty);
    this.source = "";
    this.form.querySelector("h2").textContent = NEW_JOB;
    this.showWrong({});
    this.keepDraft();
  }

  showWrong(wrong) {
    showWrong(this.form, wrong);
    const more = this.form.querySelector("details");
    if (more.querySelector('[aria-invalid="true"]')) {
      more.open = true;
    }
  }
}

/** An environment without the values whose names suggest a secret. After a reload, the server asks
    for them. */
function hideSecrets(env) {
  const lines = env.split("\n").map((line) => {
    const [name] = line.split("=", 1);
    return SECRET.test(name) && line.includes("=") ? `${name}=${HIDDEN}` : line;
  });
  return lines.join("\n");
}

/** The texts of a form's fields, by name. */
function readValues(form) {
  const fields = [...form.elements].filter((element) => element.name);
  return Object.fromEntries(fields.map((field) => [field.name, fieldText(field)]));
}
