/* The names of the home: a row for each job name or saved command, with a bar for each of its last
   runs. Pure. */

import { NO_FILTERS } from "./address.js";
import {
  escapeHtml,
  formatClock,
  formatCount,
  formatDuration,
  formatStatus,
  formatUsual,
  SECOND,
} from "./format.js";

const LEAST_HEIGHT = 12; // percent, so that the shortest run can be seen
const CAPTIONS =
  '<li class="home-captions" aria-hidden="true"><span></span><span>oldest to newest run</span>' +
  "<span>median</span><span>success</span><span></span></li>";
const ID_TIME = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-/;

/** The names after what the server has sent: all of them, or what has changed in `known`. The name
    with the newest run comes first; IDs sort by time. */
export function applyNames(known, sent) {
  if (sent.names) {
    return sent;
  }
  const byName = new Map([...known.names, ...sent.changed].map((entry) => [entry.name, entry]));
  for (const name of sent.gone) {
    byName.delete(name);
  }
  const newest = (entry) => entry.runs.at(-1)[0];
  const names = [...byName.values()].sort((one, other) => (newest(one) < newest(other) ? 1 : -1));
  return { names, more: sent.more, complete: sent.complete };
}

/** `context` has `statuses`, `isDown` (is the API unreachable?) and `link(change)`. */
export function namesHtml({ names, more, complete }, context) {
  if (names.length === 0) {
    return '<p class="faint">No job has ended in the last 14 days.</p>';
  }
  const link = linkMaker(context.link);
  const rows = names.map((entry) => rowHtml(entry, { ...context, link }));
  const notes = [
    more > 0 ? `${formatCount(more)} more names are not shown.` : "",
    complete ? "" : "Older jobs are still being read…",
  ];
  const rest = notes.filter(Boolean).map((note) => `<p class="faint">${note}</p>`);
  return `<ul class="home-names">${CAPTIONS}${rows.join("")}</ul>${rest.join("")}`;
}

/** Returns a function that makes the links of jobs. There can be more than a thousand, so the parts
    that they share are made once. */
function linkMaker(link) {
  const [before, after] = link({ job: "JOB", at: "" }).split("JOB").map(escapeHtml);
  const ofJob = (id) => `${before}${escapeHtml(encodeURIComponent(id))}${after}`;
  return { ofJob, of: (change) => escapeHtml(link(change)) };
}

function rowHtml(entry, context) {
  const { name, saved, succeeded, ended } = entry;
  const title = escapeHtml(name);
  const list = context.link.of({ ...NO_FILTERS, q: entry.title ?? name, list: "1" });
  return (
    `<li><a class="home-name" href="${list}" data-act="go" data-key="name ${title}" title="${title}"><b>${title}</b></a>` +
    `${runsHtml(entry, context)}` +
    `<span class="home-median"><span class="unseen">median </span>${medianText(entry.median)}</span>` +
    `<span class="home-rate" title="${succeeded} of ${ended} succeeded">${rateText(succeeded, ended)}</span>` +
    `${saved ? runHtml(title, context.isDown) : '<span class="home-run"></span>'}</li>`
  );
}

function runHtml(title, isDown) {
  return (
    `<span class="home-run"><button type="button" data-needs="run-saved" data-act="open-saved" data-name="${title}" ` +
    `data-key="run ${title}" ${isDown ? "disabled" : ""}>Run<span class="unseen"> ${title}</span></button></span>`
  );
}

function medianText(seconds) {
  return seconds === null ? "–" : escapeHtml(formatUsual(seconds * SECOND));
}

/** 100 % only if all have succeeded. */
export function rateText(succeeded, ended) {
  const percent = (100 * succeeded) / ended;
  return `${percent > 99 && succeeded < ended ? 99 : Math.round(percent)} %`;
}

/** The bars, oldest first. Tab reaches the newest; the arrow keys move to the others. */
function runsHtml({ name, runs }, context) {
  const longest = Math.max(...runs.map(([, , seconds]) => seconds ?? 0), 0.001);
  const bars = runs.map(([id, status, seconds], index) => {
    const height = Math.max(LEAST_HEIGHT, Math.round((100 * (seconds ?? 0)) / longest));
    const tab = index === runs.length - 1 ? 0 : -1;
    const colour = `var(--tailboard-${status in context.statuses ? status : "lost"})`;
    return (
      `<a href="${context.link.ofJob(id)}" data-act="go" tabindex="${tab}" ` +
      `aria-label="${escapeHtml(runText(status, seconds))}">` +
      `<u style="height:${height}%;background:${colour}"></u></a>`
    );
  });
  return `<span class="home-runs" role="group" aria-label="Last runs of ${escapeHtml(name)}">${bars.join("")}</span>`;
}

function runText(status, seconds) {
  const time = seconds === null ? "" : `, ${formatDuration(seconds * SECOND)}`;
  return `${formatStatus(status)}${time}`;
}

/** The tooltip of a bar: what its accessible name says, and when the job was submitted. Formatting a
    date is slow, so the tooltips are made when they are needed. */
export function barTooltip(label, id, now) {
  const found = ID_TIME.exec(id);
  if (!found) {
    return label;
  }
  const [year, month, ...rest] = found.slice(1).map(Number);
  return `${label}, ${formatClock(Date.UTC(year, month - 1, ...rest), now)}`;
}
