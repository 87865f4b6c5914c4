/* Whether a running job is late or silent, by what the API says is usual for it, in words. Pure. */

import { elapsed, formatUsual, SECOND } from "./format.js";

/** How long such a job usually takes, in milliseconds; undefined if that is not known. */
export function usualTime({ usual }) {
  return usual && usual.seconds !== null ? usual.seconds * SECOND : undefined;
}

export function isLate(job, now) {
  const isKnown = job.status === "running" && job.usual && job.usual.late_after !== null;
  return Boolean(isKnown) && elapsed(job, now) >= job.usual.late_after * SECOND;
}

export function isSilent(job, now) {
  const { silent_after: limit = null, silent_since: since } = job.usual ?? {};
  const isKnown = job.status === "running" && limit !== null && Boolean(since);
  return isKnown && now - Date.parse(since) >= limit * SECOND;
}

/** "usually 36 s, now 2 min", "silent for 14 min, never longer than 40 s before", or both; "" if the
    job is neither late nor silent. */
export function signText(job, now) {
  const texts = [
    isLate(job, now) ? lateText(job, now) : "",
    isSilent(job, now) ? silentText(job, now) : "",
  ];
  return texts.filter(Boolean).join("; ");
}

export function lateText(job, now) {
  const time = formatUsual(elapsed(job, now));
  const usual = usualTime(job);
  return usual === undefined
    ? `running for ${time}, expected at most ${formatUsual(job.usual.late_after * SECOND)}`
    : `usually ${formatUsual(usual)}, now ${time}`;
}

function silentText({ usual }, now) {
  const time = formatUsual(now - Date.parse(usual.silent_since));
  return `silent for ${time}, never longer than ${formatUsual(usual.longest_pause * SECOND)} before`;
}
