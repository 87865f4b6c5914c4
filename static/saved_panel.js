/* Saved commands in the dialog that runs a job. The one that is chosen from their list replaces the
   run form, with a field for each of its params. */

import { can } from "./access.js";
import { copyByButton, opensElsewhere, setHtml, showWrong, submitByKey } from "./dom.js";
import { HiddenValues } from "./hidden_values.js";
import { commandOrderHtml } from "./job_order.js";
import { rulesSummary } from "./notice_words.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { NOT_SENT } from "./run_form.js";
import { SavedList } from "./saved_list.js";
import { onSavedLink, saved } from "./saved_state.js";
import {
  clearSecrets,
  fieldsHtml,
  givenValues,
  linkProblem,
  publicValues,
  readSavedLink,
  runsHtml,
  savedLink,
  timesHtml,
} from "./saved_text.js";

const SENDING = ["saved-run", "saved-pause", "saved-delete", "saved-delete-now"];
const NONE =
  "Save a command to run it again with different values or on a schedule: choose Save… here, " +
  "or open a job, then ⋯ › Save command.";

export class SavedPanel {
  /** `dialog` is the dialog of the run form. */
  constructor(dialog, runForm) {
    this.dialog = dialog;
    this.runForm = runForm;
    this.form = dialog.querySelector(".saved-chosen"); // shows the chosen saved command
    this.list = new SavedList(dialog, (name) => this.choose(name));
    this.name = ""; // of the chosen saved command; "" while the run form is shown
    this.linked = {}; // the values in the link that opened the command
    this.drawnParams = ""; // the params whose fields are drawn, as JSON
    const { env } = runForm.form.elements;
    const origin = () => ({ job: runForm.source });
    this.environment = new HiddenValues(env, this.find("reveal-env"), origin);
    runForm.onOpen = () => this.showForm();
    saved.openRun = (name, values) => this.open(name, values);
    this.draw = this.draw.bind(this);
    this.onAnswer = (event) => this.takeAnswer(event.detail);
    this.openLink = this.openLink.bind(this);
    saved.addEventListener("commands", this.draw);
    saved.addEventListener("answer", this.onAnswer);
    page.on("status", this.draw);
    addEventListener("popstate", this.openLink);
    this.listen();
    this.openLink();
  }

  close() {
    saved.removeEventListener("commands", this.draw);
    saved.removeEventListener("answer", this.onAnswer);
    page.removeEventListener("status", this.draw);
    removeEventListener("popstate", this.openLink);
    saved.setDialogOpen(this.dialog, false);
  }

  find(name) {
    return this.dialog.querySelector(`.${name}`);
  }

  listen() {
    const clicks = {
      "new-command": () => this.runForm.open(),
      "save-form": () => this.saveForm(),
      "saved-pause": () => this.togglePaused(),
      "saved-edit": () => saved.openEdit(this.command),
      "saved-copy": () => this.copyLink(),
      "saved-delete": () => this.askToDelete(),
      "saved-keep": () => this.hideConfirm(),
      "saved-delete-now": () => this.send("delete", this.name),
    };
    for (const [name, act] of Object.entries(clicks)) {
      this.find(name).addEventListener("click", act);
    }
    this.listenAll("to-saved", () => this.showList());
    this.listenAll("saved-close", () => this.dialog.close());
    this.find("saved-runs").addEventListener("click", (event) => this.onRunLink(event));
    this.find("saved-order").addEventListener("click", onSavedLink);
    this.form.addEventListener("submit", (event) => this.run(event));
    this.form.addEventListener("keydown", (event) => submitByKey(event, this.form));
    this.dialog.addEventListener("close", () => this.onClose());
  }

  listenAll(name, act) {
    for (const button of this.dialog.querySelectorAll(`.${name}`)) {
      button.addEventListener("click", act);
    }
  }

  // --- Opening ---

  /** Opens the saved command that the address names. A link never runs it. */
  openLink() {
    const link = readSavedLink(location.search);
    if (link) {
      this.open(link.name, link.values);
    }
  }

  /** Shows the saved commands to a visitor who may run nothing else. */
  openList() {
    this.open("");
    this.showList();
  }

  open(name, values = {}) {
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    saved.setDialogOpen(this.dialog, true);
    this.choose(name, values);
  }

  /** Shows the run form, which a key or an error has opened. */
  showForm() {
    saved.setDialogOpen(this.dialog, true);
    this.name = "";
    this.dialog.classList.remove("listing");
    this.environment.draw();
    this.draw();
  }

  choose(name, values = {}) {
    this.name = name;
    this.linked = values;
    this.drawnParams = "";
    showWrong(this.form, {});
    this.hideConfirm();
    this.dialog.classList.remove("listing");
    this.draw();
    this.focusField();
  }

  /** Shows the list; on a narrow screen, it replaces the form or the chosen command. */
  showList() {
    this.dialog.classList.add("listing");
    this.list.focus();
  }

  onClose() {
    clearSecrets(this.form);
    saved.setDialogOpen(this.dialog, false);
    if (readSavedLink(location.search)) {
      page.go({}, { replace: true }); // otherwise a reload would open it again
    }
  }

  get command() {
    return saved.find(this.name);
  }

  focusField() {
    const wrong = this.form.querySelector('[aria-invalid="true"]');
    const field = wrong ?? this.form.querySelector(".saved-fields input, .saved-fields select");
    (field ?? this.find("saved-run")).focus();
  }

  // --- Drawing ---

