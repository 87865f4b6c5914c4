/* The table with the details of a job. Pure. */

import {
  escapeHtml,
  formatAttempt,
  formatBytes,
  formatCount,
  formatDuration,
  formatMoment,
  formatRoughly,
  formatStatus,
} from "./format.js";
import { jobLink, linkIds } from "./job_links.js";
import { orderRows, relatedJobs } from "./job_order.js";
import { endLine } from "./job_reason.js";
import { noticesTable } from "./notice_words.js";
import { savedLink } from "./saved_text.js";

const HOUR = 3_600_000; // milliseconds

/** A time in words. Its tooltip has the time as the API writes it, in UTC. */
function timeHtml(text, now) {
  if (!text) {
    return "";
  }
  const words = escapeHtml(formatMoment(Date.parse(text), now));
  return `<time datetime="${escapeHtml(text)}" title="${escapeHtml(text)}">${words}</time>`;
}

function optional(value, format) {
  return value === null || value === undefined ? null : format(value);
}

/** "the newest 10 runs, for 30 days": the rules of its own by which the job is kept. */
function keptText({ keep_runs: runs = null, keep_days: days = null }) {
  const parts = [
    runs === null ? "" : runs === 1 ? "the newest run" : `the newest ${formatCount(runs)} runs`,
    days === null ? "" : days === 1 ? "for a day" : `for ${formatCount(days)} days`,
  ];
  return parts.filter(Boolean).join(", ");
}

/** "3, 12.0 KiB": the job's files at its end. */
function filesText({ files_count: count = null, files_bytes: bytes = null, keep_files: keeps }) {
  const parts = [
    count ? formatCount(count) : "",
    count && bytes !== null ? formatBytes(bytes) : "",
    keeps ? "kept of each attempt" : "",
  ];
  return parts.filter(Boolean).join(", ");
}

/** Names and values of the details that this job has, as text. */
function textRows(job) {
  const line = endLine(job);
  const rows = [
    ["Status", formatStatus(job.status)],
    [line?.label.replace(":", ""), line?.text],
    ["Exit code", job.exit_code],
    ["Submitted by", job.submitted_by],
    ["Queue", job.queue],
    ["Working folder", job.cwd],
    ["Time limit", optional(job.timeout, (seconds) => formatDuration(1000 * seconds))],
    ["Memory limit", optional(job.max_memory, formatBytes)],
    ["Priority", job.nice],
    ["Log limit", optional(job.log_max_bytes, formatBytes)],
    ["Kept", keptText(job)],
    ["Attempt", job.retries > 0 ? formatAttempt(job) : null],
    ["Secrets", [...(job.secrets ?? []), ...(job.secret_params ?? [])].join(", ")],
    ["Worker", job.worker],
    ["Machine", job.host],
    ["PID", job.pid],
    ["CPU time", optional(job.cpu_seconds, (seconds) => formatDuration(1000 * seconds))],
    ["Peak memory", optional(job.max_rss_bytes, formatBytes)],
    ["Log", optional(job.log_size, formatBytes)],
    ["Files", filesText(job)],
  ];
  return rows.map(([name, value]) => [name, escapeHtml(value)]);
}

function timeRows(job, now) {
  return [
    ["Submitted", timeHtml(job.submitted_at, now)],
    ["Started", timeHtml(job.started_at, now)],
    ["Finished", timeHtml(job.finished_at, now)],
  ];
}

/** When the job is deleted, and why then; or why it is kept. The tooltip has the local time. */
function retentionHtml(retention, now) {
  if (!retention) {
    return "";
  }
  const reason = escapeHtml(retention.reason);
  if (!retention.delete_at) {
    return reason;
  }
  const time = new Date(retention.delete_at);
  const left = time - now < HOUR ? "soon" : `in ${formatLeft(time - now)}`;
  const at = escapeHtml(retention.delete_at);
  const tooltip = escapeHtml(time.toLocaleString());
  return `deleted <time datetime="${at}" title="${tooltip}">${left}</time>: ${reason}`;
}

function formatLeft(milliseconds) {
  const days = Math.floor(milliseconds / (24 * HOUR));
  if (days === 0) {
    return formatRoughly(milliseconds);
  }
  return days === 1 ? "1 day" : `${formatCount(days)} days`;
}

/** The job or the saved command that the job was made from. */
function originRows({ saved, rerun_of: rerunOf }, titleOf) {
  const name = escapeHtml(saved);
  return [
    [
      "Saved command",
      saved && `<a href="${escapeHtml(savedLink(saved))}" data-saved="${name}">${name}</a>`,
    ],
    ["Rerun of", rerunOf && jobLink(rerunOf, titleOf)],
  ];
}

/** The table. It shows only the names of environment variables; a button reveals each value.
    `known`: the jobs that the page knows, by ID. */
export function detailsHtml(job, revealed, now, known = new Map()) {
  const titleOf = (id) => known.get(id)?.title;
  const rows = [
    ["ID", escapeHtml(job.id)],
    ...originRows(job, titleOf),
    ["Reason", linkIds(job.reason, titleOf)],
    ...orderRows(job, relatedJobs(job, known.values()), titleOf),
    ...timeRows(job, now),
    ["Retention", retentionHtml(job.retention, now)],
    ...textRows(job),
  ]
    .filter(([, html]) => html)
    .map(([name, html]) => rowHtml(name, html));
  const variables = job.env_names.map((name) => variableHtml(name, revealed[name]));
  return (
    `<table><tbody>${rows.join("")}</tbody></table>` +
    noticesTable(job.notifications ?? [], now) +
    variablesHtml(variables) +
    attemptsHtml(job.attempts ?? [], now)
  );
}

function rowHtml(name, html) {
  return `<tr><th scope="row">${escapeHtml(name)}</th><td>${html}</td></tr>`;
}

function variablesHtml(variables) {
  if (variables.length === 0) {
    return "";
  }
  return `<table><caption>Environment</caption><tbody>${variables.join("")}</tbody></table>`;
}

function variableHtml(name, value) {
  const shown =
    value === undefined
      ? `<button type="button" class="reveal" data-name="${escapeHtml(name)}">Show value</button>`
      : `<code>${escapeHtml(value)}</code>`;
  return rowHtml(name, shown);
}

/** A table of the attempts, if there were several. */
function attemptsHtml(attempts, now) {
  if (attempts.length < 2) {
    return "";
  }
  const rows = attempts.map((attempt) => {
    const cells = [
      formatCount(attempt.number),
      escapeHtml(attempt.status && formatStatus(attempt.status)),
      escapeHtml(attempt.exit_code),
      timeHtml(attempt.started_at, now),
      timeHtml(attempt.finished_at, now),
    ];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const names = ["Attempt", "Status", "Exit code", "Started", "Finished"];
  const head = names.map((name) => `<th scope="col">${name}</th>`).join("");
  return (
    `<table class="attempts"><caption>Attempts</caption><thead><tr>${head}</tr></thead>` +
    `<tbody>${rows.join("")}</tbody></table>`
  );
}
