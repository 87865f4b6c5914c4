/* Why a job ended badly, in words: for its row, its head and its details. The reason comes first; a
   line of the log is only a guess at it. Pure, except that the patterns are loaded once. */

import { endedBadly, formatExit, formatStart, formatStatus } from "./format.js";
import { namesJob } from "./job_links.js";

const KILL_DELAY = 10; // seconds from SIGTERM to SIGKILL, as in tailboard/intervals.py
const RULE = /^[=*_#-]{3,} +/; // before the text of a line, as pytest draws it
const STARTED_BY = /^after \S+ succeeded(; |$)/; // as in tailboard/chains.py
const patterns = []; // of lines that report an error; empty until they are loaded

export function setErrorPatterns(loaded) {
  patterns.splice(0, patterns.length, ...loaded);
}

function isErrorLine(text) {
  return patterns.some((pattern) => pattern.test(text));
}

/** What ended the job: "Timed out: ran longer than its time limit of 4 s", "Failed: exit 3"; "" if
    it did not end badly. */
export function endReason(job) {
  if (!endedBadly(job)) {
    return "";
  }
  const exit = job.status === "failed" ? formatExit(job) : "";
  const why = [exit, ownReason(job)].filter(Boolean).join(", ");
  const status = formatStatus(job.status);
  const sentence = status.charAt(0).toUpperCase() + status.slice(1);
  return why ? `${sentence}: ${why}` : sentence;
}

/** The line of the log to show beside the reason, as { label, text }; null if there is none. If no
    line reports an error, the hint is merely the last line: it says nothing about a timeout. */
export function endLine(job) {
  if (!job.hint || !endedBadly(job)) {
    return null;
  }
  if (isErrorLine(job.hint)) {
    return { label: job.status === "failed" ? "Why it failed:" : "Last error:", text: job.hint };
  }
  return job.status === "timed_out" ? null : { label: "Last line:", text: job.hint };
}

/** The same in the little room of a row; also why a queued job waits, and which other job is why one
    was cancelled. */
export function shortReason(job) {
  if (job.status === "queued") {
    return waitReason(job) ?? "";
  }
  if (job.status === "cancelled" && namesJob(job.reason)) {
    return job.reason;
  }
  if (!endedBadly(job)) {
    return "";
  }
  const line = endLine(job);
  const reason = ownReason(job);
  if (job.status !== "failed" || !line) {
    return reason;
  }
  const text = line.text.replace(RULE, "");
  return line.label === "Last line:" ? reason || `Last line: ${text}` : text;
}

/** The reason without the job whose success started this one: that is no reason for its end, and the
    page shows it elsewhere. */
export function ownReason(job) {
  return (job.reason ?? "").replace(STARTED_BY, "");
}

/** Why a queued job waits: "Queue paused by anna: repairs"; null if the API gives no reason. */
export function waitReason(job) {
  const reason = job.reason?.replace(/^its queue is paused/, "Queue paused");
  return reason?.replace("; its queue is paused", "; queue paused") ?? null;
}

/** The end of the last attempt of a job that waits for the next one: "attempt 1 failed (exit 7),
    again in 28 s"; "" for any other job. */
export function describeRetry(job, now) {
  const last = job.status === "queued" ? job.attempts?.at(-1) : null;
  if (!last?.status || last.status === "running") {
    return "";
  }
  const exit = formatExit(last);
  const ended = `attempt ${last.number} ${formatStatus(last.status)}${exit ? ` (${exit})` : ""}`;
  return `${ended}, ${formatStart(job, now) || "again soon"}`;
}

/** What happens to a running job that is being cancelled. `since` is the time of the cancel, in
    milliseconds; undefined if this browser did not see it. */
export function describeCancel(since, now) {
  if (since === undefined) {
    return `cancelling, SIGKILL within ${KILL_DELAY} s`;
  }
  const left = Math.ceil(KILL_DELAY - (now - since) / 1000);
  return left > 0 ? `cancelling, SIGKILL in ${left} s` : "cancelling, SIGKILL sent";
}

/** How far a job has come. Of two reports about a job, the one that is further is the newer. */
export function progressOf(job) {
  if (job.status !== "queued" && job.status !== "running") {
    return Number.POSITIVE_INFINITY;
  }
  return 2 * (job.attempt ?? 1) + (job.status === "running" ? 1 : 0);
}
