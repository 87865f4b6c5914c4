/* The list of a job's files as HTML. Pure. */

import { addressOfFile, countText, describeEntry, viewOf, visibleName } from "./file_names.js";
import { escapeHtml, formatBytes, formatClock, formatCount } from "./format.js";

/** `shown`: the `entries`, whether they are complete, how many files a `line` can show, whether the
    list of more files `isOpen`, and how many it then shows at `most`. `context` has link(entry) for the page and fileUrl(path, parameters) for
    the API. */
export function filesHtml({ entries, isComplete, line, isOpen, most }, context) {
  const { problem } = context;
  const note = problem ? `<p class="files-problem">${escapeHtml(problem)}</p>` : "";
  if (entries.length === 0) {
    return note;
  }
  const isLong = entries.length > line || !isComplete;
  const words = escapeHtml(countText(entries, isComplete));
  const count = isLong
    ? `<button type="button" class="files-toggle" data-act="toggle" data-focus="toggle" aria-expanded="${isOpen}">${words}</button>`
    : `<span class="files-count">${words}</span>`;
  const few = isLong ? "" : listHtml(entries, "files-few", context);
  const all = isLong && isOpen ? listHtml(entries.slice(0, most), "files-all", context) : "";
  const more = isLong && isOpen && entries.length > most ? moreHtml(entries.length - most) : "";
  const zip = problem ? "" : zipHtml(context);
  return `<div class="files-line">${count}${few}${zip}</div>${note}${all}${more}`;
}

function moreHtml(count) {
  const words = `Show more of ${formatCount(count)} further files`;
  return `<button type="button" class="files-more" data-act="more" data-focus="more">${words}</button>`;
}

function zipHtml({ jobId, fileUrl }) {
  const url = `/jobs/${encodeURIComponent(jobId)}/files.zip`;
  return (
    `<a class="button files-zip" data-zip="1" data-url="${escapeHtml(url)}" data-focus="zip" ` +
    `href="${escapeHtml(fileUrl(url))}" download>Download all</a>`
  );
}

function listHtml(entries, kind, context) {
  const items = entries.map((entry) => `<li>${entryHtml(entry, context)}</li>`);
  return `<ul class="${kind}">${items.join("")}</ul>`;
}

function entryHtml(entry, context) {
  const { now, problem } = context;
  const title = `title="${escapeHtml(describeEntry(entry, now))}"`;
  const name = `<bdi class="file-name">${nameHtml(entry.path)}</bdi>`;
  const facts = entry.kind === "file" ? formatBytes(entry.size ?? 0) : escapeHtml(entry.kind);
  const time = entry.modified ? formatClock(Date.parse(entry.modified), now) : "";
  const text = `${name} <span class="file-size">${facts}</span><span class="file-time">${time}</span>`;
  if (entry.kind !== "file" || problem) {
    return `<span class="file" ${title}>${text}</span>`;
  }
  return `<a class="file" ${title} ${linkHtml(entry, context)}>${text}</a>`;
}

/** A path whose folders are faint. */
function nameHtml(path) {
  const end = path.lastIndexOf("/") + 1;
  const folder = end > 0 ? `<span class="file-folder">${visible(path.slice(0, end))}</span>` : "";
  return folder + visible(path.slice(end));
}

function visible(name) {
  return escapeHtml(visibleName(name));
}

function linkHtml(entry, { jobId, opened, link, fileUrl }) {
  const url = escapeHtml(entry.url);
  if (!viewOf(entry.path)) {
    const href = escapeHtml(fileUrl(entry.url, { download: 1 }));
    return `href="${href}" data-url="${url}" data-focus="${url}" download`;
  }
  const file = addressOfFile(entry, jobId);
  const current = file === opened ? ' aria-current="true"' : "";
  return `href="${escapeHtml(link(entry))}" data-file="${escapeHtml(file)}" data-focus="${url}"${current}`;
}
