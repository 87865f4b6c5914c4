/* The top of the page: what is wrong, the search, the run form and the menu. Its component
   also sends most of the visitor's actions to the server and receives each refresh. */

import { can } from "./access.js";
import { Account } from "./account.js";
import { EMPTY_ADDRESS } from "./address.js";
import { markDrawn } from "./cold_frame.js";
import { closeWhenRemoved, opensElsewhere, setHtml } from "./dom.js";
import { escapeHtml } from "./format.js";
import { HeaderStatus } from "./header_status.js";
import { adaptKeyHints } from "./key_names.js";
import { showKeySheet, updateKeySheet } from "./key_sheet.js";
import { clearSearch, searchLogs } from "./log_search.js";
import { MenuSettings } from "./menu_settings.js";
import { Notices } from "./notices.js";
import { page } from "./page_state.js";
import "./page_title.js";
import { Palette } from "./palette.js";
import { servedText } from "./queue_words.js";
import { Queues } from "./queues.js";
import { RunForm } from "./run_form.js";
import { SavedPanel } from "./saved_panel.js";
import { saved } from "./saved_state.js";
import "./server_watch.js";
import { addKeyNote, addShortcut } from "./shortcuts.js";
import { Toasts } from "./toasts.js";

class PageHeader {
  constructor(root) {
    this.root = root;
    this.answered = null; // number of the last answer that was handled
    this.form = new RunForm(this.find("run-form"), (typed) => page.act("submit", typed));
    this.status = new HeaderStatus((name) => this.find(name));
    this.settings = new MenuSettings((name) => this.find(name));
    this.palette = new Palette(root.getRootNode().adoptedStyleSheets);
    this.account = new Account((name) => this.find(name));
    this.queues = new Queues((name) => this.find(name));
    this.saved = new SavedPanel(this.find("run-form"), this.form);
    this.notices = new Notices((name) => this.find(name));
    this.toasts = new Toasts(this.find("toasts"));
    this.listen("open-form", "click", () => this.openRun());
    this.listen("search", "input", () => this.onSearch());
    this.listen("search", "keydown", (event) => this.onSearchKey(event));
    this.listen("refresh", "click", () => page.refresh());
    this.listen("intervals", "change", (event) => this.onInterval(event));
    this.listen("open-shortcuts", "click", () => this.showShortcuts());
    this.listen("open-palette", "click", () => this.openPalette());
    this.listen("brand", "click", (event) => goHome(event));
    this.drawAddress = this.drawAddress.bind(this);
    page.on("address", this.drawAddress);
    addShortcut("/", "search jobs", () => this.find("search").focus(), "Page");
    addShortcut(
      "c",
      "run a job",
      () => this.openRun(),
      "Page",
      () => "run-saved",
    );
    addShortcut("?", "show keyboard shortcuts", () => this.showShortcuts(), "Page");
    addKeyNote("Mod+Enter", "run what the form describes", "Page", () => "run-saved");
    page.toast = (text) => this.toasts.show(text);
    page.openForm = (values) => this.form.edit(values, "");
    adaptKeyHints(this.root);
    this.drawAddress();
    this.find("page-header").inert = false; // before this, a click would have been lost
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  listen(name, event, act) {
    this.find(name).addEventListener(event, act);
  }

  close() {
    page.removeEventListener("address", this.drawAddress);
    this.queues.close();
    this.notices.close();
    this.saved.close();
    this.status.close();
    this.palette.close();
  }

  update(component) {
    const { data } = component;
    this.component = component;
    page.actions.component = component;
    page.receiveStatus(data);
    page.receiveChanges(data.changes);
    publishColours(data.statuses);
    this.drawMenu(data);
    this.account.draw(data.me);
    this.queues.drawPaused(data.paused);
    updateKeySheet(this.find("shortcuts"));
    this.takeAnswer(data.answer);
  }

  /** Handles the answer to the visitor's last action, once. */
  takeAnswer(answer) {
    if (!answer || answer.number === this.answered) {
      return;
    }
    this.answered = answer.number;
    page.actions.onAnswer();
    if (answer.submitted) {
      this.form.accept();
    }
    if (answer.notice) {
      this.toasts.show(answer.notice);
    }
    if (answer.job) {
      page.show(answer.job);
    } else if (answer.wrong && !can("submit")) {
      this.toasts.show(Object.values(answer.wrong).join("\n")); // the role has just changed
    } else if (answer.wrong) {
      this.form.showWrong(answer.wrong);
      this.form.open();
    } else if (answer.cancelling) {
      page.cancels.set(answer.cancelling, Date.now());
      page.emit("status");
    } else if (answer.edit) {
      this.form.edit(answer.edit, answer.source);
    } else if (answer.start) {
      saved.openRun(answer.start.name, answer.start.values);
    }
  }

  drawMenu({ intervals, interval, workers, machines }) {
    const choices = intervals.map((name) => {
      const checked = name === interval ? "checked" : "";
      const value = escapeHtml(name);
      return `<label><input type="radio" name="interval" value="${value}" ${checked}>${value}</label>`;
    });
    setHtml(this.find("intervals"), `<legend>Refresh every</legend>${choices.join("")}`);
    const lines = workers.map(({ name, running, slots, queues, responds }) => {
      const served = queues.length > 0 ? `, ${servedText(queues)}` : "";
      const state = responds === false ? ", not responding" : "";
      return `${name}: ${running} of ${slots} slots busy${served}${state}`;
    });
    const shown = page.lacksWorker ? ["No worker is running."] : lines;
    if (machines) {
      shown.push("", "Machines", machines);
    }
    this.find("workers").textContent = shown.join("\n");
  }

  drawAddress() {
    const field = this.find("search");
    if (this.root.getRootNode().activeElement !== field) {
      field.value = page.address.logs ?? page.address.q ?? "";
    }
  }

  /** Filters the jobs while the visitor types. Results of a search of all logs stay until Enter. */
  onSearch() {
    const q = this.find("search").value.trim();
    if (!page.address.logs || !q) {
      page.go({ q, logs: "", before: "" }, { replace: true });
    }
  }

  onSearchKey(event) {
    if (event.key === "Enter") {
      searchLogs(this.find("search").value.trim());
    } else if (event.key === "Escape" && page.address.logs) {
      event.preventDefault();
      this.find("search").value = "";
      clearSearch();
    }
  }

  onInterval(event) {
    this.component.setStateValue("interval", event.target.value);
  }

  /** Opens the run form, or the saved commands for a visitor who may run nothing else. */
  openRun() {
    if (can("submit")) {
      this.form.open();
    } else {
      this.saved.openList();
    }
  }

  openPalette() {
    this.find("page-menu").hidePopover();
    this.palette.open();
  }

  showShortcuts() {
    this.find("page-menu").hidePopover();
    showKeySheet(this.find("shortcuts"));
  }
}

/** Makes the statuses' colours available to the style sheet. */
function publishColours(statuses) {
  for (const [status, { colour }] of Object.entries(statuses)) {
    document.documentElement.style.setProperty(`--tailboard-${status}`, colour);
  }
}

function goHome(event) {
  if (!opensElsewhere(event)) {
    event.preventDefault();
    page.go(EMPTY_ADDRESS);
  }
}

export default function mountPageHeader(component) {
  const root = component.parentElement;
  root.pageHeader ??= new PageHeader(root);
  root.pageHeader.update(component);
  markDrawn("header");
  return closeWhenRemoved(root, root.pageHeader);
}
