/* The progress of a running job, for its row, the home, the head of its log and the tab's title. A
   progress is { percent, text, source, seconds_left }, as the API sends it. Pure. */

import { escapeHtml, formatRoughly, SECOND } from "./format.js";
import { splitStamp } from "./log_lines.js";
import { parseMarker } from "./log_markers.js";

const MARKER = "::progress ";
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

/** The progress in the last `::progress` line of some whole lines, before which the API may have put
    times; null if there is none. */
export function newestProgress(lines) {
  for (let at = lines.lastIndexOf(MARKER); at >= 0; at = lines.lastIndexOf(MARKER, at)) {
    const begin = lines.lastIndexOf("\n", at) + 1;
    const [line] = lines.slice(begin, begin + LINE_LIMIT).split("\n", 1);
    const marker = parseMarker(splitStamp(line)[1]);
    if (marker?.kind === "progress") {
      return { percent: marker.percent, text: marker.text, source: "marker", seconds_left: null };
    }
    if (begin === 0) {
      return null;
    }
    at = begin - 1;
  }
  return null;
}
