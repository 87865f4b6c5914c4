/* The form of a saved command. It saves what the run form describes or what a job ran, and edits
   saved commands. */

import { fieldText, setFieldText, setHtml, showWrong, submitByKey } from "./dom.js";
import { ask } from "./errands.js";
import { HiddenValues } from "./hidden_values.js";
import { NOT_SENT } from "./run_form.js";
import {
  commandNamesHtml,
  givenParams,
  readEnvironment,
  unscheduledParams,
} from "./saved_form_text.js";
import { ParamFields } from "./saved_params.js";
import { RuleFields } from "./saved_rules.js";
import { ScheduleFields } from "./saved_schedule.js";
import { saved } from "./saved_state.js";
import { unfinishedName } from "./shell_variables.js";

const NAMES = "Lowercase letters, digits, - _ and .";
const OPTIONS = [
  ...["command", "name", "queue", "cwd", "timeout", "retries", "retry_delay", "env"],
  ...["secrets", "key", "if_busy", "urgent"],
];
const DEFAULTS = {
  name: "",
  queue: "default",
  cwd: "",
  timeout: "",
  retries: "0",
  env: "",
  secrets: "",
  key: "",
  if_busy: "",
  urgent: "",
};
const NOTHING = { params: [], cron: "", zone: "", paused: false, follower: "", notify: null };

export class SaveForm {
  /** `about`: what to save. Its `origin` is { job: ID }, { saved: name } of a command that is
      edited, or empty. It also has the `name` to suggest, the `values` of the run form if that is
      saved, and `hiddenHint`, see paramRowsHtml. `key` distinguishes it from other forms. */
  constructor(template, about, key) {
    this.node = template.content.cloneNode(true).firstElementChild;
    this.key = key;
    this.about = about;
    this.isEdit = Boolean(about.origin.saved);
    this.isDirty = false; // has the visitor changed anything?
    this.seen = ""; // the ETag of the command that is edited; "" for a new one; null: replace any
    this.params = new ParamFields(this.find(".save-params"), about.hiddenHint);
    this.schedule = new ScheduleFields(this.node);
    this.rules = new RuleFields(this.node, about.origin.saved ?? "");
    const reveal = this.find(".reveal-env");
    this.environment = new HiddenValues(this.fields.env, reveal, () => about.origin);
    this.find("#save-title").textContent = this.isEdit ? `Edit ${about.name}` : "Save command";
    this.find(".save-naming").hidden = this.isEdit;
    this.listen();
  }

  find(selector) {
    return this.node.querySelector(selector);
  }

  get fields() {
    return this.node.elements;
  }

  listen() {
    const { saved: name, command, env } = this.fields;
    this.node.addEventListener("submit", (event) => this.submit(event));
    this.node.addEventListener("keydown", (event) => submitByKey(event, this.node));
    this.node.addEventListener("input", (event) => this.onInput(event.target));
    name.addEventListener("input", () => this.drawNote());
    command.addEventListener("input", () => this.suggest({ except: this.unfinished }));
    command.addEventListener("change", () => this.suggest());
    env.addEventListener("change", () => this.suggest());
    this.find(".save-close").addEventListener("click", () => this.node.closest("dialog").close());
  }

  // --- Filling ---

  /** Fills the form, which the dialog now shows. */
  begin() {
    if (this.about.values) {
      this.fill({ ...NOTHING, values: this.about.values });
      this.loadRules();
    } else {
      this.load();
    }
  }

  async load() {
    this.setLoading("Loading…");
    const form = await ask("saved_form", this.about.origin);
    if (!this.node.isConnected) {
      return; // the dialog was closed
    }
    this.setLoading(form.error ?? "");
    if (!form.error) {
      this.seen = this.isEdit ? form.seen : "";
      this.fill(form);
    }
  }

