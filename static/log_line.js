/* One line of a log as HTML, and what its node says about it. Pure. */

import { formatCount } from "./format.js";
import { LogAnsi } from "./log_ansi.js";
import { isErrorLine, LINE_LIMIT, lastOverwrite } from "./log_text.js";
import { timeHtml } from "./log_times.js";

/** `look` is how lines are shown: `ansi`, a LogAnsi; `errorPatterns`, since a line is an error if it
    matches one or is red; `times`, see log_times.js; and `marked`, a range of offsets or null. */
export function lineHtml({ text, stamp, offset, end, number }, look) {
  const { ansi, errorPatterns, times, marked } = look;
  const last = lastOverwrite(text);
  const shown = ansi.lineHtml(last.slice(0, LINE_LIMIT)); // which escapes it
  const error = isErrorLine(last, errorPatterns) ? " error" : "";
  const kind = `line${error}${isWithin(offset, marked) ? " marked" : ""}`;
  const place = dataHtml("offset", offset) + dataHtml("end", end) + dataHtml("line", number);
  const time = timeHtml(stamp, times);
  return `<div class="${kind}"${place}>${time}<span>${shown}</span>${moreHtml(last, offset)}</div>`;
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

/** Offset, end and number of a line's node; each is null if it is not known or there is no line. */
export function describeLine(node) {
  const read = (name) => (node?.dataset[name] === undefined ? null : Number(node.dataset[name]));
  return { offset: read("offset"), end: read("end"), number: read("line") };
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
