/* The palette: a dialog in which the visitor types the name of a job, a saved command or an action
   and chooses it. It is a combobox with a list, as in the ARIA Authoring Practices. It has a shadow
   root of its own, because its fields have the same IDs as those of the run form. */

import { setHtml } from "./dom.js";
import { formatKey } from "./key_names.js";
import { PaletteForm } from "./palette_form.js";
import { paletteItems } from "./palette_items.js";
import { groupsHtml, rankItems } from "./palette_rank.js";
import { PaletteSearch } from "./palette_search.js";
import { saved } from "./saved_state.js";
import { addShortcut } from "./shortcuts.js";

const KEY = "Mod+k";
const RELEASE_DELAY = 1000; // milliseconds
const PLACEHOLDER = "Jobs, saved commands, actions…";
const HTML = `<dialog class="palette" aria-label="Command palette">
  <div class="palette-find">
    <input class="palette-field" role="combobox" aria-expanded="true" aria-controls="palette-list"
      aria-autocomplete="list" aria-label="Find a job, a saved command or an action"
      placeholder="${PLACEHOLDER}" autocomplete="off" autocapitalize="off" spellcheck="false">
    <div class="palette-list" id="palette-list" role="listbox" aria-label="Results" tabindex="-1"></div>
    <p class="palette-say" role="status"></p>
  </div>
  <form class="palette-form" hidden>
    <h2 class="palette-title"></h2>
    <div class="palette-command"></div>
    <div class="palette-fields"></div>
    <p class="wrong" data-field="" role="alert"></p>
    <p class="buttons">
      <button class="primary palette-send" type="submit"></button>
      <button class="palette-back" type="button">Back</button>
    </p>
  </form>
</dialog>`;

export class Palette {
  /** `sheets` are the style sheets of the components. */
  constructor(sheets) {
    this.host = document.createElement("div");
    this.root = this.host.attachShadow({ mode: "open" });
    this.root.adoptedStyleSheets = [...sheets];
    this.root.innerHTML = HTML;
    document.body.append(this.host);
    this.dialog = this.find("palette");
    this.field = this.find("palette-field");
    this.list = this.find("palette-list");
    this.items = []; // as shown, from top to bottom
    this.activeKey = "";
    this.search = new PaletteSearch(() => this.draw());
    this.form = new PaletteForm(this.find("palette-form"), () => this.dialog.close());
    this.draw = this.draw.bind(this);
    this.listen();
    addShortcut(KEY, "command palette: jobs, saved commands, actions", () => this.open(), "Page");
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  listen() {
    this.field.addEventListener("input", () => this.onInput());
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.list.addEventListener("click", (event) => this.onClick(event));
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
    this.find("palette-back").addEventListener("click", () => this.showList());
    this.dialog.addEventListener("keydown", (event) => this.onDialogKey(event));
    this.dialog.addEventListener("cancel", (event) => this.onCancel(event));
    this.dialog.addEventListener("click", (event) => this.onBackdrop(event));
    this.dialog.addEventListener("close", () => this.onClose());
    saved.addEventListener("commands", this.draw);
  }

  close() {
    saved.removeEventListener("commands", this.draw);
    this.form.close();
    this.onClose();
    this.host.remove();
  }

  open() {
    if (!this.dialog.open) {
      saved.setDialogOpen(this.dialog, true); // loads the saved commands
      this.dialog.showModal();
      this.field.value = "";
      this.activeKey = "";
      this.search.reset();
      this.showList();
    }
  }

  /** The chosen action may set a value now, and Streamlit loses one of two values that two
      fragments set at once. The saved commands are therefore released a little later. */
  onClose() {
    this.search.reset();
    clearTimeout(this.releaseTimer);
    this.releaseTimer = setTimeout(() => {
      saved.setDialogOpen(this.dialog, this.dialog.open);
    }, RELEASE_DELAY);
  }

  showList() {
    this.find("palette-form").hidden = true;
    this.find("palette-find").hidden = false;
    this.field.focus();
    this.draw();
  }

  // --- Drawing ---

  draw() {
    if (!this.dialog.open) {
      return;
    }
    const wanted = this.field.value.trim();
    const groups = rankItems(paletteItems(wanted, this.search.jobs), wanted);
    this.items = groups.flatMap(([, items]) => items);
    this.active = this.items.find((item) => item.key === this.activeKey) ?? this.items[0];
    setHtml(this.list, groupsHtml(groups, this.active?.key));
    this.field.setAttribute("aria-activedescendant", this.active ? this.activeNode.id : "");
    const { say } = this.search;
    this.find("palette-say").textContent = say || (this.active ? "" : "No matches.");
  }

  get activeNode() {
    return this.root.getElementById(`palette-item-${this.items.indexOf(this.active)}`);
  }

  // --- Keys and clicks ---

  onInput() {
    this.activeKey = ""; // the best match becomes active
    this.search.start(this.field.value.trim());
    this.list.scrollTop = 0;
    this.draw();
  }

  onKey(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && this.items.length > 0) {
      event.preventDefault();
      this.step(steps[event.key]);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.choose(this.active);
    }
  }

  /** Moves to the next item, and from the last to the first. */
  step(by) {
    const { length } = this.items;
    const next = (this.items.indexOf(this.active) + by + length) % length;
    this.activeKey = this.items[next].key;
    this.draw();
    this.activeNode.scrollIntoView({ block: "nearest" });
  }

  onClick(event) {
    const row = event.target.closest("[data-index]");
    if (row) {
      this.choose(this.items[row.dataset.index]);
    }
  }

  choose(item) {
    if (item?.form) {
      this.activeKey = item.key;
      this.find("palette-find").hidden = true;
      this.find("palette-form").hidden = false;
      this.form.open(item.form);
    } else if (item) {
      this.dialog.close(); // first, because the action may move the focus
      item.act();
    }
  }

  /** The key that opens the palette also closes it. */
  onDialogKey(event) {
    if (formatKey(`Mod+${event.key}`) === formatKey(KEY) && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.dialog.close();
    }
  }

  /** Escape leads from the form back to the list. */
  onCancel(event) {
    if (!this.find("palette-form").hidden) {
      event.preventDefault();
      this.showList();
    }
  }

  onBackdrop(event) {
    if (event.target === this.dialog) {
      this.dialog.close();
    }
  }
}
