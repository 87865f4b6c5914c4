/* The progress of the job whose log is shown, in the head and in the tab's title. The newest
   `::progress` line of the log's stream comes first, then the explanation, then the job's row. */

import { setHtml } from "./dom.js";
import { escapeHtml } from "./format.js";
import { newestProgress, progressBarHtml, progressOfJob, progressText } from "./job_progress.js";
import { pageTitle } from "./page_title.js";

const REST_LIMIT = 1000; // characters to keep of an unfinished line

export class LogProgress {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.node = find("head-progress");
    this.reset();
  }

  /** Another job is shown. */
  reset() {
    this.explained = null; // the progress in the explanation
    this.live = null; // { progress, attempt } of the newest line in the stream
    this.rest = ""; // of the stream's text: the unfinished line
    this.node.hidden = true;
  }

  /** New output of the job. Returns true if it contains progress. */
  onText(text) {
    const lines = this.rest + text;
    const end = lines.lastIndexOf("\n") + 1;
    const progress = newestProgress(lines.slice(0, end));
    this.rest = lines.slice(end, end + REST_LIMIT);
    if (progress) {
      this.live = { progress, attempt: this.pane.job?.attempt };
    }
    return progress !== null;
  }

  draw({ progress }) {
    this.explained = progress && !progress.partial ? progress : null;
    this.pane.drawHead();
  }

  /** Shows the progress of a job in the head and in the tab's title. An estimate from earlier runs
      has a line of its own below the head: log_forecast.js. */
  show(job) {
    const progress = this.of(job);
    const isInHead = progress !== null && progress.source !== "earlier_runs";
    this.node.hidden = !isInHead;
    if (isInHead) {
      const text = `<span class="progress-text">${escapeHtml(progressText(progress))}</span>`;
      setHtml(this.node, progressBarHtml(progress) + text);
    }
    pageTitle.showJob(job, progress);
  }

  /** The newest progress of a job; null if it has none. */
  of(job) {
    if (job.status !== "running") {
      return null;
    }
    const live = this.live?.attempt === job.attempt ? this.live.progress : null;
    return live ?? this.explained ?? progressOfJob(job);
  }
}
