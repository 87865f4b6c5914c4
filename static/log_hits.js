/* The results of a search of all logs, grouped by job, and their HTML. Pure. */

import {
  escapeHtml,
  formatBytes,
  formatClock,
  formatCount,
  formatStatus,
  statusIcon,
} from "./format.js";
import { findMatches, plainLine } from "./log_text.js";

const BEFORE = 24; // characters of a long line to show before its first match
const SHOWN = 300; // characters of a line at most

/** Adds matching lines to the groups { job, lines, more }, newest first. */
export function addHits(groups, { hits, more_in: moreIn = [] }) {
  const byId = new Map(groups.map((group) => [group.job.id, { ...group }]));
  for (const { job, ...line } of hits) {
    const group = byId.get(job.id) ?? { job, lines: [], more: false };
    byId.set(job.id, { ...group, job, lines: [...group.lines, line] });
  }
  for (const id of moreIn) {
    const group = byId.get(id);
    if (group) {
      group.more = true;
    }
  }
  return [...byId.values()];
}

/** A line with its matches marked. A long line is cut to the part with the first match. */
export function markedHtml(text, wanted) {
  const line = plainLine(text);
  const [first] = findMatches(line, wanted);
  const from = first && first[0] > 2 * BEFORE ? first[0] - BEFORE : 0;
  const shown = line.slice(from, from + SHOWN);
  let html = from > 0 ? "…" : "";
  let end = 0;
  for (const [begin, after] of findMatches(shown, wanted)) {
    html += `${escapeHtml(shown.slice(end, begin))}<mark>${escapeHtml(shown.slice(begin, after))}</mark>`;
    end = after;
  }
  return html + escapeHtml(shown.slice(end)) + (from + SHOWN < line.length ? "…" : "");
}

/** Joins the groups of jobs that have the same title and the same matching lines: a job that runs
    each minute may write the same line 40 times. The newest job stands for the `others`. */
export function foldGroups(groups) {
  const byContent = new Map();
  for (const group of groups) {
    const texts = group.lines.map(({ text }) => plainLine(text));
    const key = JSON.stringify([group.job.title, group.more, ...texts]);
    const first = byContent.get(key);
    if (first) {
      first.others.push(group);
    } else {
      byContent.set(key, { ...group, others: [] });
    }
  }
  return [...byContent.values()];
}

/** The HTML of a group that foldGroups has made. `context.link(change)` returns the address of a
    place in a log; `context.at` is the place that the log pane shows. */
export function groupHtml(group, context) {
  const { job, lines, more, others } = group;
  const isOpen = context.unfolded?.has(job.id) ?? false;
  const found = lines.map((line) => hitHtml(job, line, context)).join("");
  const rest = more ? '<p class="hit-more">more matches in this log</p>' : "";
  const folded = isOpen ? others.map((other) => headHtml(other, context)).join("") : "";
  const fold = others.length > 0 ? foldHtml(job, others.length + 1, isOpen) : "";
  return `<div class="hit-head">${headHtml(group, context)}${fold}</div>${folded}${found}${rest}`;
}

/** The job and its first matching line as a link. */
function headHtml({ job, lines }, { statuses, now, link }) {
  const when = formatClock(Date.parse(job.submitted_at), now);
  const at = String(lines[0].offset);
  return (
    `<a class="hit-job" href="${escapeHtml(link({ job: job.id, at }))}" data-go="job">` +
    `${statusIcon(job.status, statuses)}<b class="name">${escapeHtml(job.title)}</b>` +
    `<span class="when">${escapeHtml(when)}</span></a>`
  );
}

function foldHtml(job, count, isOpen) {
  const label = `${isOpen ? "▾" : "▸"} ×${formatCount(count)}`;
  return (
    `<button type="button" class="hit-fold" data-go="hits" data-job="${escapeHtml(job.id)}" ` +
    `aria-expanded="${isOpen}" title="The same lines in ${formatCount(count)} jobs">${label}</button>`
  );
}

function hitHtml(job, { offset, line, text }, { wanted, link, at }) {
  const href = escapeHtml(link({ job: job.id, at: String(offset) }));
  const number = line === null ? "" : formatCount(line);
  const isShown = `${job.id} ${offset}` === at;
  return (
    `<a class="hit" href="${href}" data-go="job" aria-current="${isShown}">` +
    `<span class="hit-line">${number}</span><code>${markedHtml(text, wanted)}</code></a>`
  );
}

/** "50+ lines in 12 jobs". */
export function describeFound(groups, isWhole) {
  const lines = groups.reduce((sum, group) => sum + group.lines.length, 0);
  const more = isWhole && !groups.some((group) => group.more) ? "" : "+";
  const noun = lines === 1 && !more ? "line" : "lines";
  const jobs = groups.length === 1 ? "1 job" : `${formatCount(groups.length)} jobs`;
  return `${formatCount(lines)}${more} ${noun} in ${jobs}`;
}

/** The progress of a search. */
export function describeSearched({ jobs, bytes, unreadable }) {
  const noun = jobs === 1 ? "log" : "logs";
  const text = `${formatCount(jobs)} ${noun} searched, ${formatBytes(bytes)}`;
  return unreadable > 0 ? `${text}; ${formatCount(unreadable)} could not be read` : text;
}

/** Which logs are searched. */
export function describeWhere({ status, queue, by }) {
  const which = status ? `the logs of ${formatStatus(status)} jobs` : "all logs";
  const where = queue ? ` in queue ${queue}` : "";
  const whose = by ? ` submitted by ${by}` : "";
  return which + where + whose;
}

/** The message if no log has a match. */
export function describeNowhere(filters) {
  return `No match in ${describeWhere(filters).replace("all logs", "any log")}.`;
}
