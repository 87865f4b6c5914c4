/* The questions and results of changing many jobs at once. Pure. */

import { formatCount, formatStatus, isEnded } from "./format.js";

const WORDS = {
  rerun: {
    title: "Run all again",
    first: "Run",
    last: " again",
    doing: "Running",
    done: "Started",
    nothing: "run again",
  },
  cancel: {
    title: "Cancel all",
    first: "Cancel",
    last: "",
    doing: "Cancelling",
    done: "Cancelled",
    nothing: "cancel",
  },
  delete: {
    title: "Delete all",
    first: "Delete",
    last: "",
    doing: "Deleting",
    done: "Deleted",
    nothing: "delete",
  },
};
export const ACTIONS = Object.keys(WORDS);

export function actionTitle(action) {
  return WORDS[action].title;
}

/** "Run 278 jobs". */
export function actionButton(action, count) {
  return `${WORDS[action].first} ${countJobs(count)}`;
}

/** The label of the button that changes nothing. */
export function keepButton(action) {
  return action === "cancel" ? "Keep them" : "Cancel";
}

/** "Running 12 of 278 again…". */
export function bulkProgress(action, { tried, count }) {
  const { doing, last } = WORDS[action];
  return `${doing} ${formatCount(tried)} of ${formatCount(count)}${last}…`;
}

function countJobs(count) {
  return `${formatCount(count)} ${count === 1 ? "job" : "jobs"}`;
}

/** Does the action apply to jobs with this status? An empty status stands for jobs of any
    status. */
export function isPossible(action, status) {
  const isOpen = !isEnded({ status });
  return status === "" || (action === "cancel" ? isOpen : !isOpen);
}

/** Names the jobs: "12 failed jobs in queue deploy matching “web”". */
export function describeJobs(count, action, { status, queue, by, q }) {
  const open = action === "cancel" ? "queued or running" : "ended";
  const kind = status ? formatStatus(status) : open;
  const noun = count === 1 ? "job" : "jobs";
  const where = queue ? ` in queue ${queue}` : "";
  const whose = by ? ` submitted by ${by}` : "";
  const text = q ? ` matching “${q}”` : "";
  return `${formatCount(count)} ${kind} ${noun}${where}${whose}${text}`;
}

/** The question, with the number of jobs and what a visitor must know before answering. */
export function bulkQuestion(action, filters, { ids, left_out: leftOut, complete }) {
  const { first, last } = WORDS[action];
  const newest = complete ? "" : "the newest ";
  const more = complete ? "" : " More jobs match.";
  const left = describeLeftOut(leftOut);
  const logs = action === "delete" ? " Their logs are deleted, too." : "";
  return `${first} ${newest}${describeJobs(ids.length, action, filters)}${last}?${logs}${left}${more}`;
}

/** The message if no job is left to change, perhaps because all were already run again. */
export function bulkNothing(action, leftOut) {
  const nothing = `Nothing to ${WORDS[action].nothing}`;
  if (!leftOut) {
    return `${nothing}.`;
  }
  return `${nothing}: ${formatCount(leftOut)} ${leftOut === 1 ? "was" : "were"} already run again.`;
}

function describeLeftOut(count) {
  if (!count) {
    return "";
  }
  const were = count === 1 ? "was" : "were";
  return ` ${formatCount(count)} ${were} already run again.`;
}

/** How many jobs were changed, and why others were not: each reason once, the most frequent
    first. */
export function bulkResult(action, { count, tried, declined, isStopped }) {
  const changed = tried - declined.length;
  const all =
    changed === count ? countJobs(count) : `${formatCount(changed)} of ${countJobs(count)}`;
  const done = `${isStopped ? "Stopped. " : ""}${WORDS[action].done} ${all}.`;
  if (declined.length === 0) {
    return done;
  }
  const reasons = groupReasons(declined).map(([why, times]) => `${formatCount(times)} × ${why}`);
  return `${done} Not done: ${reasons.join("; ")}.`;
}

function groupReasons(reasons) {
  const counts = new Map();
  for (const reason of reasons) {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return [...counts].sort((one, other) => other[1] - one[1]);
}
