/* A marker line of a log as HTML. The text that a reader copies, or that find looks for, stays as it
   is in the log: the sign before a name is only hidden, and what is added cannot be selected. Pure. */

import { escapeHtml } from "./format.js";
import { isErrorLine, lastOverwrite } from "./log_text.js";

const HEADERS = ["section", "group"];
const LEVELS = ["error", "warning", "notice"];
const BOUNDARIES = [...HEADERS, "endgroup", "open"]; // which log_folds.js reads

export function isHeader(marker) {
  return HEADERS.includes(marker?.kind);
}

/** Does a line report an error, or is it an annotation of one? The header of a section does not: that
    is only its name. */
export function reportsError(text, marker, patterns) {
  if (isHeader(marker)) {
    return false;
  }
  return marker?.kind === "error" || isErrorLine(lastOverwrite(text), patterns);
}

/** The classes of a marker line that is not an error. */
export function markerClass({ kind }) {
  if (LEVELS.includes(kind)) {
    return ` ${kind}`;
  }
  return (isHeader({ kind }) ? " section" : " quiet") + (isBoundary({ kind }) ? " boundary" : "");
}

/** Does a marker begin, end or open a section? */
export function isBoundary(marker) {
  return BOUNDARIES.includes(marker?.kind);
}

/** The text of the line, in which the marker's signs are hidden. `toHtml` makes HTML of a part. */
export function markedTextHtml(text, { token, lastToken = "" }, toHtml) {
  const at = token ? text.indexOf(token) : -1;
  if (at < 0) {
    return toHtml(text);
  }
  const begin = at + token.length + /^[ \t]*/.exec(text.slice(at + token.length))[0].length;
  const end = lastToken ? text.lastIndexOf(lastToken) : text.length;
  const signHtml = (sign) => (sign ? `<i class="sign">${toHtml(sign)}</i>` : "");
  const before = toHtml(text.slice(0, at)) + signHtml(text.slice(at, begin));
  return before + toHtml(text.slice(begin, end)) + signHtml(text.slice(end));
}

/** What is shown before the text: the button that folds a section, or the level of an annotation. */
export function beforeHtml({ kind, name }, canFold) {
  if (LEVELS.includes(kind)) {
    return `<b class="level">${kind}:</b> `;
  }
  if (!isHeader({ kind }) || !canFold) {
    return "";
  }
  const label = escapeHtml(`Section ${name}`);
  return `<button type="button" class="fold-section" aria-expanded="true" aria-label="${label}"></button>`;
}

/** What is shown after the text: the facts of a section, or the file that an annotation names. */
export function afterHtml({ kind, file, fileLine }, canFold) {
  if (isHeader({ kind }) && canFold) {
    const link =
      '<button type="button" class="section-link" tabindex="-1" title="Copy a link to this section"' +
      ' aria-label="Copy a link to this section">#</button>';
    return `<em class="section-facts"></em>${link}`;
  }
  const place = [file, fileLine].filter((part) => part !== null && part !== undefined).join(":");
  return LEVELS.includes(kind) && file ? `<em class="place">${escapeHtml(place)}</em>` : "";
}
