/* The texts beside a log's lines: the state pill, the range of lines, the empty state, and a
   sentence for screen readers. */

import { copyByButton, setHtml } from "./dom.js";
import {
  endedBadly,
  formatBytes,
  formatCount,
  formatExit,
  formatOrdinal,
  formatRoughly,
  formatStart,
  formatStatus,
  isEnded,
} from "./format.js";
import { linkIds } from "./job_links.js";
import { describeCancel, waitReason } from "./job_reason.js";
import { page } from "./page_state.js";
import { quietText } from "./usage_words.js";

const QUIET = 60_000; // milliseconds without output before the pill says so
const WORKER_COMMAND = "tailboard worker";
const NO_WORKER =
  `No worker is running. Start one: <code>${WORKER_COMMAND}</code> ` +
  '<button type="button">Copy</button>';
const SPOKEN = 10_000; // milliseconds between two sentences for screen readers

export class LogStatus {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.source = pane.source;
    this.view = pane.view;
    this.find = find;
    this.spokenAt = 0;
    find("blank").addEventListener("click", ({ target }) => {
      if (target.matches("button")) {
        copyByButton(target, WORKER_COMMAND);
      }
    });
  }

  draw() {
    if (!this.pane.jobId) {
      return;
    }
    const [text, kind] = this.describeState();
    const pill = this.find("pill");
    pill.className = `pill ${kind}`;
    if (pill.textContent !== text) {
      pill.textContent = text;
    }
    this.drawJump();
    this.drawSize();
    this.drawBlank();
  }

  /** The text of the state pill, and the kind that decides its colour. */
  describeState() {
    const { job, state, shownJob } = this.pane;
    if (!job) {
      return state === "missing" ? ["unavailable", "bad"] : ["loading", "calm"];
    }
    if (isEnded(job)) {
      const hasExited = ["succeeded", "failed"].includes(job.status);
      const facts = [formatStatus(job.status), hasExited ? formatExit(job) : ""];
      return [facts.filter(Boolean).join(", "), endedBadly(job) ? "bad" : "calm"];
    }
    if (page.isCancelling(job)) {
      return [describeCancel(page.cancels.get(job.id), Date.now()), "late"];
    }
    if (this.source.stream?.isOpen) {
      return this.describeOpenStream(job);
    }
    if (state === "served" && !page.status.problem) {
      const { every } = shownJob.data;
      return every ? [`updates every ${every} s`, "calm"] : ["updates off", "calm"];
    }
    if (this.source.stream?.brokenAt && this.source.isLoaded) {
      return [
        `reconnecting for ${formatRoughly(Date.now() - this.source.stream.brokenAt)}`,
        "late",
      ];
    }
    return job.status === "queued" ? [this.describeQueue(job), "calm"] : ["loading", "calm"];
  }

  describeOpenStream(job) {
    if (job.status === "queued") {
      return [this.describeQueue(job), job.attempt > 1 ? "late" : "calm"];
    }
    const quiet = Date.now() - this.source.writtenAt;
    const { cores } = this.pane.insights.usage;
    return quiet > QUIET ? [quietText(quiet, cores), "calm"] : ["live", "live"];
  }

  describeQueue(job) {
    const start = formatStart(job, page.now);
    if (page.pausedQueues.has(job.queue)) {
      return "queued, paused";
    }
    if (start) {
      return `queued, ${start}`;
    }
    const parts = ["queued"];
    if (job.queued_before !== undefined) {
      parts.push(formatOrdinal(job.queued_before + 1));
    }
    if (page.status.slots) {
      parts.push(describeSlots(page.status.slots));
    }
    return parts.filter(Boolean).join(", ");
  }

  drawJump() {
    const jump = this.find("jump");
    jump.hidden =
      !this.source.isLoaded ||
      (this.view.following && this.source.mode === "following") ||
      this.view.count === 0;
    jump.textContent =
      this.source.newLines > 0 ? `↓ ${formatCount(this.source.newLines)} new` : "↓ End";
  }

  drawSize() {
    this.find("size").textContent = this.describeSize();
    const gone = this.find("gone");
    const atStart = (this.view.first.offset ?? 0) <= this.source.start;
    gone.hidden = this.source.start === 0 || !atStart;
    gone.textContent = `The first ${formatBytes(this.source.start)} of this log were deleted to limit its size.`;
  }

  /** The visible lines and the number of all. The numbers of a log whose beginning was deleted are
      not known; then its size is shown. */
  describeSize() {
    const { count } = this.view;
    if (count === 0) {
      return "";
    }
    const { lineCount, size } = this.source;
    const [first, last] = this.view.visible.map((line) => line?.dataset.line);
    if (!first || !last) {
      return `${formatLines(count)} loaded, ${formatBytes(size)} in all`;
    }
    const all = lineCount === null ? "" : ` of ${formatCount(Math.max(lineCount, last))}`;
    return lineCount !== null && lineCount <= count
      ? formatLines(count)
      : `lines ${formatCount(first)}–${formatCount(last)}${all}`;
  }

  drawBlank() {
    const blank = this.find("blank");
    const isEmpty = this.view.count === 0 && this.view.waiting.length === 0;
    blank.hidden = this.pane.state !== "missing" && !(this.source.isLoaded && isEmpty);
    if (!blank.hidden) {
      const isStuck = this.pane.job?.status === "queued" && page.lacksWorker;
      const sentence = linkIds(this.describeBlank(), (id) => page.titleOf(id));
      setHtml(blank, isStuck ? NO_WORKER : sentence);
    }
  }

  describeBlank() {
    const { job, shownJob } = this.pane;
    if (shownJob.error) {
      return shownJob.error;
    }
    if (job && isEnded(job)) {
      return "No output.";
    }
    if (job?.status !== "queued") {
      return "No output yet.";
    }
    const why = waitReason(job) ?? formatStart(job, page.now);
    if (why) {
      return `${why[0].toUpperCase()}${why.slice(1)}.`;
    }
    const before = job.queued_before;
    return before === undefined ? "Queued." : `Queued, ${formatOrdinal(before + 1)} in line.`;
  }

  /** Announces the job's state to screen readers: at most every ten seconds, and only if it is
      new. */
  speak() {
    const { job } = this.pane;
    if (!job || Date.now() - this.spokenAt < SPOKEN) {
      return;
    }
    const how = isEnded(job) ? `${formatStatus(job.status)} ${formatExit(job)}` : job.status;
    const lines =
      this.source.newLines > 0 ? `, ${formatCount(this.source.newLines)} new lines` : "";
    const sentence = `${job.title}: ${how}${lines}`;
    if (this.find("spoken").textContent !== sentence) {
      this.find("spoken").textContent = sentence;
      this.spokenAt = Date.now();
    }
  }
}

function formatLines(count) {
  return `${formatCount(count)} ${count === 1 ? "line" : "lines"}`;
}

/** Why a job is still queued: no worker runs, or all slots are busy. */
function describeSlots({ busy, all }) {
  if (all === 0) {
    return "no worker";
  }
  if (busy < all) {
    return "";
  }
  const words = { 1: "slot", 2: "both slots" };
  return `${words[all] ?? `all ${all} slots`} busy`;
}
