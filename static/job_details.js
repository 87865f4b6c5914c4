/* The table with the details of a job. Pure. */

import {
  escapeHtml,
  formatAttempt,
  formatBytes,
  formatCount,
  formatDuration,
  formatStatus,
} from "./format.js";
import { savedLink } from "./saved_text.js";

function formatTime(text) {
  return text ? new Date(text).toLocaleString() : null;
}

/** Names and values of the details that this job has. */
export function detailRows(job) {
  const known = (value, format) => (value === null || value === undefined ? null : format(value));
  const rows = [
    ["ID", job.id],
    ["Status", formatStatus(job.status)],
    ["Reason", job.reason],
    ["Why it failed", job.hint],
    ["Exit code", job.exit_code],
    ["Submitted", formatTime(job.submitted_at)],
    ["Submitted by", job.submitted_by],
    ["Started", formatTime(job.started_at)],
    ["Finished", formatTime(job.finished_at)],
    ["Queue", job.queue],
    ["Working folder", job.cwd],
    ["Timeout", known(job.timeout, (seconds) => formatDuration(1000 * seconds))],
    ["Attempt", job.retries > 0 ? formatAttempt(job) : null],
    ["Rerun of", job.rerun_of],
    ["Worker", job.worker],
    ["Host", job.host],
    ["Process ID", job.pid],
    ["CPU time", known(job.cpu_seconds, (seconds) => formatDuration(1000 * seconds))],
    ["Peak memory", known(job.max_rss_bytes, formatBytes)],
    ["Log", known(job.log_size, formatBytes)],
  ];
  return rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
}

/** The table. It shows only the names of environment variables; a button reveals each value. */
export function detailsHtml(job, revealed) {
  const rows = detailRows(job).map(
    ([name, value]) => `<tr><th scope="row">${name}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  rows.unshift(savedHtml(job));
  rows.push(...job.env_names.map((name) => variableHtml(name, revealed[name])));
  return `<table><tbody>${rows.join("")}</tbody></table>${attemptsHtml(job.attempts ?? [])}`;
}

/** A link to the saved command that the job was started from. */
function savedHtml({ saved }) {
  if (!saved) {
    return "";
  }
  const link = `<a href="${escapeHtml(savedLink(saved))}" data-saved="${escapeHtml(saved)}">${escapeHtml(saved)}</a>`;
  return `<tr><th scope="row">Saved command</th><td>${link}</td></tr>`;
}

function variableHtml(name, value) {
  const shown =
    value === undefined
      ? `<button type="button" class="reveal" data-name="${escapeHtml(name)}">Show value</button>`
      : `<code>${escapeHtml(value)}</code>`;
  return `<tr><th scope="row">${escapeHtml(name)}</th><td>${shown}</td></tr>`;
}

/** A table of the attempts, if there were several. */
function attemptsHtml(attempts) {
  if (attempts.length < 2) {
    return "";
  }
  const rows = attempts.map((attempt) => {
    const cells = [
      formatCount(attempt.number),
      formatStatus(attempt.status),
      attempt.exit_code,
      formatTime(attempt.started_at),
      formatTime(attempt.finished_at),
    ];
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join("")}</tr>`;
  });
  const names = ["Attempt", "Status", "Exit code", "Started", "Finished"];
  const head = names.map((name) => `<th scope="col">${name}</th>`).join("");
  return (
    `<table class="attempts"><caption>Attempts</caption><thead><tr>${head}</tr></thead>` +
    `<tbody>${rows.join("")}</tbody></table>`
  );
}
