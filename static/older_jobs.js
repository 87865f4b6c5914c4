/* Requests older jobs until the list has enough rows: one noisy job may fill the newest page with a
   single row, and a search may have no match among the newest jobs. Each request is small, so that
   the server can do other things in between. It also counts all jobs that a search finds. */

import { makeButton } from "./dom.js";
import { ask } from "./errands.js";
import { formatCount } from "./format.js";
import { foldRows } from "./job_rows.js";
import { isSearch, sumOf } from "./listed_jobs.js";
import { page } from "./page_state.js";
import { pause } from "./pause.js";

const ENOUGH = 40; // rows
const MOST = 3000; // jobs to load without a click
const PAUSE = 2000; // milliseconds before a failed request is repeated
const LEAST_PERIOD = 10_000; // milliseconds between two counts, or two reloads, of the same jobs

export class OlderJobs {
  /** `find(name)` returns a node of the list by its class. */
  constructor(find) {
    this.find = find;
    this.run = 0; // answers to the requests of earlier runs are ignored
    this.filters = null; // that the current run is about
    this.reset();
  }

  reset() {
    this.state = "idle"; // or "loading" rows, "checking" them, "stopped" by the visitor, "failed"
    this.problem = "";
    this.wanted = ENOUGH; // rows
    this.counted = { at: 0, of: "" }; // when the matching jobs were counted, and what was known then
    this.loaded = { at: 0, of: "" }; // the same for the older jobs
  }

  /** Called when a list has arrived, and when the address has changed. */
  update() {
    const filters = JSON.stringify(page.filters);
    if (filters !== this.filters) {
      this.filters = filters;
      this.run += 1;
      this.reset();
    }
    if (this.state === "idle" && page.isListed && !page.status.problem && !page.address.logs) {
      this.doNext();
    }
  }

  doNext() {
    if (this.wantsMore) {
      this.work("loading", () => this.search());
    } else if (this.mustReload) {
      this.work("checking", () => this.reload());
    } else if (this.mustCount) {
      this.work("checking", () => this.count());
    }
  }

  /** Does one thing, and then, with the next list, perhaps another. */
  async work(state, act) {
    this.run += 1;
    this.state = state;
    const { run } = this;
    await act();
    if (run === this.run && this.state === state) {
      this.state = "idle";
      this.update();
    }
    this.draw();
  }

  /** A part of the answer to an errand, or null if it is no longer wanted or cannot be had. */
  async ask(errand, details) {
    const { run } = this;
    while (true) {
      const answer = await ask(errand, { ...page.filters, ...details });
      if (run !== this.run) {
        return null;
      }
      this.problem = answer.error ?? "";
      if (!answer.error) {
        return answer;
      }
      if (!answer.may_pass) {
        this.state = "failed";
        return null;
      }
      this.draw();
      await pause(PAUSE);
    }
  }

  // --- More rows ---

  get wantsMore() {
    return page.next !== null && page.jobs.length < MOST && this.rowCount < this.wanted;
  }

  get rowCount() {
    return foldRows(page.jobs, new Set()).length;
  }

  async search() {
    this.loaded = { at: Date.now(), of: JSON.stringify(page.status.counts) };
    this.draw();
    while (this.wantsMore) {
      const part = await this.ask("older", { before: page.next });
      if (!part) {
        return;
      }
      page.addOlder(part);
    }
  }

  stop() {
    this.run += 1;
    this.state = "stopped";
    this.draw();
  }

  /** Continues a search that was stopped. */
  continueSearch() {
    this.state = "idle";
    this.wanted = this.rowCount + ENOUGH;
    this.doNext();
  }

  // --- Keeping older jobs up to date ---

  /** Older jobs change if they had not ended, or if jobs were deleted. */
  get mustReload() {
    const { counts } = page.status;
    const { older, end } = page.list;
    if (end?.isOld) {
      return true;
    }
    const isRecent = Date.now() - this.loaded.at < LEAST_PERIOD;
    if (!end || isRecent || JSON.stringify(counts) === this.loaded.of) {
      return false;
    }
    const before = sumOf(JSON.parse(this.loaded.of || "{}"));
    return sumOf(counts) < before || older.some((job) => !job.finished_at);
  }

  async reload() {
    const { end, page: newest } = page.list;
    this.loaded = { at: Date.now(), of: JSON.stringify(page.status.counts) };
    let rows = [];
    let last = newest;
    while (last.next !== null && last.next !== end.next && last.searched < end.searched) {
      const part = await this.ask("older", { before: last.next });
      if (!part) {
        return;
      }
      rows = [...rows, ...part.rows];
      last = part;
    }
    page.replaceOlder(rows, { next: last.next, searched: last.searched });
  }

  // --- Counting all matches ---

  get mustCount() {
    const { page: newest } = page.list;
    const isRecent = Date.now() - this.counted.at < LEAST_PERIOD;
    return page.counted !== "all" && !isRecent && JSON.stringify(newest.counts) !== this.counted.of;
  }

  /** Counts the jobs of every status that match the search. */
  async count() {
    this.counted = { at: Date.now(), of: JSON.stringify(page.list.page.counts) };
    const counts = {};
    let before = "";
    do {
      const part = await this.ask("count", { status: "", before });
      if (!part) {
        return;
      }
      for (const [status, count] of Object.entries(part.counts)) {
        counts[status] = (counts[status] ?? 0) + count;
      }
      before = part.next;
      page.takeCounts({ counts: { ...counts }, complete: before === null });
    } while (before !== null);
  }

  // --- Drawing ---

  get isLoading() {
    return this.state === "loading";
  }

  /** Is a search over all jobs under way or stopped, so that the visitor must know how far it is? */
  get isUnfinished() {
    return page.next !== null && ["loading", "stopped", "failed"].includes(this.state);
  }

  draw() {
    const line = this.find("older");
    line.hidden = !this.isUnfinished || Boolean(page.address.logs);
    if (line.hidden) {
      return;
    }
    const text = this.describe();
    const node = this.find("older-text");
    if (node.textContent !== text) {
      node.textContent = text;
    }
    const label = this.isLoading ? "Stop" : "Search older";
    const button = this.find("older-button");
    if (button.textContent !== label) {
      const act = this.isLoading ? () => this.stop() : () => this.continueSearch();
      button.replaceChildren(makeButton(label, act));
    }
  }

  describe() {
    if (this.problem) {
      return this.problem;
    }
    const searched = formatCount(page.searched);
    if (!isSearch(page.filters)) {
      return this.isLoading ? "Loading older jobs…" : `The newest ${searched} jobs.`;
    }
    if (this.isLoading) {
      return `Searched ${searched} of ${formatCount(page.total)} jobs…`;
    }
    return `Searched the newest ${searched} of ${formatCount(page.total)} jobs.`;
  }
}
