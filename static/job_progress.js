/* The progress of a running job, for its row, the home, the head of its log and the tab's title. A
   progress is { percent, text, source, seconds_left }, as the API sends it. Pure. */

import { escapeHtml, formatRoughly, SECOND } from "./format.js";
import { plainLine } from "./log_text.js";

const MARKER = "::progress ";
// A time as programs write it before a line: a date and a time, or a time alone, also in brackets.
const TIME = /^\[?(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?\s+/;
const VALUES =
  /^::progress (\d{1,15}(?:\.\d{1,15})?)%?(?: of (\d{1,15}(?:\.\d{1,15})?))?(?: (.*))?$/;
const LINE_LIMIT = 1000; // characters of a line that are read
const TEXT_LIMIT = 200; // characters
const SOURCES = {
  bar: "read from the log's progress bar",
  earlier_runs: "estimated from the last success",
};

/** What the API says of a job; null unless the job runs and has progress. */
export function progressOfJob({ status, progress = null }) {
  return status === "running" ? progress : null;
}

/** "44 %", or "≈ 62 %" if it is estimated. It is 100 % only once all is done. */
export function shortProgress({ percent, source }) {
  return `${source === "earlier_runs" ? "≈ " : ""}${wholePercent(percent)} %`;
}

/** "44 % · copying orders", "about 62 %, about 4 min left". The text of a bar only draws it. */
export function progressText(progress) {
  const { percent, text, source, seconds_left: left = null } = progress;
  if (source === "earlier_runs") {
    const rest = left ? `, about ${formatRoughly(left * SECOND)} left` : "";
    return `about ${wholePercent(percent)} %${rest}`;
  }
  const words = text && source === "marker" ? ` · ${text.slice(0, TEXT_LIMIT)}` : "";
  return shortProgress(progress) + words;
}

function wholePercent(percent) {
  return Math.floor(Math.min(100, Math.max(0, percent)));
}

/** A bar with its value for screen readers. Its look shows where the value comes from. */
export function progressBarHtml(progress) {
  const percent = wholePercent(progress.percent);
  const text = progressText(progress);
  const title = [text, SOURCES[progress.source]].filter(Boolean).join(", ");
  const kind = SOURCES[progress.source] ? ` ${progress.source.replace("_", "-")}` : "";
  return (
    `<span class="progress${kind}" role="progressbar" aria-label="Progress" aria-valuemin="0" ` +
    `aria-valuemax="100" aria-valuenow="${percent}" aria-valuetext="${escapeHtml(text)}" ` +
    `title="${escapeHtml(title)}"><u style="width:${percent}%"></u></span>`
  );
}

/** The progress in the last `::progress` line of some whole lines; null if there is none. */
export function newestProgress(lines) {
  for (let at = lines.lastIndexOf(MARKER); at >= 0; at = lines.lastIndexOf(MARKER, at - 1)) {
    const begin = lines.lastIndexOf("\n", at) + 1;
    const [line] = lines.slice(begin, begin + LINE_LIMIT).split("\n", 1);
    const progress = parseProgress(line);
    if (progress || begin === 0) {
      return progress;
    }
    at = begin;
  }
  return null;
}

/** The progress in a line such as `::progress 40 of 90 copying orders`; null if it is no such
    line. */
function parseProgress(line) {
  let text = plainLine(line);
  while (TIME.test(text)) {
    text = text.replace(TIME, "");
  }
  const found = VALUES.exec(text);
  if (!found) {
    return null;
  }
  const [, done, all = "100", words = ""] = found;
  const percent = (100 * Number(done)) / Number(all);
  const isValid = percent >= 0 && percent <= 100; // not NaN, if all is 0
  return isValid
    ? { percent, text: words.trim() || null, source: "marker", seconds_left: null }
    : null;
}