  /** The run form, which was filled from a job, has no fields for whom that job notifies. */
  async loadRules() {
    const form = this.about.origin.job ? await ask("saved_form", this.about.origin) : {};
    if (form.notify) {
      this.rules.fill(form.notify);
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

  fill(form) {
    const { fields } = this;
    fields.saved.value = this.about.name;
    for (const option of OPTIONS) {
      setFieldText(fields[option], form.values[option] ?? "");
    }
    fields.then.value = form.follower;
    this.params.fill(givenParams(form.params));
    this.suggest({ ticks: !this.isEdit });
    this.schedule.fill(form);
    this.rules.fill(form.notify);
    this.find(".save-more").open = this.usesMore;
    this.environment.draw();
    this.drawNote();
    (this.isEdit ? fields.command : fields.saved).focus();
    this.find(".save-body").scrollTop = 0;
  }

  /** Does a field under "More options" have a value of its own? */
  get usesMore() {
    const { fields } = this;
    const isSet = ([option, value]) => fieldText(fields[option]) !== value;
    return fields.then.value !== "" || Object.entries(DEFAULTS).some(isSet);
  }

  // --- Drawing ---

  /** Warns if a saved command with this name already exists, or if nothing can be saved now. */
  drawNote() {
    const name = this.fields.saved.value.trim();
    const note = this.find("#save-name-note");
    note.textContent = this.replaced ? `Replaces the saved command ${name}.` : NAMES;
    note.classList.toggle("replaces", this.replaced);
    setHtml(this.find("#save-others"), commandNamesHtml(saved.commands ?? [], this.about.name));
    saved.drawCutOff(this.node, [this.find(".save-now")]);
  }

  /** Does the name of a new command belong to another? */
  get replaced() {
    return !this.isEdit && Boolean(saved.find(this.fields.saved.value.trim()));
  }

  showWrong(wrong) {
    showWrong(this.node, wrong);
    for (const details of this.node.querySelectorAll("details")) {
      details.open ||= details.querySelector(".wrong:not(:empty)") !== null;
    }
    const first = this.find('[aria-invalid="true"]');
    if (first) {
      first.focus();
    } else if (wrong.notify) {
      this.rules.focus();
    }
  }

  // --- Input ---

  /** An error disappears once the visitor corrects its field. */
  onInput(field) {
    this.isDirty = true;
    if (field.name && field.getAttribute("aria-invalid") === "true") {
      showWrong(this.node, {}, [field.name]);
    }
  }

  /** The variable at the caret, which is perhaps not typed to its end. */
  get unfinished() {
    const { command } = this.fields;
    return unfinishedName(command.value.slice(0, command.selectionEnd));
  }

  /** `options`: see suggestParams. */
  suggest(options = {}) {
    const { command, env } = this.fields;
    this.params.suggest(command.value, readEnvironment(env.value), options);
  }

  // --- Saving ---

  submit(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    this.suggest(); // also the variable at the caret: it is typed to its end now
    const unscheduled = this.schedule.cron ? unscheduledParams(this.params.rows) : {};
    const wrong = { ...unscheduled, ...this.rules.wrong };
    if (saved.isCutOff) {
      wrong[""] = NOT_SENT;
    }
    this.showWrong(wrong);
    if (Object.keys(wrong).length === 0) {
      this.send();
    }
  }

  send() {
    const { fields } = this;
    saved.act("save", {
      saved: fields.saved.value.trim(),
      origin: this.about.origin,
      seen: this.replaced ? null : this.seen,
      values: Object.fromEntries(OPTIONS.map((option) => [option, fieldText(fields[option])])),
      params: this.params.asked,
      follower: fields.then.value.trim(),
      notify: this.rules.values,
      ...this.schedule.values,
    });
  }

  takeAnswer({ wrong = {}, conflict }) {
    if (conflict) {
      this.seen = null; // the form has shown the conflict: the next Save replaces the other version
    }
    this.showWrong(wrong);
  }
}
