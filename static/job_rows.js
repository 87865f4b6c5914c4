/* The rows of the list: which jobs are folded into one row, and the HTML of each row. Pure. */

import {
  elapsed,
  escapeHtml,
  formatClock,
  formatCount,
  formatElapsed,
  formatExit,
  formatRoughly,
  formatStart,
  formatStatus,
  formatUsual,
  isEnded,
  statusIcon,
  statusLook,
} from "./format.js";
import { nameIds } from "./job_links.js";
import { progressBarHtml, progressOfJob, progressText } from "./job_progress.js";
import { endLine, shortReason } from "./job_reason.js";
import { isLate, signText, usualTime } from "./job_signs.js";
import { usageText } from "./usage_words.js";

const LEAST_FOLDED = 3; // neighbours with the same title
const BARS = 20; // in a folded row
const SCHEDULE = "schedule"; // the `submitted_by` of scheduled jobs

/** Applies changes to a list: rows that are new or have changed, and IDs of jobs that are no longer
    listed. The result is newest first; IDs sort by time. */
export function applyChanges(jobs, { rows, gone }) {
  const byId = new Map([...jobs, ...rows].map((job) => [job.id, job]));
  for (const id of gone) {
    byId.delete(id);
  }
  return [...byId.values()].sort((one, other) => (one.id < other.id ? 1 : -1));
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

/** The content of a row with one job. If it is late or silent, the row says so in words. */
export function jobRowHtml(job, context) {
  const { statuses, now, watched, paused, named, titleOf } = context;
  const sign = signText(job, now);
  const time = isLate(job, now) ? "" : rowTime(job, now, paused); // the words name the time
  return (
    statusIcon(job.status, statuses) +
    nameHtml(job, titleOf, sign) +
    (watched ? '<span class="took" title="You will be notified when it ends">notify</span>' : "") +
    barHtml(job, sign, now) +
    (named ? initialsHtml(job) : "") +
    `<span class="unseen">${escapeHtml(formatExit(job))}</span>` +
    (time ? `<span class="took">${escapeHtml(time)}</span>` : "") +
    `<span class="when">${escapeHtml(formatClock(rowMoment(job), now))}</span>`
  );
}

/** The job's title and, in the remaining room, that it is late or silent, or why it waits or ended
    badly, and the values of its params. */
function nameHtml(job, titleOf = () => undefined, sign = "") {
  const given = Object.entries(job.values ?? {}).map(([name, value]) => `${name}=${value}`);
  const values =
    given.length > 0 ? `<span class="values">${escapeHtml(given.join(" "))}</span>` : "";
  const reason = nameIds(shortReason(job), titleOf);
  const kind = job.status === "queued" ? "hint wait" : "hint";
  const why = reason ? `<span class="${kind}">${escapeHtml(reason)}</span>` : "";
  const hint = sign ? `<span class="hint sign">${escapeHtml(sign)}</span>` : why;
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

/** A bar with the job's progress; if it has none, and unless the words say more, one that compares
    the time it has run with its usual duration. */
function barHtml(job, sign, now) {
  const progress = progressOfJob(job);
  if (progress) {
    return progressBarHtml(progress);
  }
  return sign ? "" : usualBarHtml(job, now);
}

function usualBarHtml(job, now) {
  const usual = usualTime(job);
  if (job.status !== "running" || !usual) {
    return "";
  }
  const share = Math.min(1, elapsed(job, now) / usual);
  return (
    `<span class="progress" title="usually ${escapeHtml(formatUsual(usual))}">` +
    `<u style="width:${Math.round(100 * share)}%"></u></span>`
  );
}

/** The content of a row with several jobs: the newest, their number, and a bar for each of the
    newest ones. */
export function foldRowHtml({ jobs, open }, { statuses, now, more, titleOf }) {
  const [newest] = jobs;
  const count = `${open ? "▾" : "▸"} ×${formatCount(jobs.length)}${more ? "+" : ""}`;
  return (
    statusIcon(newest.status, statuses) +
    nameHtml(newest, titleOf) +
    `<span class="count">${count}</span>${barsHtml(jobs, statuses)}` +
    `<span class="unseen">${open ? "expanded" : "collapsed"}, ${escapeHtml(summary(jobs))}</span>` +
    `<span class="took">${escapeHtml(rowTime(newest, now))}</span>` +
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

/** The tooltip of a row. `usage`: what the job uses, as in usage_words.js; undefined if that is not
    known. */
export function jobTooltip(job, now, usage) {
  const parts = [job.title, formatStatus(job.status), formatElapsed(job, now), formatExit(job)];
  const progress = progressOfJob(job);
  parts.push(
    job.status === "running" && usage && usageText(usage),
    progress && progressText(progress),
    signText(job, now),
    `${formatRoughly(now - rowMoment(job))} ago`,
    `queue ${job.queue}`,
    job.reason,
    endLine(job)?.text,
  );
  return parts.filter(Boolean).join(" · ");
}
