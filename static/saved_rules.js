/* Who is notified of the runs of a saved command, in its form: rules as rows, the limits of the
   warnings, and the ping URL. */

import { clearWrong, setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { rulesSummary } from "./notice_words.js";
import { namesNoteHtml, newRule, ruleRowsHtml, wrongRules } from "./rule_rows.js";

const NOTHING = { rules: null, warn_after: "", warn_waiting: "", ping: "" };
const TEXTS = ["warn_after", "warn_waiting", "ping"];
const CANNOT_LOAD = "Can't load the names of URLs.";
const MOST_RULES = 20; // as in tailboard/notify_rules.py
const DELIVERED = "Sent";
const REFUSED = "Not sent";

export class RuleFields {
  /** `saved` is the name of the saved command that is edited, or empty: the API knows its URLs. */
  constructor(form, saved) {
    this.form = form;
    this.saved = saved;
    this.root = form.querySelector(".save-notify");
    this.list = this.root.querySelector(".notify-rules ul");
    this.rows = []; // as newRule makes them
    this.names = null; // of URLs; null until they have been loaded
    this.problem = ""; // why they could not be loaded
    this.root.addEventListener("toggle", () => this.onToggle());
    this.root.addEventListener("input", (event) => this.onInput(event));
    this.root.addEventListener("change", (event) => this.onChange(event));
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.root.querySelector(".notify-add").addEventListener("click", () => this.add());
  }

  /** `values` as the server sends them; null: nothing is set. */
  fill(values) {
    const { rules, ...texts } = values ?? NOTHING;
    this.rows = (rules ?? []).map(newRule);
    this.use = useOf(rules);
    for (const name of TEXTS) {
      this.form.elements[name].value = texts[name];
    }
    this.draw();
  }

  /** What the visitor has chosen: default, nobody or rules. */
  get use() {
    return this.form.elements.notify_use.value;
  }

  set use(value) {
    this.form.elements.notify_use.value = value;
  }

  get rules() {
    if (this.use === "default") {
      return null;
    }
    return this.use === "nobody" ? [] : this.rows.map(({ on, to }) => ({ on, to: to.trim() }));
  }

  /** The values as the server takes them. */
  get values() {
    const texts = TEXTS.map((name) => [name, this.form.elements[name].value.trim()]);
    return { rules: this.rules, ...Object.fromEntries(texts) };
  }

  /** The errors that need no server, by field. */
  get wrong() {
    return this.use === "rules" ? wrongRules(this.rows) : {};
  }

  // --- Drawing ---

  draw() {
    const { activeElement } = this.root.getRootNode();
    const focused = this.list.contains(activeElement) ? describe(activeElement) : null;
    this.root.querySelector(".notify-rules").hidden = this.use !== "rules";
    this.root.querySelector(".notify-add").hidden = this.rows.length >= MOST_RULES;
    this.list.innerHTML = ruleRowsHtml(this.rows, this.names ?? []);
    setHtml(this.root.querySelector(".notify-names"), this.problem || namesNoteHtml(this.names));
    focused && this.list.querySelector(focused)?.focus();
    this.drawSummary();
  }

  drawSummary() {
    const { rules, ping } = this.values;
    const isWaitingUseless =
      rules?.some(({ on }) => on.includes("waiting")) && !this.form.elements.warn_waiting.value;
    this.root.querySelector(".notify-waiting").hidden = !isWaitingUseless;
    const summary = [rulesSummary(rules), ping ? "ping" : ""].filter(Boolean).join("; ");
    this.root.querySelector(".notify-summary").textContent = summary;
  }

  focus() {
    this.root.open = true;
    this.root.querySelector("[name=notify_use]:checked").focus();
  }

  // --- Events ---

  onToggle() {
    if (this.root.open && !this.names) {
      this.loadNames();
    }
  }

  async loadNames() {
    const answer = await ask("targets");
    if (answer.targets) {
      this.names = answer.targets.map(({ name }) => name);
    }
    this.problem = answer.error ? CANNOT_LOAD : "";
    this.draw();
  }

  rowNode(index) {
    return this.list.querySelector(`[data-rule="${index}"]`);
  }

  indexOf(target) {
    return Number(target.closest("[data-rule]")?.dataset.rule ?? -1);
  }

  /** Keeps what is typed and ticked. */
  onInput({ target }) {
    const index = this.indexOf(target);
    const row = this.rows[index];
    if (row) {
      clearWrong(this.form, `rule ${index}`);
      const { event } = target.dataset;
      if (event) {
        row.on = target.checked ? [...row.on, event] : row.on.filter((other) => other !== event);
      } else if (target.matches(".rule-url")) {
        row.to = target.value;
      }
    }
    this.drawSummary();
  }

  onChange({ target }) {
    const row = this.rows[this.indexOf(target)];
    if (target.name === "notify_use") {
      clearWrong(this.form, "notify");
      if (this.use === "rules" && this.rows.length === 0) {
        this.rows = [newRule({ on: ["failed", "timed_out", "lost"], to: this.names?.[0] ?? "" })];
      }
      this.draw();
    } else if (row && target.matches(".rule-name")) {
      row.isUrl = target.value === "";
      row.to = target.value;
      this.draw();
      this.rowNode(this.rows.indexOf(row)).querySelector(".rule-url")?.focus();
    }
  }

  onClick({ target }) {
    const index = this.indexOf(target);
    if (target.matches(".rule-remove")) {
      this.remove(index);
    } else if (target.matches(".rule-test")) {
      this.test(this.rows[index], index);
    }
  }

  add() {
    this.rows = [...this.rows, newRule({ on: [], to: this.names?.[0] ?? "" })];
    this.markChanged();
    this.list.querySelector("li:last-child input").focus();
  }

  remove(index) {
    this.rows = this.rows.toSpliced(index, 1);
    this.markChanged();
    this.root.querySelector(".notify-add").focus();
  }

  /** Draws the rows, and reports the change to the form as typing would. */
  markChanged() {
    this.draw();
    this.list.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Sends one message, and shows what the other server has answered. */
  async test(row, index) {
    const [wrong] = Object.values(wrongRules([{ ...row, on: ["failed"] }]));
    if (wrong) {
      this.say(index, wrong);
      return;
    }
    this.say(index, "Sending…");
    const { ok, answer, error } = await this.askToTry(row.to.trim());
    const place = this.rows.indexOf(row);
    if (place >= 0) {
      this.say(place, error ?? `${ok ? DELIVERED : REFUSED}: ${answer}`);
    }
  }

  /** The answer can take long: the server is asked for it again until it has it. */
  async askToTry(to) {
    const details = { to, saved: this.saved, key: `${Date.now()} ${Math.random()}` };
    let answer = { pending: true };
    while (answer.pending && this.form.isConnected) {
      answer = await ask("try_target", details);
    }
    return answer;
  }

  say(index, sentence) {
    this.rowNode(index).querySelector(".rule-answer").textContent = sentence;
  }
}

function useOf(rules) {
  if (rules === null) {
    return "default";
  }
  return rules.length > 0 ? "rules" : "nobody";
}

/** A selector that finds the same field or button after the rows were drawn again. */
function describe(element) {
  const row = `[data-rule="${element.closest("[data-rule]").dataset.rule}"]`;
  const { event } = element.dataset;
  return event ? `${row} [data-event=${event}]` : `${row} .${element.classList[0]}`;
}
