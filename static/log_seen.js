/* Whether other jobs have ended with the same hint, and how their reruns ended; also runs those jobs
   again that nobody has run again yet. */

import { bulkResult } from "./bulk_words.js";
import { changeJobs } from "./bulk_work.js";
import { setHtml } from "./dom.js";
import { endedBadly } from "./format.js";
import { seenHtml } from "./insight_words.js";
import { page } from "./page_state.js";

export class LogSeen {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.node = find("seen");
    this.text = find("seen-text");
    this.button = find("rerun-seen");
    this.button.addEventListener("click", () => this.askToRerun());
    this.isRunning = false;
    this.started = new Set(); // IDs of jobs that were run again here
    this.reset();
  }

  reset() {
    this.node.hidden = true;
    this.ids = [];
  }

  draw({ seen_before: seen, compared_with: successes }, job) {
    const { data, isSent } = this.pane.shownJob;
    const hasEarlier = successes.length > 0 || (isSent && data.past.length > 0);
    const context = { link: (change) => page.link(change), now: page.now, hasEarlier };
    const html = seen && endedBadly(job) ? seenHtml(seen, context) : "";
    this.node.hidden = !html;
    setHtml(this.text, html);
    const others = seen && !seen.partial ? [...seen.here, ...seen.elsewhere] : [];
    this.ids = others.filter((other) => !other.rerun).map((other) => other.id);
    this.drawButton();
  }

  /** A job is run again only once. */
  drawButton() {
    this.ids = this.ids.filter((id) => !this.started.has(id));
    this.button.hidden = this.ids.length === 0;
    this.button.textContent = this.ids.length === 1 ? "Run it again" : "Run these again";
  }

  askToRerun() {
    const { ids } = this;
    const jobs = ids.length === 1 ? "the other job" : `the ${ids.length} other jobs`;
    if (!this.isRunning) {
      this.pane.head.actions.question.ask({
        about: "rerun-seen",
        near: this.button,
        text: `Run ${jobs} with this error again?`,
        yes: ids.length === 1 ? "Run again" : `Run ${ids.length} jobs`,
        act: () => this.rerun(ids),
      });
    }
  }

  async rerun(ids) {
    this.isRunning = true;
    const done = { action: "rerun", count: ids.length, tried: 0, declined: [] };
    let problem = "";
    const progress = (error) => {
      problem = error ?? "";
    };
    await changeJobs(done, ids, { progress, isStopped: () => problem !== "" });
    this.isRunning = false;
    for (const id of ids.slice(0, done.tried)) {
      this.started.add(id);
    }
    this.drawButton();
    page.toast(problem || bulkResult("rerun", done));
    page.refresh();
  }
}
