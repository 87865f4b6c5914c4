/* What a job waits for, what waits for it, and what starts after it: for its details and its head.
   Pure. */

import { escapeHtml } from "./format.js";
import { jobLink } from "./job_links.js";
import { savedLink } from "./saved_text.js";

const IF_BUSY = {
  latest: "replaces waiting jobs",
  replace: "replaces waiting and running jobs",
  skip: "is not queued if another job has it",
};
const MOST_SHOWN = 3; // links in the head

/** The jobs that have to do with a job, among those that the page knows: `waiting` for it, and
    `started` by its `then`. */
export function relatedJobs(job, known) {
  const related = { waiting: [], started: [] };
  for (const other of known) {
    if (other.after?.includes(job.id)) {
      related.waiting.push(other.id);
    } else if (job.then && other.reason?.includes(`after ${job.id}`)) {
      related.started.push(other.id);
    }
  }
  return related;
}

/** The rows of a job's details, as [name, HTML]. */
export function orderRows(job, related, titleOf) {
  return [
    ["Key", escapeHtml([job.key, job.key && IF_BUSY[job.if_busy]].filter(Boolean).join(", "))],
    ["Urgent", job.urgent ? "yes" : ""],
    ["After", afterHtml(job, titleOf)],
    ["Waiting for this", linksHtml(related.waiting, titleOf)],
    ["Then", thenHtml(job, related, titleOf)],
  ];
}

function afterHtml({ after = [], after_status: status }, titleOf) {
  const links = linksHtml(after, titleOf);
  return links && status === "ended" ? `${links} (once ended, in whatever way)` : links;
}

function thenHtml({ then }, { started }, titleOf) {
  return then ? [commandLink(then), linksHtml(started, titleOf)].filter(Boolean).join(": ") : "";
}

/** The same in the little room of the head: "after train", "then deploy". The reason of a queued job
    already says what it waits for. */
export function orderHtml({ after = [], then, status }, titleOf) {
  const earlier = status === "queued" ? [] : after;
  const shown = earlier.slice(0, MOST_SHOWN).map((id) => jobLink(id, titleOf));
  const others = earlier.length - shown.length;
  return [
    shown.length > 0 ? `after ${shown.join(", ")}${others > 0 ? ` and ${others} more` : ""}` : "",
    then ? `then ${commandLink(then)}` : "",
  ];
}

/** What starts after the runs of a saved command, and after whose runs it starts. */
export function commandOrderHtml({ saved, then }, commands) {
  const before = commands.filter((command) => command.then === saved);
  const parts = [
    ...before.map((command) => `after ${commandLink(command.saved)}`),
    then ? `then ${commandLink(then)}` : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

function commandLink(saved) {
  const name = escapeHtml(saved);
  return `<a class="job-link" href="${escapeHtml(savedLink(saved))}" data-saved="${name}">${name}</a>`;
}

function linksHtml(ids, titleOf) {
  return ids.map((id) => jobLink(id, titleOf)).join(", ");
}
