/* What a job waits for, what waits for it, and what starts after it: for its details and its head.
   Pure. */

import { escapeHtml, isEnded } from "./format.js";
import { jobLink } from "./job_links.js";
import { savedLink } from "./saved_text.js";

const IF_BUSY = {
  latest: "replaces waiting jobs",
  replace: "replaces waiting and running jobs",
  skip: "is not queued if another job has it",
};
const MOST_SHOWN = 3; // links in the head

/** The jobs that come after a job, among those that the page knows: those that wait for it or have
    waited, and those that its `then` has started. */
export function relatedJobs(job, known) {
  const related = { following: [], started: [] };
  for (const other of known) {
    if (other.after?.includes(job.id)) {
      const kind = isStartedBy(other, job) ? "started" : "following";
      related[kind].push(other.id);
    }
  }
  return related;
}

/** Was a job that the page knows cancelled because of how this one ended? */
export function hasCancelled(job, known) {
  return [...known].some(
    (other) => other.status === "cancelled" && other.reason?.startsWith(`${job.id} `),
  );
}

function isStartedBy(other, job) {
  return other.reason?.startsWith(`after ${job.id} succeeded`); // as in tailboard/chains.py
}

/** The rows of a job's details, as [name, HTML]. */
export function orderRows(job, related, titleOf) {
  return [
    ["Key", escapeHtml([job.key, job.key && IF_BUSY[job.if_busy]].filter(Boolean).join(", "))],
    ["Urgent", job.urgent ? "yes" : ""],
    ["After", afterHtml(job, titleOf)],
    [isEnded(job) ? "Followed by" : "Waiting for this", linksHtml(related.following, titleOf)],
    ["Then", thenHtml(job, related, titleOf)],
  ];
}

function afterHtml(job, titleOf) {
  const { after = [], after_status: status } = job;
  const links = linksHtml(after, titleOf);
  const takesAnyEnd = status === "ended" && !after.some((id) => isStartedBy(job, { id }));
  return links && takesAnyEnd ? `${links}, however it ends` : links;
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