  draw() {
    if (!this.dialog.open || !page.hasStatuses) {
      return; // the statuses may arrive later
    }
    const { commands } = saved;
    if (commands) {
      writeSetting("has-saved", commands.length > 0);
    }
    const some = commands ? commands.length > 0 : readSetting("has-saved", false);
    if (!can("submit")) {
      this.name ||= commands?.[0]?.saved ?? ""; // there is no run form to show instead
    }
    const isChosen = this.name !== "" || !can("submit");
    this.dialog.classList.toggle("with-saved", some || isChosen);
    this.dialog.classList.toggle("without-form", !can("submit"));
    this.find("saved-side").hidden = !some && !isChosen;
    this.find("saved-none").hidden = some || !commands;
    this.find("saved-none").textContent = NONE;
    this.runForm.form.hidden = isChosen;
    this.form.hidden = !isChosen;
    this.list.draw(this.name);
    if (isChosen) {
      this.drawChosen();
    }
  }

  drawChosen() {
    const { command } = this;
    this.find("saved-title").textContent = this.name || "Saved commands";
    this.find("saved-body").hidden = !command;
    this.find("saved-no-body").hidden = Boolean(command) && can("run-saved");
    this.find("saved-say").textContent = this.sentence(command);
    this.find("saved-say").classList.toggle("waits", !saved.commands && !saved.error);
    if (!command) {
      return;
    }
    const code = this.find("saved-command");
    if (code.textContent !== command.command_text) {
      code.textContent = command.command_text;
    }
    setHtml(this.find("saved-times"), timesHtml(command, page.now));
    setHtml(this.find("saved-order"), commandOrderHtml(command, saved.commands));
    const { notify: rules } = command;
    this.find("saved-notify").textContent = rules ? `Notifications: ${rulesSummary(rules)}` : "";
    setHtml(this.find("saved-runs"), runsHtml(command.runs, page.statuses, page.now));
    this.find("saved-pause").hidden = !command.cron;
    this.find("saved-pause").textContent = command.paused ? "Resume schedule" : "Pause schedule";
    saved.drawCutOff(
      this.form,
      SENDING.map((name) => this.find(name)),
    );
    this.drawFields(command);
  }

  sentence(command) {
    if (command) {
      return linkProblem(command, this.linked);
    }
    if (saved.commands) {
      return this.name ? `There is no saved command “${this.name}”.` : "There are none yet.";
    }
    return saved.error || "Loading…";
  }

  /** Draws the fields again only if the params have changed, and keeps the typed values. */
  drawFields(command) {
    const drawn = JSON.stringify(command.params);
    if (drawn === this.drawnParams) {
      return;
    }
    const isFirst = this.drawnParams === "";
    const values = isFirst ? this.linked : { ...this.linked, ...this.typedValues() };
    this.drawnParams = drawn;
    this.find("saved-fields").innerHTML = fieldsHtml(command.params, values);
    if (isFirst) {
      this.focusField();
    }
  }

  /** The values that the visitor has typed over the initial ones, without secret ones. */
  typedValues() {
    const fields = [...this.dialog.querySelectorAll('.saved-fields input:not([type="password"])')];
    const typed = fields.filter((field) => field.value !== field.defaultValue);
    return Object.fromEntries(typed.map((field) => [field.name, field.value]));
  }

  // --- Actions ---

  values() {
    const form = new FormData(this.form);
    return givenValues(this.command.params, Object.fromEntries(form));
  }

  run(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    if (this.command && can("run-saved")) {
      this.send("run", { name: this.name, values: this.values() });
    }
  }

  /** Sends an action, or says that it cannot be sent. */
  send(action, value) {
    showWrong(this.form, saved.isCutOff ? { "": NOT_SENT } : {});
    if (!saved.isCutOff) {
      saved.act(action, value);
    }
  }

  saveForm() {
    saved.openForm(this.runForm.values(), this.runForm.source);
  }

  togglePaused() {
    this.send("pause", { name: this.name, paused: !this.command.paused });
  }

  copyLink() {
    const values = publicValues(this.command.params, this.values());
    const link = location.origin + location.pathname + savedLink(this.name, values);
    copyByButton(this.find("saved-copy"), link);
  }

  askToDelete() {
    this.find("saved-confirm").hidden = false;
    this.find("saved-delete-now").focus();
  }

  hideConfirm() {
    this.find("saved-confirm").hidden = true;
  }

  onRunLink(event) {
    const link = event.target.closest("[data-job]");
    if (link && !opensElsewhere(event)) {
      event.preventDefault();
      this.dialog.close();
      page.show(link.dataset.job);
    }
  }

  takeAnswer(answer) {
    const act = {
      run: () => this.takeRun(answer),
      pause: () => showWrong(this.form, answer.wrong ?? {}),
      delete: () => this.takeDelete(answer),
      save: () => this.takeSave(answer),
    };
    act[answer.to]();
  }

  takeRun({ job, notice, wrong = {} }) {
    clearSecrets(this.form);
    showWrong(this.form, wrong);
    if (notice) {
      page.toast(notice);
    }
    if (job) {
      this.dialog.close();
      page.show(job);
    } else {
      this.focusField();
    }
  }

  /** Shows what was saved. Text of the run form that was saved is no longer needed there. */
  takeSave({ name, wrong }) {
    if (wrong || (this.dialog.open && this.name === name)) {
      return; // after an edit, the values that were typed here stay
    }
    if (this.dialog.open && this.name === "") {
      this.runForm.clear();
    }
    this.open(name);
  }

  takeDelete({ wrong }) {
    this.hideConfirm();
    if (wrong) {
      showWrong(this.form, wrong);
    } else {
      this.runForm.open();
    }
  }
}
