/* The search of all logs: what is found stands in place of the list. It goes on part by part until
   there is enough to read; the address says what is looked for. */

import { setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { escapeHtml } from "./format.js";
import {
  addHits,
  describeNowhere,
  describeSearched,
  describeWhere,
  groupHtml,
} from "./log_hits.js";
import { page } from "./page_state.js";
import { pause } from "./pause.js";

const ENOUGH = 50; // lines until a visitor is asked whether to go on
const LIST_PATIENCE = 2000; // milliseconds until a search begins without the list
const LIST_LOOK = 50; // milliseconds between looks whether that has come
const PAUSE = 1500; // milliseconds until what could not be done is tried again
const NOTHING_SEARCHED = { jobs: 0, bytes: 0, unreadable: 0 };

export class LogSearch {
  /** `find(name)` gives the list's nodes by class; `drawn()` is called with each part. */
  constructor(find, drawn) {
    this.find = find;
    this.drawn = drawn;
    this.run = 0; // number of the search that is under way: answers to others are passed over
    this.reset({ q: "" });
    find("search-logs").addEventListener("click", () => searchLogs(page.address.q));
    find("search-stop").addEventListener("click", () => this.stop());
    find("search-more").addEventListener("click", () => this.goOn());
    find("search-clear").addEventListener("click", () => clearSearch());
    find("results").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        clearSearch();
      }
    });
  }

  reset(wanted) {
    this.wanted = wanted; // { q, status, queue }
    this.groups = [];
    this.searched = NOTHING_SEARCHED;
    this.next = null; // where to go on
    this.state = "done"; // or "searching", "waiting" for its turn, "stopped"
    this.problem = "";
  }

  get isOpen() {
    return Boolean(page.address.logs);
  }

  /** What the address asks for: a search that is known is not begun anew. */
  onAddress() {
    const { logs: q = "", status = "", queue = "" } = page.address;
    const wanted = { q, status, queue };
    if (q && JSON.stringify(wanted) !== JSON.stringify(this.wanted)) {
      this.reset(wanted);
      this.find("results").scrollTop = 0;
      this.begin();
    } else if (!q && this.state !== "done") {
      this.reset({ q: "" }); // who has left it does not wait for it
      this.run += 1;
    }
    this.draw();
  }

  // --- Searching ---

  /** The list comes first: the server does one thing at a time, and that is quickly done. */
  async begin() {
    this.run += 1;
    this.state = "searching";
    const { run } = this;
    const until = performance.now() + LIST_PATIENCE;
    while (!page.isListed && performance.now() < until) {
      await pause(LIST_LOOK);
    }
    if (run === this.run) {
      this.goOn();
    }
  }

  /** On from where it stands, until there is enough to read. */
  async goOn() {
    this.run += 1;
    const { run } = this;
    const until = this.count + ENOUGH;
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
    } while (this.state === "waiting" || (this.next && this.count < until));
    this.state = "done";
    this.draw();
  }

  /** A part, or that it could not be had: what may pass is tried again after a while. */
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
    this.next = answer.next;
    this.searched = Object.fromEntries(
      Object.keys(NOTHING_SEARCHED).map((name) => [
        name,
        this.searched[name] + answer.searched[name],
      ]),
    );
  }

  get count() {
    return this.groups.reduce((sum, group) => sum + group.lines.length, 0);
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
    const isUnbegun = this.state === "stopped" && this.searched.jobs === 0;
    this.find("search-more").hidden = isBusy || !(this.next || isUnbegun);
  }

  describe() {
    if (this.problem) {
      return this.problem;
    }
    const told = this.searched.jobs > 0 ? describeSearched(this.searched) : "";
    if (this.state === "searching") {
      return told ? `${told} …` : `searching ${describeWhere(this.wanted)} …`;
    }
    const isNothing = this.count === 0 && !this.next && this.state === "done";
    const nothing = isNothing ? `${describeNowhere(this.wanted)} ` : "";
    const stopped = this.state === "stopped" ? "Stopped. " : "";
    return `${stopped}${nothing}${told || "There are no logs to search."}`;
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
    };
    this.groups.forEach((group, index) => {
      const item = list.children[index] ?? list.appendChild(document.createElement("li"));
      item.dataset.key = group.job.id;
      setHtml(item, groupHtml(group, context));
    });
    while (list.children.length > this.groups.length) {
      list.lastChild.remove();
    }
  }
}

/** Look for a text in all logs; the status and the queue that are chosen stay. */
export function searchLogs(text) {
  if (text) {
    page.go({ logs: text, q: "", before: "" });
  }
}

export function clearSearch() {
  page.go({ logs: "" });
}
