/* Two logs side by side as HTML: the parts in which they are equal and those in which they differ.
   Pure. `link(change)` returns the page's address with some changes. A wide pane shows the earlier
   run on the left and this one on the right; log_compare.css puts them one below the other in a
   narrow one, with − and + before the lines. */

import { escapeHtml, formatClock, formatCount, formatStatus, statusIcon } from "./format.js";

/** What is compared: a run's status, when it ended, and its number of lines. */
export function sideHtml({ id, title, status, finished_at: ended, lines, cut }, sign, context) {
  const when = ended ? ` ${formatClock(Date.parse(ended), context.now)}` : "";
  const href = escapeHtml(context.link({ job: id, at: "", compare: "" }));
  const noun = lines === 1 ? "line" : "lines";
  const count = `${cut ? "the first " : ""}${formatCount(lines)} ${noun}`;
  return (
    `<span class="compare-sign" aria-hidden="true">${sign}</span>` +
    `${statusIcon(status, context.statuses)} ` +
    `<a class="job-link" href="${href}" data-job="${escapeHtml(id)}" title="${escapeHtml(title)}">` +
    `${escapeHtml(formatStatus(status) + when)}</a> <span class="faint">${count}</span>`
  );
}

/** A hunk of the API's answer. `ids`: { left, right }, of the two jobs. */
export function hunkHtml(hunk, ids, link) {
  const { kind, folded, left, right } = hunk;
  const cells = (side) => linesOf(hunk, side).map((line) => cellHtml(side, line, ids[side], link));
  const [one, other] = [cells("left"), cells("right")];
  if (kind !== "equal") {
    const block = (side, html, rest) =>
      `<div class="${html.length > 0 ? side : "no-lines"}">${html.join("")}${restHtml(rest)}</div>`;
    return (
      `<div class="hunk differs">${block("left", one, left.count - one.length)}` +
      `${block("right", other, right.count - other.length)}</div>`
    );
  }
  const pairs = other.map((html, index) => one[index] + html);
  const head = folded > 0 ? Math.ceil(pairs.length / 2) : pairs.length;
  const fold = folded > 0 ? foldHtml(`${formatCount(folded)} equal`, folded) : "";
  return `<div class="hunk equal">${pairs.slice(0, head).join("")}${fold}${pairs.slice(head).join("")}</div>`;
}

/** The lines of one side that are shown, each with its offset and its number, which is null if the
    beginning of the log was deleted. */
function linesOf(hunk, side) {
  const texts = hunk[`${side}_lines`];
  const offsets = hunk[`${side}_offsets`];
  const { line: first } = hunk[side];
  const isFolded = hunk.kind === "equal" && hunk.folded > 0;
  const head = isFolded ? Math.ceil(texts.length / 2) : texts.length;
  return texts.map((text, index) => {
    const place = index < head ? index : index + hunk.folded;
    return { text, offset: offsets[index], line: first === null ? null : first + place };
  });
}

function foldHtml(what, count) {
  return `<p class="fold">… ${what} ${count === 1 ? "line" : "lines"}</p>`;
}

/** That a long hunk has more lines than the answer. */
function restHtml(count) {
  return count > 0 ? foldHtml(`${formatCount(count)} more`, count) : "";
}

/** A line with its number, which links to it. */
function cellHtml(side, { offset, line, text }, id, link) {
  const href = escapeHtml(link({ job: id, at: String(Number(offset)), compare: "" }));
  const number =
    `<a class="compare-number" href="${href}" data-job="${escapeHtml(id)}" ` +
    `data-at="${Number(offset)}" tabindex="-1">${line === null ? "·" : Number(line)}</a>`;
  return `<div class="cell ${side}">${number}<span class="compare-text"><span>${escapeHtml(text)}</span></span></div>`;
}

/** The sentence that replaces the lines; "" if they are shown. */
export function compareText({ same, left, right }) {
  if (left.lines + right.lines === 0) {
    return "Neither job has written anything.";
  }
  return same
    ? "Both logs say the same, except for numbers, times and other values that change with each run."
    : "";
}
