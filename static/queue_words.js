/* What a worker serves and what a queue contains, in words. Pure. */

import { formatCount } from "./format.js";

const EXCLUDES = "!"; // before the name of a queue that a worker does not serve

/** The queues that a worker serves: "a, b", "all but a"; "" if it serves all. */
export function servedText(queues) {
  const isExclusion = queues.length > 0 && excludes(queues);
  const names = queueNames(queues).join(", ");
  return isExclusion ? `all but ${names}` : names;
}

/** The queues that a worker names, whether it serves them or not. */
export function queueNames(queues) {
  return queues.map((name) => name.replace(EXCLUDES, ""));
}

export function servesQueue(queues, queue) {
  if (queues.length === 0) {
    return true;
  }
  return excludes(queues) ? !queues.includes(`${EXCLUDES}${queue}`) : queues.includes(queue);
}

function excludes(queues) {
  return queues.every((name) => name.startsWith(EXCLUDES));
}

/** How many jobs of a queue run and wait: "1 of 2 running, 3 waiting". */
export function queueCounts({ running = 0, queued = 0, limit = null }) {
  const share = limit === null ? formatCount(running) : `${formatCount(running)} of ${limit}`;
  return [
    running > 0 || limit !== null ? `${share} running` : "",
    queued > 0 ? `${formatCount(queued)} waiting` : "",
  ]
    .filter(Boolean)
    .join(", ");
}
