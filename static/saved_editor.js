/* The form of a saved command. It saves what the run form describes or what a job ran, and edits
   saved commands. */

import { showWrong, submitByKey } from "./dom.js";
import { ask } from "./errands.js";
import { page } from "./page_state.js";
import {
  givenParams,
  HIDDEN,
  readEnvironment,
  revealEnvironment,
  unscheduledParams,
} from "./saved_form_text.js";
import { ParamFields } from "./saved_params.js";
import { ScheduleFields } from "./saved_schedule.js";
import { NOT_SENT, saved } from "./saved_state.js";
import { suggestName } from "./saved_text.js";
import { unfinishedName } from "./shell_variables.js";

const NAMES = "Lowercase letters, digits, - _ and .";
const OPTIONS = ["command", "name", "queue", "cwd", "timeout", "retries", "retry_delay", "env"];
const DEFAULTS = { name: "", queue: "default", cwd: "", timeout: "", retries: "0", env: "" };
const NOTHING = { params: [], cron: "", zone: "", paused: false };

export class SaveDialog {
  constructor(root) {
    this.dialog = root.querySelector(".save-dialog");
    this.template = root.querySelector(".save-template");
    this.form = null; // while the dialog is open
    this.params = null;
    this.schedule = null;
    this.origin = {}; // { job } or { saved }: what the form was filled from; empty: the run form
    this.edited = ""; // the name of the saved command that is edited
    this.seen = ""; // its ETag; "" for a new command; null: replace any
    this.opening = 0; // counts, so that a late answer does not fill another form
    this.key = ""; // of what the form was opened for
    this.isDirty = false; // has the visitor changed the form?
    this.keeps = false; // was it closed by Escape, so that changes are kept?
    this.kept = null; // a form that was closed so: its key and the fields of this object
    this.onAnswer = (event) => this.takeAnswer(event.detail);
    this.onCommands = () => this.drawNote();
    saved.openSave = (job) => this.openSave(job);
    saved.openEdit = (command) => this.openEdit(command);
    saved.openForm = (values, source) => this.openForm(values, source);
    saved.addEventListener("answer", this.onAnswer);
    saved.addEventListener("commands", this.onCommands);
    page.on("status", this.onCommands);
    this.dialog.addEventListener("cancel", () => {
      this.keeps = this.isDirty;
    });
    this.dialog.addEventListener("close", () => this.onClose());
  }

  find(selector) {
    return this.dialog.querySelector(selector);
  }

  listen() {
    const { elements } = this.form;
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("keydown", (event) => submitByKey(event, this.form));
    this.form.addEventListener("input", (event) => this.onInput(event.target));
    elements.saved.addEventListener("input", () => this.drawNote());
    elements.command.addEventListener("input", () => this.suggest(this.unfinished));
    elements.command.addEventListener("change", () => this.suggest());
    elements.env.addEventListener("input", () => this.drawReveal());
    elements.env.addEventListener("change", () => this.suggest());
    this.find(".save-reveal").addEventListener("click", () => this.reveal());
    this.find(".save-close").addEventListener("click", () => this.dialog.close());
  }

  close() {
    saved.removeEventListener("answer", this.onAnswer);
    saved.removeEventListener("commands", this.onCommands);
    page.removeEventListener("status", this.onCommands);
  }

  // --- Opening ---

  /** Saves what a job ran. */
  openSave(job) {
    if (this.start("Save command", { job: job.id })) {
      const name = job.saved ?? suggestName(job.title);
      this.params.hiddenHint = "same as this job";
      this.load((form) => this.fill(form, { name, suggestsNew: true }));
    }
  }

  /** Saves what the run form describes. `source` is the ID of the job that it was filled from. */
  openForm(values, source) {
    const origin = source ? { job: source } : {};
    if (this.start("Save command", origin, { about: JSON.stringify(values) })) {
      const name = suggestName(values.name || values.command.trim().split("\n")[0]);
      this.fill({ ...NOTHING, values }, { name, suggestsNew: true });
    }
  }

  openEdit({ saved: name }) {
    if (this.start(`Edit ${name}`, { saved: name }, { edited: name })) {
      this.load((form) => this.fill(form, { name, suggestsNew: false }));
    }
  }

  /** Opens the dialog. Returns false if it shows the visitor's earlier changes, so that it must not
      be filled. */
  start(title, origin, { edited = "", about = "" } = {}) {
    const key = JSON.stringify([origin, about]);
    const { kept } = this;
    this.opening += 1;
    this.kept = null;
    if (kept?.key === key) {
      Object.assign(this, kept);
      this.dialog.replaceChildren(this.form);
      this.say("Your changes are still here. Cancel discards them.");
    } else {
      Object.assign(this, { key, origin, edited, seen: "", isDirty: false });
      this.makeForm();
    }
    this.find("#save-title").textContent = title;
    this.find(".save-naming").hidden = edited !== "";
    saved.setDialogOpen(this.dialog, true);
    this.dialog.showModal();
    return kept?.key !== key;
  }

