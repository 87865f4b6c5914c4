/* The running jobs of the home: their HTML, and what changes in it each second. */

import { needOf } from "./access.js";
import { setHtml } from "./dom.js";
import { elapsed, escapeHtml, formatElapsed, formatUsual, statusIcon } from "./format.js";
import { progressBarHtml, progressOfJob, progressText } from "./job_progress.js";
import { isLate, signText, usualTime } from "./job_signs.js";
import { usageText } from "./usage_words.js";

/** The rows without their times and last lines. `asking` is the ID of the job that the visitor may
    be about to cancel; `cancelled` has the IDs of those that the visitor has cancelled. */
export function runningHtml({ jobs, more }, { statuses, link, isDown, asking, cancelled }) {
  const rows = jobs.map((job) => {
    const id = escapeHtml(job.id);
    const href = escapeHtml(link({ job: job.id, at: "" }));
    const by = job.submitted_by
      ? `<span class="home-by" title="started by ${escapeHtml(job.submitted_by)}">${escapeHtml(job.submitted_by)}</span>`
      : "";
    const action = cancelHtml(job, { isDown, isAsking: asking === job.id, cancelled });
    return (
      `<li class="home-item running" data-job="${id}"><span class="home-text">` +
      `<a class="home-name" href="${href}" data-act="go" data-key="job ${id}">` +
      `${statusIcon(job.status, statuses)}<b>${escapeHtml(job.title)}</b></a>${by}` +
      '<span class="home-time"></span><code class="home-line"></code></span>' +
      `${action}</li>`
    );
  });
  const rest = more ? '<p class="faint">Only the newest of the running jobs are shown.</p>' : "";
  return `<ul class="home-items">${rows.join("")}</ul>${rest}`;
}

function cancelHtml(job, { isDown, isAsking, cancelled }) {
  const { id } = job;
  const name = escapeHtml(job.title);
  const needs = needOf("cancel", job);
  const disabled = isDown ? "disabled" : "";
  const button = (act, label, kind = "") =>
    `<button type="button" class="${kind}" data-act="${act}" data-id="${escapeHtml(id)}" ` +
    `data-key="${act} ${escapeHtml(id)}" ${disabled}>${label}<span class="unseen"> ${name}</span></button>`;
  if (cancelled.has(id)) {
    return '<span class="home-buttons faint">Cancelling…</span>';
  }
  if (!isAsking) {
    return `<span class="home-buttons" data-needs="${needs}">${button("ask-cancel", "Cancel")}</span>`;
  }
  return (
    `<span class="home-question" role="group" aria-label="Confirm" data-needs="${needs}">` +
    "<span>Cancel this job? It gets SIGTERM, then SIGKILL after 10 s.</span>" +
    `${button("cancel", "Cancel job", "primary")}${button("keep", "Keep running")}</span>`
  );
}

/** Brings the times, the last lines and the tooltips of the rows in `node` up to date. */
export function updateRunning(node, jobs, { now, lines, usageOf }) {
  for (const job of jobs) {
    const item = node.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (item) {
      setHtml(item.querySelector(".home-time"), timeHtml(job, now));
      drawLine(item.querySelector(".home-line"), lines.get(job.id));
      const usage = usageOf(job.id);
      item.title = usage ? usageText(usage) : "";
    }
  }
}

/** The job's progress, if it has any, and how long it has run beside its usual duration; in words if
    it is late or silent. */
function timeHtml(job, now) {
  const progress = progressOfJob(job);
  if (!progress) {
    return durationHtml(job, now);
  }
  const text = `<span class="progress-text">${escapeHtml(progressText(progress))}</span>`;
  const sign = signText(job, now);
  const words = sign ? `<span class="overdue">${escapeHtml(sign)}</span>` : "";
  const time = `<span class="faint">${escapeHtml(formatElapsed(job, now))}</span>`;
  return `${progressBarHtml(progress)}${text} ${isLate(job, now) ? "" : time} ${words}`;
}

function durationHtml(job, now) {
  const time = escapeHtml(formatElapsed(job, now));
  const sign = signText(job, now);
  if (sign) {
    const words = `<span class="overdue">${escapeHtml(sign)}</span>`;
    return isLate(job, now) ? words : `<span>${time}</span> ${words}`;
  }
  const usual = usualTime(job);
  if (!usual) {
    return time;
  }
  const share = Math.round(100 * Math.min(1, elapsed(job, now) / usual));
  return (
    `<span class="progress" aria-hidden="true"><u style="width:${share}%"></u></span>` +
    `<span>${time}</span> <span class="faint">usually ${escapeHtml(formatUsual(usual))}</span>`
  );
}

function drawLine(node, line) {
  const text = line === "" ? "No output yet." : (line ?? "");
  if (node.textContent !== text) {
    node.textContent = text;
  }
  node.classList.toggle("empty", line === "");
}
