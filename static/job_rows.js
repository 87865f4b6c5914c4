/* The rows of the list: which jobs are folded into one row, and the HTML of each row. Pure. */

import {
  elapsed,
  escapeHtml,
  formatClock,
  formatCount,
  formatDuration,
  formatElapsed,
  formatExit,
  formatRoughly,
  formatStart,
  formatStatus,
  isEnded,
  median,
  statusIcon,
  statusLook,
} from "./format.js";
import { nameIds } from "./job_links.js";
import { endLine, shortReason } from "./job_reason.js";

const LEAST_FOLDED = 3; // neighbours with the same title
const BARS = 20; // in a folded row
const TENTHS_BELOW = 10_000; // milliseconds; longer durations are rounded
const OVERDUE = 1.5; // times the usual duration
const SCHEDULE = "schedule"; // the `submitted_by` of scheduled jobs
const LEAST_OVERDUE = 5000; // milliseconds more than usual

/** Applies changes to a list: rows that are new or have changed, and IDs of jobs that are no longer
    listed. The result is newest first; IDs sort by time. */
export function applyChanges(jobs, { rows, gone }) {
  const byId = new Map([...jobs, ...rows].map((job) => [job.id, job]));
  for (const id of gone) {
    byId.delete(id);
  }
  return [...byId.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
}

/** For each title, the median duration of the jobs that succeeded, in milliseconds. */
export function usualDurations(jobs) {
  const byTitle = new Map();
  for (const job of jobs) {
    if (job.status === "succeeded" && job.started_at) {
      const times = byTitle.get(job.title) ?? [];
      times.push(elapsed(job, 0));
      byTitle.set(job.title, times);
    }
  }
  return new Map([...byTitle].map(([title, times]) => [title, median(times)]));
}

export function isOverdue(job, usual, now) {
  if (isEnded(job) || !job.started_at || !usual) {
    return false;
  }
  return elapsed(job, now) > Math.max(usual * OVERDUE, usual + LEAST_OVERDUE);
}

/** The rows of the list. Neighbours that have ended and have the same title share a row, unless the
    visitor has unfolded it. A row keeps its key when newer jobs join it. */
export function foldRows(jobs, unfolded) {
  const rows = [];
  for (const group of groupNeighbours(jobs)) {
    const key = `fold ${group.at(-1).id}`;
    if (group.length < LEAST_FOLDED) {
      rows.push(...group.map((job) => ({ key: job.id, job })));
    } else if (unfolded.has(key)) {
      const folded = { key, jobs: group, open: true };
      rows.push(folded, ...group.map((job) => ({ key: job.id, job, inside: true })));
    } else {
      rows.push({ key, jobs: group, open: false });
    }
  }
  return rows;
}

function groupNeighbours(jobs) {
  const groups = [];
  for (const job of jobs) {
    const last = groups.at(-1)?.at(-1);
    if (last && isEnded(last) && isEnded(job) && last.title === job.title) {
      groups.at(-1).push(job);
    } else {
      groups.push([job]);
    }
  }
  return groups;
}

/** The content of a row with one job. */
export function jobRowHtml(job, context) {
  const { statuses, usual, now, watched, paused, named, titleOf } = context;
  const overdue = isOverdue(job, usual, now);
  return (
    statusIcon(job.status, statuses) +
    nameHtml(job, titleOf) +
    (watched ? '<span class="took" title="You will be notified when it ends">notify</span>' : "") +
    progressHtml(job, usual, now, overdue) +
    (named ? initialsHtml(job) : "") +
    `<span class="unseen">${escapeHtml(formatExit(job))}</span>` +
    `<span class="took${overdue ? " overdue" : ""}">${escapeHtml(rowTime(job, now, paused))}</span>` +
    `<span class="when">${escapeHtml(formatClock(rowMoment(job), now))}</span>`
  );
}

/** The job's title and, in the remaining room, why it waits or ended badly, and the values of its
    params. */
function nameHtml(job, titleOf = () => undefined) {
  const given = Object.entries(job.values ?? {}).map(([name, value]) => `${name}=${value}`);
  const values =
    given.length > 0 ? `<span class="values">${escapeHtml(given.join(" "))}</span>` : "";
  const reason = nameIds(shortReason(job), titleOf);
  const kind = job.status === "queued" ? "hint wait" : "hint";
  const hint = reason ? `<span class="${kind}">${escapeHtml(reason)}</span>` : "";
  return `<span class="what"><b class="name">${escapeHtml(job.title)}</b>${hint}${values}</span>`;
}

/** Who started the job, in one or two letters. A schedule is nobody. */
function initialsHtml({ submitted_by: name }) {
  if (!name || name === SCHEDULE) {
    return "";
  }
  return (
    `<span class="initials" title="${escapeHtml(name)}" aria-hidden="true">${escapeHtml(initials(name))}</span>` +
    `<span class="unseen">started by ${escapeHtml(name)}</span>`
  );
}

/** "AS" for anna.schmidt, "AN" for anna. */
export function initials(name) {
  const [first = "?", second] = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = second ? [...first][0] + [...second][0] : [...first].slice(0, 2).join("");
  return letters.toUpperCase();
}

function rowMoment(job) {
  return Date.parse(job.started_at ?? job.submitted_at);
}

/** How long a job has run; for a queued job, why or how long it has waited. */
function rowTime(job, now, paused = new Set()) {
  if (job.status === "queued" && paused.has(job.queue)) {
    return "paused";
  }
  const start = formatStart(job, now);
  if (start) {
    return start;
  }
  if (job.status === "queued") {
    const word = job.urgent ? "urgent" : "queued";
    return `${word} ${formatRoughly(now - Date.parse(job.submitted_at))}`;
  }
  return formatElapsed(job, now).replace(/ min .*/, " min");
}

/** A short form of a duration, with tenths of a second below TENTHS_BELOW. */
export function formatUsual(milliseconds) {
  const isShort = milliseconds < TENTHS_BELOW;
  return isShort ? formatDuration(milliseconds) : formatRoughly(milliseconds);
}

/** A bar that compares the time a job has run with its usual duration. */
function progressHtml(job, usual, now, overdue) {
  if (job.status !== "running" || !usual) {
    return "";
  }
  const share = Math.min(1, elapsed(job, now) / usual);
  const kind = overdue ? "progress overdue" : "progress";
  return (
    `<span class="${kind}" title="usually ${escapeHtml(formatUsual(usual))}">` +
    `<u style="width:${Math.round(100 * share)}%"></u></span>`
  );
}

/** The content of a row with several jobs: their number, and a bar for each of the newest. */
export function foldRowHtml({ jobs, open }, { statuses, usual, now, more, titleOf }) {
  const [newest] = jobs;
  const count = `${open ? "▾" : "▸"} ×${formatCount(jobs.length)}${more ? "+" : ""}`;
  const usually = usual ? `usually ${formatUsual(usual)}` : "";
  return (
    statusIcon(newest.status, statuses) +
    nameHtml(newest, titleOf) +
    `<span class="count">${count}</span>${barsHtml(jobs, statuses)}` +
    `<span class="unseen">${open ? "expanded" : "collapsed"}, ${escapeHtml(summary(jobs))}</span>` +
    `<span class="took">${escapeHtml(usually)}</span>` +
    `<span class="when">${escapeHtml(formatClock(rowMoment(newest), now))}</span>`
  );
}

/** How the jobs ended: "3 succeeded, 1 timed out". */
function summary(jobs) {
  const counts = new Map();
  for (const { status } of jobs) {
    counts.set(status, (counts.get(status) ?? 0) + 1);
  }
  const parts = [...counts].map(
    ([status, count]) => `${formatCount(count)} ${formatStatus(status)}`,
  );
  return parts.join(", ");
}

/** Small bars, oldest first. The height shows the duration, the colour the status. */
export function barsHtml(jobs, statuses) {
  const last = jobs.slice(0, BARS).reverse();
  const times = last.map((job) => elapsed(job, 0) ?? 0);
  const longest = Math.max(1, ...times);
  const bars = last.map((job, index) => {
    const { colour } = statusLook(job.status, statuses);
    const height = Math.max(10, Math.round((100 * times[index]) / longest));
    return `<u style="height:${height}%;background:${escapeHtml(colour)}"></u>`;
  });
  return `<span class="bars" aria-hidden="true">${bars.join("")}</span>`;
}

/** The tooltip of a row. */
export function jobTooltip(job, now) {
  const parts = [job.title, formatStatus(job.status), formatElapsed(job, now), formatExit(job)];
  parts.push(
    `${formatRoughly(now - rowMoment(job))} ago`,
    `queue ${job.queue}`,
    job.reason,
    endLine(job)?.text,
  );
  return parts.filter(Boolean).join(" · ");
}
