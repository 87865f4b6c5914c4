/* The keys of the job list. While a log is open, j and k also change the log. */

import { readAddress } from "./address.js";
import { stepFrom } from "./dom.js";
import { page } from "./page_state.js";
import { addKeyNote, addShortcut } from "./shortcuts.js";

const PEEK_DELAY = 150; // milliseconds; while j is held, no log is loaded
const FIRST_STATUSES = ["running", "failed"]; // as in the filters
const STATUS_KEYS = ["1", "2", "3", "4", "5", "6", "7"];

export class ListKeys {
  /** `list` is the JobList. */
  constructor(list) {
    this.list = list;
    this.target = null; // the row whose log is about to be shown
    addShortcut("j", "next job", () => this.step(1), "List");
    addShortcut("k", "previous job", () => this.step(-1), "List");
    addKeyNote("Enter", "open the focused job", "List");
    for (const [index, key] of STATUS_KEYS.entries()) {
      const does = "show one status: running, failed, …";
      addShortcut(key, does, () => showStatus(index), "List");
    }
    addShortcut("0", "show all jobs", () => page.go({ status: "", before: "" }), "List");
    const toggleList = () => document.documentElement.classList.toggle("tailboard-list-hidden");
    addShortcut("z", "hide or show the list", () => void toggleList(), "List");
  }

  step(by) {
    if (!page.address.job) {
      this.list.moveFocus(by);
      return;
    }
    const { links } = this.list;
    if (links.length > 0) {
      const next = stepFrom(links, this.indexIn(links), by);
      next.focus(); // does nothing if the list is hidden
      this.peek(next);
    }
  }

  indexIn(links) {
    const focused = links.indexOf(this.list.root.getRootNode().activeElement);
    const from = focused >= 0 ? focused : links.indexOf(this.target);
    return from >= 0 ? from : this.list.tabStop(links);
  }

  /** Shows the log of a row, without a step in the browser's history. */
  peek(link) {
    clearTimeout(this.timer);
    this.target = link;
    this.timer = setTimeout(() => {
      this.target = null;
      const { job, at = "" } = readAddress(link.search);
      page.go({ job, at }, { replace: true });
    }, PEEK_DELAY);
  }
}

function showStatus(index) {
  const status = [...new Set([...FIRST_STATUSES, ...Object.keys(page.statuses)])][index];
  if (status) {
    page.go({ status, before: "" });
  }
}
