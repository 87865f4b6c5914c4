/* The component that receives the saved commands and sends the visitor's actions on them. Its
   dialog saves a job's command, and edits a saved command. */

import { closeWhenRemoved, setHtml, showWrong, submitByKey } from "./dom.js";
import { saved } from "./saved_state.js";
import { paramCandidates, paramRowsHtml, suggestName } from "./saved_text.js";

const NAMES = "Used in links and on the command line: a-z, 0-9, - _ and dots.";

class SaveDialog {
  constructor(root) {
    this.dialog = root.querySelector(".save-dialog");
    this.form = root.querySelector("form");
    this.job = null; // the job whose command is to be saved
    this.command = null; // the saved command to be edited
    this.onAnswer = (event) => this.takeAnswer(event.detail);
    this.onCommands = () => this.drawNote();
    saved.openSave = (job) => this.openSave(job);
    saved.openEdit = (command) => this.openEdit(command);
    saved.addEventListener("answer", this.onAnswer);
    saved.addEventListener("commands", this.onCommands);
    this.listen();
    const zones = Intl.supportedValuesOf("timeZone").map((zone) => `<option value="${zone}">`);
    setHtml(this.find("#save-zones"), zones.join(""));
  }

  find(selector) {
    return this.dialog.querySelector(selector);
  }

  listen() {
    const { elements } = this.form;
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("keydown", (event) => submitByKey(event, this.form));
    elements.name.addEventListener("input", () => this.drawNote());
    elements.cron.addEventListener("input", () => this.drawZone());
    this.find(".save-examples").addEventListener("click", (event) => this.onExample(event));
    this.find(".save-params").addEventListener("input", (event) => this.onParam(event));
    this.find(".save-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => saved.setDialogOpen(this.dialog, false));
  }

  close() {
    saved.removeEventListener("answer", this.onAnswer);
    saved.removeEventListener("commands", this.onCommands);
  }

  // --- Opening ---

  openSave(job) {
    this.job = job;
    this.command = null;
    const names = paramCandidates(job.env_names ?? [], job.command_text);
    const params = names.map((name) => {
      const hint = job.env_names.includes(name) ? "same as in this job" : "required";
      return { name, chosen: false, value: "", hint };
    });
    this.fill({
      title: "Save this command",
      text: job.command_text,
      name: job.saved ?? suggestName(job.title),
      params,
      legend: "Ask for these at each run (with a default)",
    });
    this.form.elements.name.select();
  }

  openEdit(command) {
    this.job = null;
    this.command = command;
    const params = command.params.map(({ name, default: value, choices }) => {
      return { name, chosen: null, value: value ?? "", hint: "required", choices };
    });
    const { cron, zone } = command;
    const legend = "Defaults";
    this.fill({
      title: `Edit ${command.saved}`,
      text: command.command_text,
      name: command.saved,
      params,
      legend,
      cron,
      zone,
    });
    this.form.elements.cron.focus();
  }

  fill({ title, text, name, params, legend, cron, zone }) {
    const { elements } = this.form;
    this.find("#save-title").textContent = title;
    this.find(".save-line code").textContent = text;
    this.find(".save-naming").hidden = this.command !== null;
    elements.name.value = name;
    elements.cron.value = cron ?? "";
    elements.zone.value = cron ? zone : Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.find(".save-params").hidden = params.length === 0;
    this.find(".save-params legend").textContent = legend;
    this.find(".save-params ul").innerHTML = paramRowsHtml(params);
    this.showWrong({});
    this.drawNote();
    this.drawZone();
    saved.setDialogOpen(this.dialog, true);
    this.dialog.showModal();
  }

  // --- Drawing ---

  /** Warns if a saved command with this name already exists. */
  drawNote() {
    const name = this.form.elements.name.value;
    const note = this.find("#save-name-note");
    const old = saved.find(name);
    note.textContent = old ? `Replaces the saved command ${name}.` : NAMES;
    note.classList.toggle("replaces", Boolean(old));
  }

  drawZone() {
    this.find(".save-zone").hidden = this.form.elements.cron.value.trim() === "";
  }

  showWrong(wrong) {
    showWrong(this.form, wrong);
    this.form.querySelector('[aria-invalid="true"]')?.focus();
  }

  // --- Input ---

  onExample(event) {
    const { cron } = event.target.dataset;
    if (cron) {
      this.form.elements.cron.value = cron;
      this.drawZone();
    }
  }

  /** Ticks the box of a param when its default is typed. */
  onParam({ target }) {
    const box = target.closest("li").querySelector("[name=ask]");
    if (box && target.name === "default" && target.value) {
      box.checked = true;
    }
  }

  get defaults() {
    return [...this.form.querySelectorAll("[name=default]")];
  }

  submit(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    const { elements } = this.form;
    const cron = elements.cron.value.trim();
    const times = cron ? { cron, zone: elements.zone.value.trim() } : { cron: null };
    if (this.command) {
      saved.act("change", { name: this.command.saved, ...times, defaults: this.newDefaults() });
    } else {
      const name = elements.name.value.trim();
      saved.act("save", { name, job: this.job.id, ...times, params: this.askedParams() });
    }
  }

  askedParams() {
    const asked = new Set(new FormData(this.form).getAll("ask"));
    const fields = this.defaults.filter((field) => asked.has(field.dataset.param));
    return fields.map((field) => ({ name: field.dataset.param, default: field.value }));
  }

  /** Only the defaults that were changed, so that an empty one stays an empty text. */
  newDefaults() {
    const fields = this.defaults.filter((field) => field.value !== field.defaultValue);
    return Object.fromEntries(fields.map((field) => [field.dataset.param, field.value || null]));
  }

  takeAnswer({ to, wrong }) {
    if (!this.dialog.open || (to !== "save" && to !== "change")) {
      return;
    }
    this.showWrong(wrong ?? {});
    if (!wrong) {
      this.dialog.close();
    }
  }
}

export default function mountSavedCommands(component) {
  const root = component.parentElement;
  root.saveDialog ??= new SaveDialog(root);
  saved.receive(component);
  return closeWhenRemoved(root, root.saveDialog);
}
