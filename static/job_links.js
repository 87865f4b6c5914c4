/* IDs of jobs in the sentences of the API, such as "waits for ID": as links, and as the titles of the
   jobs. Pure. `titleOf(id)` returns the title of a job, or undefined if the page does not know
   it. */

import { escapeHtml } from "./format.js";

const ID = /\b(\d{8}-\d{6}-[0-9a-z]{8})\b/; // as in tailboard/values.py
const LONGEST = 60; // characters of a title in a sentence

/** HTML with a link to each job that the text names. */
export function linkIds(text, titleOf) {
  return mapParts(text, escapeHtml, (id) => jobLink(id, titleOf));
}

/** The text with the titles of the jobs instead of their IDs. */
export function nameIds(text, titleOf) {
  return mapParts(text, String, (id) => {
    const title = titleOf(id);
    return title === undefined ? id : `“${shorten(title)}”`;
  });
}

/** Does the text name a job? */
export function namesJob(text) {
  return ID.test(text ?? "");
}

export function jobLink(id, titleOf) {
  const shown = escapeHtml(id);
  const title = escapeHtml(shorten(titleOf(id) ?? id));
  return `<a class="job-link" href="?job=${shown}" data-job="${shown}" title="${shown}">${title}</a>`;
}

function mapParts(text, showText, showId) {
  const parts = String(text ?? "").split(ID); // every second part is an ID
  return parts.map((part, index) => (index % 2 === 1 ? showId(part) : showText(part))).join("");
}

function shorten(title) {
  return title.length > LONGEST ? `${title.slice(0, LONGEST)}…` : title;
}
