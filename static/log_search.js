/* The search of all logs. Its results replace the list. It requests part after part until there are
   enough lines to read. The text to find is in the address. */

import { setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { escapeHtml } from "./format.js";
import {
  addHits,
  describeFound,
  describeNowhere,
  describeSearched,
  describeWhere,
  foldGroups,
  groupHtml,
} from "./log_hits.js";
import { page } from "./page_state.js";
import { pause } from "./pause.js";

const ENOUGH = 50; // lines to show before the search pauses and offers to continue
const MOST = 500; // lines to find before it pauses in any case
const LIST_PATIENCE = 2000; // milliseconds to wait for the list before a search begins
const LIST_LOOK = 50; // milliseconds between checks whether the list has arrived
const PAUSE = 1500; // milliseconds before a failed request is repeated
const NOTHING_SEARCHED = { jobs: 0, bytes: 0, unreadable: 0 };

export class LogSearch {
  /** `find(name)` returns a node of the list by its class; `drawn()` is called after each part. */
  constructor(find, drawn) {
    this.find = find;
    this.drawn = drawn;
    this.run = 0; // number of the current search; answers to earlier ones are ignored
    this.reset({ q: "" });
    find("search-logs").addEventListener("click", () => searchLogs(page.address.q));
    find("search-stop").addEventListener("click", () => this.stop());
    find("search-more").addEventListener("click", () => this.continueSearch());
    find("search-clear").addEventListener("click", () => clearSearch());
    find("results").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault(); // it closes only the results, not the log
        clearSearch();
      }
    });
  }

  reset(wanted) {
    this.wanted = wanted; // { q, status, queue, by }
    this.groups = []; // { job, lines, more }
    this.folded = []; // the same as foldGroups returns them
    this.unfolded = new Set(); // IDs of the first jobs of groups that the visitor has unfolded
    this.searched = NOTHING_SEARCHED;
    this.next = null; // `before` of the next part; null at the end
    this.state = "done"; // or "searching", "waiting" to repeat a request, "stopped"
    this.problem = "";
  }

  get isOpen() {
    return Boolean(page.address.logs);
  }

  /** Begins the search in the address, unless it is the current one. */
  onAddress() {
    const { logs: q = "", status = "", queue = "", by = "" } = page.address;
    const wanted = { q, status, queue, by };
    if (q && JSON.stringify(wanted) !== JSON.stringify(this.wanted)) {
      this.reset(wanted);
      this.find("results").scrollTop = 0;
      this.begin();
    } else if (!q && this.state !== "done") {
      this.reset({ q: "" }); // the visitor has left the search
      this.run += 1;
    }
    this.draw();
  }

  // --- Searching ---

  /** Waits for the list first: the server does one thing at a time, and the list is quick. */
  async begin() {
    this.run += 1;
    this.state = "searching";
    const { run } = this;
    const until = performance.now() + LIST_PATIENCE;
    while (!page.isListed && performance.now() < until) {
      await pause(LIST_LOOK);
    }
    if (run === this.run) {
      this.continueSearch();
    }
  }

  /** Continues from `next` until ENOUGH more lines are found. */
  async continueSearch() {
    this.run += 1;
    const { run } = this;
    const enough = this.shownCount + ENOUGH;
    const most = this.count + MOST;
    this.state = "searching";
    this.draw();
    do {
      const answer = await ask("search", { ...this.wanted, before: this.next ?? "" });
      if (run !== this.run) {
        return;
      }
      await this.take(answer);
      if (run !== this.run) {
        return;
      }
    } while (
      this.state === "waiting" ||
      (this.next && this.shownCount < enough && this.count < most)
    );
    this.state = "done";
    this.draw();
  }

  /** Takes a part or an error. After an error that may pass, waits before the request is
      repeated. */
  async take(answer) {
    this.problem = "";
    this.state = "searching";
    if (!answer.error) {
      this.addPart(answer);
    } else if (answer.may_pass) {
      this.state = "waiting";
      this.problem = answer.busy ? "Waiting for another search to finish…" : answer.error;
    } else {
      this.next = null;
      this.problem = answer.error;
    }
    this.draw();
    if (this.state === "waiting") {
      await pause(PAUSE);
    }
  }

  addPart(answer) {
    this.groups = addHits(this.groups, answer);
    this.folded = foldGroups(this.groups);
    this.next = answer.next;
    this.searched = Object.fromEntries(
      Object.keys(NOTHING_SEARCHED).map((name) => [
        name,
        this.searched[name] + answer.searched[name],
      ]),
    );
  }

  get count() {
    return countLines(this.groups);
  }

  get shownCount() {
    return countLines(this.folded);
  }

  /** Shows or hides the other jobs with the same lines. */
  toggle(jobId) {
    if (!this.unfolded.delete(jobId)) {
      this.unfolded.add(jobId);
    }
    this.drawGroups();
  }

  stop() {
    this.run += 1;
    this.state = "stopped";
    this.problem = "";
    this.draw();
  }

  // --- Drawing ---

  draw() {
    const { q = "" } = page.address;
    this.find("search-offer").hidden = this.isOpen || !q;
    setHtml(this.find("search-logs"), `Search all logs for “${escapeHtml(q)}”`);
    this.find("search-bar").hidden = !this.isOpen;
    this.find("results").hidden = !this.isOpen;
    if (this.isOpen && page.hasStatuses) {
      this.drawState();
      this.drawGroups();
      this.drawn();
    }
  }

  drawState() {
    const isBusy = this.state === "searching" || this.state === "waiting";
    setHtml(this.find("search-text"), `“${escapeHtml(this.wanted.q)}”`);
    this.find("search-state").textContent = this.describe();
    this.find("search-bar").classList.toggle("busy", isBusy);
    this.find("search-stop").hidden = !isBusy;
    const hasNotBegun = this.state === "stopped" && this.searched.jobs === 0;
    this.find("search-more").hidden = isBusy || !(this.next || hasNotBegun);
    this.find("search-more").textContent = hasNotBegun ? "Search" : "Search older logs";
  }

  describe() {
    if (this.problem) {
      return this.problem;
    }
    const progress = this.searched.jobs > 0 ? describeSearched(this.searched) : "";
    if (this.state === "searching") {
      return progress ? `${progress}…` : `Searching ${describeWhere(this.wanted)}…`;
    }
    const isNothing = this.count === 0 && !this.next && this.state === "done";
    const nothing = isNothing ? `${describeNowhere(this.wanted)} ` : "";
    const stopped = this.state === "stopped" ? "Stopped. " : "";
    const found = this.count > 0 ? `${describeFound(this.groups, !this.next)} · ` : "";
    return `${stopped}${nothing}${found}${progress || "There are no logs to search."}`;
  }

  drawGroups() {
    const list = this.find("hit-groups");
    const { job = "", at = "" } = page.address;
    const context = {
      statuses: page.statuses,
      now: page.now,
      wanted: this.wanted.q,
      link: (change) => page.link(change),
      at: `${job} ${at}`,
      unfolded: this.unfolded,
    };
    this.folded.forEach((group, index) => {
      const item = list.children[index] ?? list.appendChild(document.createElement("li"));
      item.dataset.key = group.job.id;
      setHtml(item, groupHtml(group, context));
    });
    while (list.children.length > this.folded.length) {
      list.lastChild.remove();
    }
  }
}

function countLines(groups) {
  return groups.reduce((sum, group) => sum + group.lines.length, 0);
}

/** Searches all logs for a text. The chosen status and queue are kept. */
export function searchLogs(text) {
  if (text) {
    page.go({ logs: text, q: "", before: "" });
  }
}

export function clearSearch() {
  page.go({ logs: "" });
}
