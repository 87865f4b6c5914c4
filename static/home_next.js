/* The schedules of the home: what starts in the next 24 hours. Pure. */

import { escapeHtml, formatNext, formatRoughly, formatStatus, HOUR, statusIcon } from "./format.js";

const DAY = 24 * HOUR;
const MOST = 12; // rows

/** Schedules that start within a day, the next first; then those that are paused. */
export function nextSchedules(schedules, now) {
  const active = schedules.filter((schedule) => schedule.next_run && !schedule.paused);
  active.sort((one, other) => time(one) - time(other));
  const soon = active.filter((schedule) => time(schedule) < now + DAY);
  const paused = schedules.filter((schedule) => schedule.paused);
  return { rows: [...soon, ...paused], later: active[soon.length] };
}

function time(schedule) {
  return Date.parse(schedule.next_run);
}

/** `context` has `statuses`, `now`, the visitor's time `zone`, and `link(change)`. */
export function nextHtml(schedules, context) {
  if (schedules.length === 0) {
    return '<p class="faint">No saved command has a schedule.</p>';
  }
  const { rows, later } = nextSchedules(schedules, context.now);
  const items = rows.slice(0, MOST).map((schedule) => rowHtml(schedule, context));
  const list = items.length > 0 ? `<ul class="home-items">${items.join("")}</ul>` : "";
  return list + restHtml(rows, later, context.now);
}

function restHtml(rows, later, now) {
  if (rows.length > MOST) {
    return `<p class="faint">And ${rows.length - MOST} more.</p>`;
  }
  if (!later || rows.some((schedule) => !schedule.paused)) {
    return "";
  }
  const next = `${later.saved}, ${formatNext(time(later), now)}`;
  return `<p class="faint">Nothing starts in the next 24 hours. Next: ${escapeHtml(next)}.</p>`;
}

function rowHtml(schedule, context) {
  const name = escapeHtml(schedule.saved);
  const zone = schedule.zone === context.zone ? "" : ` ${schedule.zone}`;
  const cron = escapeHtml(`${schedule.cron}${zone}`);
  return (
    `<li class="home-item next">${whenHtml(schedule, context.now)}` +
    `<span class="home-text"><a class="home-name" href="?saved=${encodeURIComponent(schedule.saved)}" ` +
    `data-act="open-saved" data-name="${name}" data-key="next ${name}"><b>${name}</b></a>` +
    `<code class="home-cron">${cron}</code></span>${lastHtml(schedule, context)}</li>`
  );
}

function whenHtml(schedule, now) {
  if (schedule.paused) {
    return '<span class="home-when paused">paused</span>';
  }
  const at = time(schedule);
  const rest = `in ${formatRoughly(at - now)}`;
  const clock = `<time datetime="${escapeHtml(schedule.next_run)}">${escapeHtml(formatNext(at, now))}</time>`;
  return `<span class="home-when">${clock} <span class="faint">${rest}</span></span>`;
}

/** The result of the last run, as a link to its log. */
function lastHtml({ saved, runs }, { statuses, link }) {
  const [last] = runs;
  if (!last) {
    return '<span class="home-last faint">not run yet</span>';
  }
  const href = escapeHtml(link({ job: last.id, at: "" }));
  const label = escapeHtml(`Last run of ${saved}: ${formatStatus(last.status)}`);
  return (
    `<a class="home-last" href="${href}" data-act="go" aria-label="${label}" title="${label}">` +
    `<span class="faint">last</span> ${statusIcon(last.status, statuses)}</a>`
  );
}
