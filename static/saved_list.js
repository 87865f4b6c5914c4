/* The list of saved commands beside the run form. */

import { listStep, setHtml, stepFrom } from "./dom.js";
import { page } from "./page_state.js";
import { saved } from "./saved_state.js";
import { matchCommands, savedRowHtml } from "./saved_text.js";

const LEAST_FILTERED = 8; // number of commands from which the list has a filter

export class SavedList {
  /** `choose(name)` shows a saved command. */
  constructor(dialog, choose) {
    this.dialog = dialog;
    this.choose = choose;
    this.chosen = ""; // name of the saved command that is shown
    this.list = this.find("saved-list");
    this.filter = this.find("saved-filter");
    this.list.addEventListener("click", (event) => this.onRow(event));
    this.list.addEventListener("keydown", (event) => this.onListKey(event));
    this.filter.addEventListener("input", () => this.draw(this.chosen));
    this.filter.addEventListener("keydown", (event) => this.onFilterKey(event));
  }

  find(name) {
    return this.dialog.querySelector(`.${name}`);
  }

  draw(chosen) {
    this.chosen = chosen;
    const { filter } = this;
    const commands = saved.commands ?? [];
    filter.hidden = commands.length < LEAST_FILTERED && !filter.value;
    const matching = matchCommands(commands, filter.value);
    const context = { statuses: page.statuses, now: page.now };
    const items = matching.map((command) => {
      const name = command.saved; // contains no characters that need escaping
      const current = `aria-current="${name === chosen}"`;
      const row = savedRowHtml(command, context);
      return `<li><button type="button" data-name="${name}" ${current}>${row}</button></li>`;
    });
    const focused = this.focusedName();
    setHtml(this.list, items.join(""));
    this.setTabStop(focused);
    this.find("new-command").ariaCurrent = String(chosen === "");
    const isLost = commands.length > 0 && matching.length === 0;
    this.find("saved-unmatched").textContent = isLost ? "No matches." : "";
  }

  // --- Keys of the list: one Tab stop, arrow keys move ---

  get rows() {
    return [...this.list.querySelectorAll("button")];
  }

  focusedName() {
    return this.dialog.getRootNode().activeElement?.dataset?.name;
  }

  /** Focuses the one row that Tab reaches. */
  focus() {
    const stop = this.rows.find((row) => row.tabIndex === 0) ?? this.find("new-command");
    stop.focus();
  }

  /** Restores the focus of a row that was drawn again. */
  setTabStop(focused) {
    const { rows } = this;
    const stop =
      rows.find((row) => row.dataset.name === focused) ??
      rows.find((row) => row.ariaCurrent === "true") ??
      rows[0];
    for (const row of rows) {
      row.tabIndex = row === stop ? 0 : -1;
    }
    if (focused && stop?.dataset.name === focused && !this.focusedName()) {
      stop.focus();
    }
  }

  onRow(event) {
    const row = event.target.closest("[data-name]");
    if (row) {
      this.choose(row.dataset.name);
    }
  }

  onListKey(event) {
    const step = listStep(event);
    if (step === undefined) {
      return;
    }
    event.preventDefault();
    const { rows } = this;
    const from = rows.findIndex((row) => row.dataset.name === this.focusedName());
    const row = stepFrom(rows, from, step);
    this.setTabStop(row.dataset.name);
    row.focus();
  }

  onFilterKey(event) {
    const [first] = this.rows;
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      this.focus();
    } else if (event.key === "Enter" && first) {
      event.preventDefault();
      this.choose(first.dataset.name);
    }
  }
}
