/* The timeline: the positions of its bars and ticks, and its HTML. Pure. */

import {
  endTime,
  escapeHtml,
  formatClock,
  formatElapsed,
  HOUR,
  MINUTE,
  startTime,
  statusLook,
} from "./format.js";

const LONGEST = 12 * HOUR; // the longest period that is shown
const LANES = 2; // at most; if none is free, a bar covers others in the last one
const TICKS = [1, 5, 15, 30, 60, 120]; // minutes between two ticks
const LEAST_WIDTH = 0.004; // share of the width, so that even the shortest job can be clicked

/** Bars and ticks with positions from 0 to 1; null if no job ran in the last 12 hours. */
export function layOutTimeline(jobs, now) {
  const earliest = now - LONGEST;
  const ran = jobs.filter((job) => job.started_at && endTime(job, now) > earliest);
  if (ran.length === 0) {
    return null;
  }
  ran.sort((a, b) => startTime(a) - startTime(b));
  const from = Math.max(earliest, Math.min(now - MINUTE, startTime(ran[0])));
  const place = (time) => Math.min(1, Math.max(0, (time - from) / (now - from)));
  const bars = placeBars(ran, place, now);
  return { bars, ticks: placeTicks(from, now, place), lanes: countLanes(bars) };
}

function placeBars(jobs, place, now) {
  const laneEnds = [];
  return jobs.map((job) => {
    const left = Math.min(place(startTime(job)), 1 - LEAST_WIDTH);
    const right = Math.max(place(endTime(job, now)), left + LEAST_WIDTH);
    const free = laneEnds.findIndex((end) => end <= left);
    const lane = free >= 0 ? free : Math.min(laneEnds.length, LANES - 1);
    laneEnds[lane] = Math.max(laneEnds[lane] ?? 0, right);
    return { job, left, right, lane };
  });
}

function countLanes(bars) {
  return 1 + Math.max(...bars.map((bar) => bar.lane));
}

function placeTicks(from, now, place) {
  const minutes = TICKS.find((each) => (now - from) / (each * MINUTE) < 6) ?? TICKS.at(-1);
  const step = minutes * MINUTE;
  const ticks = [];
  for (let time = Math.ceil(from / step) * step; time < now - (now - from) / 12; time += step) {
    ticks.push({ time, left: place(time) });
  }
  return ticks;
}

const percent = (share) => `${(100 * share).toFixed(2)}%`;

/** `link(job, attributes)` returns the opening tag of a link to a job. */
export function timelineHtml({ bars, ticks, lanes }, statuses, now, link) {
  const ticksHtml = ticks.map(
    ({ time, left }) => `<small style="left:${percent(left)}">${formatClock(time, now)}</small>`,
  );
  const barsHtml = bars.map(({ job, left, right, lane }) => {
    const { colour } = statusLook(job.status, statuses);
    const place = `left:${percent(left)};width:${percent(right - left)};--lane:${lane}`;
    const title = escapeHtml(`${job.title}, ${formatElapsed(job, now)}`);
    const style = `${place};background:${escapeHtml(colour)}`;
    return `${link(job, `tabindex="-1" title="${title}" style="${style}"`)}</a>`;
  });
  return (
    `<div class="ticks-row">${ticksHtml.join("")}</div>` +
    `<div class="bars-row" style="--lanes:${lanes}">${barsHtml.join("")}</div>`
  );
}