  /** The form exists only while it is shown: most visits do not need it. */
  makeForm() {
    this.dialog.replaceChildren(this.template.content.cloneNode(true));
    this.form = this.find("form");
    this.params = new ParamFields(this.find(".save-params"));
    this.schedule = new ScheduleFields(this.form);
    this.listen();
  }

  onClose() {
    const { key, origin, edited, seen, isDirty, form, params, schedule } = this;
    this.kept = this.keeps ? { key, origin, edited, seen, isDirty, form, params, schedule } : null;
    this.keeps = false;
    saved.setDialogOpen(this.dialog, false);
    this.dialog.replaceChildren();
  }

  /** Gets the form from the server and passes it on, unless the dialog shows another by then. */
  async load(fill) {
    const { opening } = this;
    this.setLoading("Loading…");
    const form = await ask("saved_form", this.origin);
    if (opening !== this.opening || !this.dialog.open) {
      return;
    }
    this.setLoading(form.error ?? "");
    if (!form.error) {
      this.seen = this.edited ? form.seen : "";
      fill(form);
    }
  }

  /** Shows a sentence instead of the fields; "" shows the fields. */
  setLoading(sentence) {
    this.say(sentence);
    this.find(".save-body").hidden = sentence !== "";
    this.find(".save-now").disabled = sentence !== "";
  }

  say(sentence) {
    this.find(".save-loading").textContent = sentence;
    this.find(".save-loading").hidden = sentence === "";
  }

  fill(form, { name, suggestsNew }) {
    const { elements } = this.form;
    elements.saved.value = name;
    for (const option of OPTIONS) {
      elements[option].value = form.values[option] ?? "";
    }
    this.params.fill(givenParams(form.params));
    this.suggest("", suggestsNew);
    this.schedule.fill(form);
    this.find(".save-more").open = Object.entries(DEFAULTS).some(
      ([option, value]) => elements[option].value !== value,
    );
    this.drawReveal();
    this.drawNote();
    (this.edited ? elements.command : elements.saved).focus();
    this.find(".save-body").scrollTop = 0;
  }

  // --- Drawing ---

  /** Warns if a saved command with this name already exists, or if nothing can be saved now. */
  drawNote() {
    if (!this.dialog.open) {
      return;
    }
    const name = this.form.elements.saved.value.trim();
    const isKnown = this.edited === "" && Boolean(saved.find(name));
    const note = this.find("#save-name-note");
    note.textContent = isKnown ? `Replaces the saved command ${name}.` : NAMES;
    note.classList.toggle("replaces", isKnown);
    saved.drawCutOff(this.form, [this.find(".save-now")]);
  }

  drawReveal() {
    const hides = this.form.elements.env.value.includes(`=${HIDDEN}`);
    this.find(".save-reveal").hidden = !hides;
  }

  showWrong(wrong) {
    showWrong(this.form, wrong);
    const first = this.form.querySelector('[aria-invalid="true"]');
    if (first?.closest(".save-more")) {
      this.find(".save-more").open = true;
    }
    first?.focus();
  }

  /** An error disappears once the visitor corrects its field. */
  onInput(field) {
    this.isDirty = true;
    if (field.name && field.getAttribute("aria-invalid") === "true") {
      showWrong(this.form, {}, [field.name]);
    }
  }

  // --- Input ---

  /** The variable at the caret, which is perhaps not typed to its end. */
  get unfinished() {
    const { command } = this.form.elements;
    return unfinishedName(command.value.slice(0, command.selectionEnd));
  }

  suggest(except = "", ticks = true) {
    const { command, env } = this.form.elements;
    this.params.suggest(command.value, readEnvironment(env.value), { ticks, except });
  }

  async reveal() {
    const { opening } = this;
    const { env } = await ask("environment", this.origin);
    if (env && opening === this.opening) {
      const field = this.form.elements.env;
      field.value = revealEnvironment(field.value, env);
      this.drawReveal();
    }
  }

  // --- Saving ---

  submit(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    const { elements } = this.form;
    const name = this.edited || elements.saved.value.trim();
    const wrong = this.schedule.cron ? unscheduledParams(this.params.rows) : {};
    if (saved.isCutOff) {
      wrong[""] = NOT_SENT;
    }
    this.showWrong(wrong);
    if (Object.keys(wrong).length > 0) {
      return;
    }
    const replaces = this.edited === "" && saved.find(name);
    saved.act("save", {
      saved: name,
      origin: this.origin,
      seen: replaces ? null : this.seen,
      values: Object.fromEntries(OPTIONS.map((option) => [option, elements[option].value])),
      params: this.params.asked,
      ...this.schedule.values,
    });
  }

  takeAnswer({ to, wrong, conflict }) {
    if (!this.dialog.open || to !== "save") {
      return;
    }
    if (conflict) {
      this.seen = null; // the visitor was told: the next Save replaces the other version
    }
    this.showWrong(wrong ?? {});
    if (!wrong) {
      this.dialog.close();
    }
  }
}
