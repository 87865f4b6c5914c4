/* Finds the links in the text of a log: bare URLs, and OSC 8, with which a program gives a text a
   link. Only http and https, since the text comes from any program. Pure. */

import { escapeHtml } from "./format.js";

const URL_LIMIT = 2000; // characters
const BARE_URL = /(?<!\w)https?:\/\/[\w[][^\s<>"`|\\^\0-\x1f\x7f]*/gi;
const OSC_LINK = /\x1b\]8;[^;\x07\x1b]*;([^\x07\x1b]*)(?:\x07|\x1b\\)/g;
const SENTENCE_END = ".,:;!?'*~";
const BRACKETS = { ")": "(", "]": "[", "}": "{" };

/** Text as HTML in which each bare URL is a link. */
export function linkedHtml(text) {
  if (!text.includes("://")) {
    return escapeHtml(text);
  }
  let html = "";
  let done = 0;
  for (const match of text.matchAll(BARE_URL)) {
    const url = trimUrl(match[0]);
    html += escapeHtml(text.slice(done, match.index)) + linkHtml(url, escapeHtml(url));
    done = match.index + url.length;
  }
  return html + escapeHtml(text.slice(done));
}

/** Without what belongs to the sentence around a URL: punctuation, and closing brackets that the URL
    does not open. */
function trimUrl(url) {
  if (/[\w/]$/.test(url)) {
    return url; // as most URLs end
  }
  const counts = countCharacters(url);
  let end = url.length;
  while (end > 0) {
    const last = url[end - 1];
    const opening = BRACKETS[last];
    const isUnopened = opening && counts[last] > (counts[opening] ?? 0);
    if (!isUnopened && !SENTENCE_END.includes(last)) {
      break;
    }
    counts[last] -= 1;
    end -= 1;
  }
  return url.slice(0, end);
}

function countCharacters(text) {
  const counts = {};
  for (const character of text) {
    counts[character] = (counts[character] ?? 0) + 1;
  }
  return counts;
}

/** HTML that links to a URL; without a link if the URL is not one of http or https. */
export function linkHtml(url, html) {
  return isSafe(url)
    ? `<a href="${escapeHtml(url)}" target="_blank" rel="noopener noreferrer">${html}</a>`
    : html;
}

function isSafe(url) {
  return url.length <= URL_LIMIT && /^https?:\/\/[\w[]/i.test(url) && URL.canParse(url);
}

/** Splits a line at its OSC 8 sequences: [the URL of the link or "", the text]. */
export function splitLinks(line) {
  if (!line.includes("\x1b]8;")) {
    return [["", line]];
  }
  const parts = [];
  let url = "";
  let done = 0;
  for (const match of line.matchAll(OSC_LINK)) {
    parts.push([url, line.slice(done, match.index)]);
    url = match[1];
    done = match.index + match[0].length;
  }
  return [...parts, [url, line.slice(done)]];
}
