/* Where the lines of a job's processor time and memory are drawn: on a plane WIDTH wide and HEIGHT
   high, whose left and right edges are the times `from` and `to`. Pure. Samples as in
   usage_words.js. */

import { SECOND } from "./format.js";

export const WIDTH = 1000;
export const HEIGHT = 100;
const LEAST_SHADED = 0.004; // of the width
const LEAST_PAUSE = 5; // seconds; there is a sample every 5 s at most
const MOST_PAUSES = 10; // in an explanation
const CLEARLY_LONGER = 1.5;
const NEAR_LIMIT = 4; // a limit is drawn if it is at most so many times the highest value

/** The times at the edges: the job's start and its end, or the last sample while it runs. Null: the
    start or the end is not known. */
export function timesOf(samples, { startedAt, endedAt }) {
  const [first, last] = [samples[0].at, samples.at(-1).at];
  const from = Math.min(first, startedAt ?? first);
  return { from, to: Math.max(last, endedAt ?? last, from + 1) };
}

export function xOf(time, { from, to }) {
  return (WIDTH * (Math.min(to, Math.max(from, time)) - from)) / (to - from);
}

export function yOf(value, top) {
  return HEIGHT - (HEIGHT * value) / top;
}

/** The line of one attempt after the other, as the `d` of an SVG path. `toValue(sample)` is null
    where the line has no value. A value holds since the sample before it, so the line of an attempt
    begins at its first sample, which has no value for the processor. */
export function linePath(samples, toValue, times, top) {
  return attemptsOf(samples)
    .map((attempt) => {
      const values = attempt.map(toValue);
      values[0] ??= values[1] ?? null;
      const points = attempt.map(({ at }, index) => pointText(at, values[index], times, top));
      return `M${points.filter(Boolean).join("L")}`;
    })
    .filter((path) => path.length > 1)
    .join("");
}

function pointText(at, value, times, top) {
  return value === null ? "" : `${xOf(at, times).toFixed(1)} ${yOf(value, top).toFixed(1)}`;
}

/** The samples, divided where an attempt begins. */
function attemptsOf(samples) {
  const attempts = [];
  for (const sample of samples) {
    if (sample.cpu === null || attempts.length === 0) {
      attempts.push([]);
    }
    attempts.at(-1).push(sample);
  }
  return attempts;
}

/** The value at the upper edge of the memory's line. */
export function topOfMemory(most, limit) {
  const isNear = limit !== null && limit <= NEAR_LIMIT * most;
  return Math.max(1, most, isNear ? limit : 0);
}

/** The pauses of an explanation that are worth shading: { from, to } in milliseconds. If it lists
    only the longest ones, the log can have many others that are nearly as long as the shortest of
    them. Then only those that are clearly longer are shaded. */
export function worthShading(pauses) {
  const shortest = pauses.length < MOST_PAUSES ? 0 : Math.min(...pauses.map(secondsOf));
  const least = Math.max(LEAST_PAUSE, CLEARLY_LONGER * shortest);
  return pauses
    .filter((pause) => secondsOf(pause) >= least)
    .map(({ began_at: began, seconds }) => {
      const from = Date.parse(began);
      return { from, to: from + seconds * SECOND };
    });
}

function secondsOf({ seconds }) {
  return seconds;
}

/** The pauses of the log, as SVG: [{ from, to }] in milliseconds. */
export function pausesSvg(pauses, times) {
  const rects = pauses.map(({ from, to }) => {
    const x = xOf(from, times);
    return { x, width: xOf(to, times) - x };
  });
  return rects
    .filter(({ width }) => width >= LEAST_SHADED * WIDTH)
    .map(
      ({ x, width }) =>
        `<rect x="${x.toFixed(1)}" y="0" width="${width.toFixed(1)}" height="${HEIGHT}"/>`,
    )
    .join("");
}

/** The index of the sample that is nearest to a time. */
export function nearestIndex(samples, time) {
  let [low, high] = [0, samples.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle].at < time) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const isBeforeNearer = low > 0 && time - samples[low - 1].at < samples[low].at - time;
  return isBeforeNearer ? low - 1 : low;
}

/** The samples with those that were requested later. Null if some may be missing in between.
    `limit`: how many were requested. */
export function joinSamples(known, newest, limit) {
  if (newest.length < limit || known.length === 0) {
    return newest;
  }
  const last = known.at(-1).at;
  return newest[0].at <= last ? [...known, ...newest.filter(({ at }) => at > last)] : null;
}
