/* One line of a log as HTML, and what its node says about it. Pure. */

import { formatCount } from "./format.js";
import { LogAnsi } from "./log_ansi.js";
import {
  afterHtml,
  beforeHtml,
  isBoundary,
  isHeader,
  markedTextHtml,
  markerClass,
  reportsError,
} from "./log_marker_line.js";
import { parseMarker } from "./log_markers.js";
import { LINE_LIMIT, lastOverwrite } from "./log_text.js";
import { timeHtml } from "./log_times.js";

/** `look` is how lines are shown: `ansi`, a LogAnsi; `errorPatterns`, since a line is an error if it
    matches one or is red; `times`, see log_times.js; `marked`, a range of offsets or null; and
    `sections`, the LogSections. An unfinished line is not yet the header of a section. `covers` is
    true if the view has this header but not the lines of its section, which `end` is the end of. */
export function lineHtml({ text, stamp, offset, end, number, covers }, look) {
  const { ansi, times, sections } = look;
  const last = lastOverwrite(text);
  const marker = findMarker(text, end);
  const canFold = offset !== null;
  const toHtml = (part) => ansi.lineHtml(part); // which escapes it
  const cut = last.slice(0, LINE_LIMIT);
  const shown = marker ? markedTextHtml(cut, marker, toHtml) : toHtml(cut);
  const before = timeHtml(stamp, times) + (marker ? beforeHtml(marker, canFold) : "");
  const after = moreHtml(last, offset) + (marker ? afterHtml(marker, canFold) : "");
  const place = dataHtml("offset", offset) + dataHtml("end", end) + dataHtml("line", number);
  const cover = (covers ? " data-covers" : "") + boundaryHtml(marker);
  const kind = lineClass(last, offset, marker, look) + (sections.isHidden(offset) ? " folded" : "");
  return `<div class="${kind}"${place}${cover}>${before}<span>${shown}</span>${after}</div>`;
}

function boundaryHtml(marker) {
  return isBoundary(marker) ? ` data-kind="${marker.isOpen ? "opened" : marker.kind}"` : "";
}

/** The marker that a line is; null if it is none. */
function findMarker(text, end) {
  const marker = parseMarker(text);
  return isHeader(marker) && end === null ? null : marker;
}

function lineClass(text, offset, marker, { errorPatterns, marked }) {
  const error = reportsError(text, marker, errorPatterns) ? " error" : "";
  const kind = marker && marker.kind !== "error" ? markerClass(marker) : "";
  return `line${error}${kind}${isWithin(offset, marked) ? " marked" : ""}`;
}

/** The HTML of a whole text, however long. */
export function wholeHtml(text) {
  return new LogAnsi().lineHtml(text);
}

export function isWithin(offset, range) {
  return range !== null && offset !== null && offset >= range.from && offset <= range.to;
}

function dataHtml(name, number) {
  return number === null ? "" : ` data-${name}="${Number(number)}"`;
}

/** Offset, end and number of a line's node; each is null if it is not known or there is no line.
    `covers`: is it a header without the lines of its section? */
export function describeLine(node) {
  const read = (name) => (node?.dataset[name] === undefined ? null : Number(node.dataset[name]));
  const covers = node?.dataset.covers !== undefined;
  return { offset: read("offset"), end: read("end"), number: read("line"), covers };
}

function moreHtml(text, offset) {
  const more = text.length - LINE_LIMIT;
  if (more <= 0) {
    return "";
  }
  const label = `… ${formatCount(more)} more characters`;
  return offset === null
    ? ` <u>${label}</u>`
    : ` <button type="button" class="whole" tabindex="-1">${label}</button>`;
}
