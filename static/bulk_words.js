/* The questions and results of changing many jobs at once. Pure. */

import { formatCount, formatStatus, isEnded } from "./format.js";

const WORDS = {
  rerun: { title: "Run all again", first: "Run", last: " again", done: "run again", button: "Run" },
  cancel: {
    title: "Cancel all",
    first: "Cancel",
    last: "",
    done: "cancelled",
    button: "Cancel all",
  },
  delete: { title: "Delete all", first: "Delete", last: "", done: "deleted", button: "Delete" },
};
export const ACTIONS = Object.keys(WORDS);

export function actionTitle(action) {
  return WORDS[action].title;
}

export function actionButton(action) {
  return WORDS[action].button;
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
  return `There is nothing to ${action === "rerun" ? "run again" : action}.${describeLeftOut(leftOut)}`;
}

function describeLeftOut(count) {
  if (!count) {
    return "";
  }
  const have = count === 1 ? "has" : "have";
  return ` ${formatCount(count)} ${have} already been run again.`;
}

/** How many jobs were changed, and why others were not: each reason once, the most frequent
    first. */
export function bulkResult(action, { count, tried, declined, isStopped }) {
  const done = `${formatCount(tried - declined.length)} of ${formatCount(count)} ${WORDS[action].done}`;
  const stopped = isStopped ? "Stopped: " : "";
  if (declined.length === 0) {
    return `${stopped}${done}.`;
  }
  const reasons = groupReasons(declined).map(([why, times]) => `${formatCount(times)} × ${why}`);
  return `${stopped}${done}. Not done: ${reasons.join("; ")}.`;
}

function groupReasons(reasons) {
  const counts = new Map();
  for (const reason of reasons) {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return [...counts].sort((one, other) => other[1] - one[1]);
}
