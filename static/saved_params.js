/* The params in the form of a saved command: those that it has, and those that its command and its
   environment suggest. */

import { isParamName, newParam, paramRowsHtml, suggestParams } from "./saved_form_text.js";

export class ParamFields {
  /** `root` is the fieldset; `hiddenHint`: what is said about a default that the form hides. */
  constructor(root, hiddenHint = "same as now") {
    this.root = root;
    this.list = root.querySelector("ul");
    this.name = root.querySelector(".save-new-param");
    this.rows = []; // as newParam makes them
    this.opened = new Set(); // names of the rows whose label and choices are shown
    this.hiddenHint = hiddenHint;
    this.list.addEventListener("input", (event) => this.onInput(event));
    this.list.addEventListener("change", (event) => this.onTick(event));
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.name.addEventListener("keydown", (event) => this.onNameKey(event));
    this.name.addEventListener("input", () => this.showNameWrong(""));
    root.querySelector(".save-add-param").addEventListener("click", () => this.add());
  }

  fill(rows) {
    this.rows = rows;
    this.opened = new Set();
    this.name.value = "";
    this.showNameWrong("");
    this.draw();
  }

  /** Adds what the command and the environment suggest, see suggestParams. */
  suggest(command, environment, options) {
    const rows = suggestParams(this.rows, command, environment, options);
    const names = (all) => all.map((row) => row.name).join();
    if (names(rows) !== names(this.rows)) {
      this.rows = rows;
      this.draw();
    }
  }

  /** The params as the server takes them. */
  get asked() {
    const asked = this.rows.filter((row) => row.ticked);
    return asked.map(({ name, label, default: value, required, choices, secret }) => ({
      name,
      label,
      default: value,
      required,
      choices,
      secret,
    }));
  }

  draw() {
    const { activeElement } = this.root.getRootNode();
    const focused = this.list.contains(activeElement) ? describe(activeElement) : null;
    this.list.innerHTML = paramRowsHtml(this.rows, this.opened, this.hiddenHint);
    this.list.hidden = this.rows.length === 0;
    focused && this.list.querySelector(focused)?.focus();
  }

  rowOf(target) {
    const name = target.closest("[data-name]")?.dataset.name;
    return this.rows.find((row) => row.name === name);
  }

  /** Keeps what is typed. A default makes the param optional. */
  onInput({ target }) {
    const row = this.rowOf(target);
    const { set } = target.dataset;
    if (target.type === "checkbox" || !set) {
      return; // onTick handles it
    }
    row[set] = target.value;
    row.kept = true;
    if (set === "default") {
      row.required = false;
      target.closest("li").querySelector("[data-set=required]").checked = false;
    }
  }

  onTick({ target }) {
    if (target.type === "checkbox") {
      const row = this.rowOf(target);
      row[target.dataset.set] = target.checked;
      row.kept = true;
      this.draw();
    }
  }

  onClick({ target }) {
    const row = this.rowOf(target);
    if (target.matches(".param-more")) {
      this.toggle(row.name);
    } else if (target.matches(".param-up")) {
      this.moveUp(row);
    }
  }

  /** Moves a param before the previous one. */
  moveUp(row) {
    const others = this.rows.filter((other) => other !== row);
    const at = others.slice(0, this.rows.indexOf(row)).findLastIndex((other) => other.ticked);
    this.rows = others.toSpliced(at, 0, row);
    this.draw();
  }

  toggle(name) {
    if (!this.opened.delete(name)) {
      this.opened.add(name);
    }
    this.draw();
  }

  // --- Another param ---

  onNameKey(event) {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault(); // which would submit the form
      this.add();
    }
  }

  add() {
    const name = this.name.value.trim().toUpperCase();
    if (!isParamName(name)) {
      this.showNameWrong(
        "Use capital letters, digits and _, with a letter first; not JOB_… or TAILBOARD_….",
      );
      this.name.focus();
      return;
    }
    const known = this.rows.find((row) => row.name === name);
    if (known) {
      known.ticked = true;
      known.kept = true;
    } else {
      this.rows = [...this.rows, newParam(name)];
    }
    this.name.value = "";
    this.draw();
    this.list.querySelector(`[data-name=${name}] [data-set=default]`).focus();
  }

  showNameWrong(sentence) {
    this.root.querySelector(".save-new-wrong").textContent = sentence;
    this.name.setAttribute("aria-invalid", String(sentence !== ""));
  }
}

/** A selector that finds the same field or button after the list was drawn again. */
function describe(element) {
  const { name } = element.closest("[data-name]").dataset;
  const part = element.dataset.set ? `[data-set=${element.dataset.set}]` : `.${element.className}`;
  return `[data-name=${name}] ${part}`;
}
