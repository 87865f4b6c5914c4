/* The time before each line of a log: off, the time of day, or the time since the job started. Pure.

   The API reports times to the millisecond, but it samples the log, so a time is when the line was
   first seen: seconds are precise enough in the column, and the tooltip has the rest. */

import { escapeHtml, formatDuration } from "./format.js";

export const TIMES = ["off", "clock", "since"];

/** The setting as it was stored; it was once a boolean. */
export function readTimes(stored) {
  if (stored === true) {
    return "clock";
  }
  return TIMES.includes(stored) ? stored : "off";
}

/** The HTML of a line's time, "" without one. `times` has `how`, one of TIMES, and `startedAt`, in
    milliseconds or NaN. */
export function timeHtml(stamp, times) {
  return stamp
    ? `<time datetime="${escapeHtml(stamp)}">${escapeHtml(formatLineTime(stamp, times))}</time>`
    : "";
}

export function formatLineTime(stamp, { how, startedAt }) {
  const time = Date.parse(stamp);
  return how === "since" && startedAt <= time + 1000
    ? formatSince(time - startedAt)
    : new Date(time).toTimeString().slice(0, 8);
}

/** 0:05, 12:34, 1:02:03. */
function formatSince(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const two = (number) => String(number % 60).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

/** For the tooltip: the local date and time, and the time since the job started. */
export function describeLineTime(stamp, startedAt) {
  const time = new Date(stamp);
  const clock = `${time.toLocaleDateString()} ${time.toTimeString().slice(0, 8)}`;
  const milliseconds = String(time.getMilliseconds()).padStart(3, "0");
  const since = time - startedAt;
  return `${clock}.${milliseconds}${since >= 0 ? `, ${formatDuration(since)} after the start` : ""}`;
}
