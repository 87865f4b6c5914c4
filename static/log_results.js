/* The results of a job, above its log: what it has written as `::result key=value`. */

import { copyText, setHtml } from "./dom.js";
import { escapeHtml, formatCount } from "./format.js";
import { linkedHtml } from "./log_links.js";
import { page } from "./page_state.js";

const FEW = 6; // results that are shown at first
const SHORT = 80; // characters of a value that are shown at first
const NARROW = 16; // characters of a value that has no row of its own
const COPY =
  '<svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true"><path fill="none" stroke="currentColor" stroke-width="1.500" stroke-linejoin="round" d="M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3"/></svg>';

export class LogResults {
  /** `find(name)` returns a node of the pane by class. */
  constructor(find) {
    this.node = find("results");
    this.node.addEventListener("click", (event) => this.onClick(event));
    this.reset();
  }

  /** Another job is shown. */
  reset() {
    this.results = [];
    this.showsAll = false;
    this.whole = new Set(); // keys of the long values that are shown whole
    this.redraw();
  }

  draw({ results }) {
    this.results = Object.entries(results?.results ?? {});
    this.redraw();
  }

  /** Draws the results and keeps the focus on the same button. */
  redraw() {
    const { results, whole, showsAll } = this;
    const focused = this.node.getRootNode().activeElement;
    const key = this.node.contains(focused) ? focused.dataset.focus : undefined;
    this.node.hidden = results.length === 0;
    setHtml(this.node, resultsHtml(results, { whole, showsAll }));
    if (key && !focused.isConnected) {
      this.node.querySelector(`[data-focus="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
    }
  }

  onClick({ target }) {
    const { act, key } = target.closest("button")?.dataset ?? {};
    if (act === "copy") {
      this.copy(key);
    } else if (act === "whole") {
      this.whole.has(key) ? this.whole.delete(key) : this.whole.add(key);
      this.redraw();
    } else if (act === "all") {
      this.showsAll = !this.showsAll;
      this.redraw();
    }
  }

  async copy(key) {
    const [, value] = this.results.find(([name]) => name === key);
    page.toast((await copyText(value)) ? "Copied" : "The browser does not allow copying here.");
  }
}

/** The HTML of results, [key, value]. `whole` has the keys whose long values are shown whole. */
function resultsHtml(results, { whole, showsAll }) {
  const shown = showsAll ? results : results.slice(0, FEW);
  const rows = shown.map(([key, value]) => resultHtml(key, value, whole.has(key)));
  const more = results.length - FEW;
  const label = showsAll ? "Show fewer" : `Show ${formatCount(more)} more`;
  const button =
    more > 0
      ? `<button type="button" class="results-more" data-act="all" data-focus="all" aria-expanded="${showsAll}">${label}</button>`
      : "";
  return `<dl>${rows.join("")}</dl>${button}`;
}

function resultHtml(key, value, isWhole) {
  const name = escapeHtml(key);
  const isLong = value.length > SHORT;
  const more = isLong
    ? `<button type="button" class="result-whole" data-act="whole" data-key="${name}" data-focus="whole ${name}" ` +
      `aria-expanded="${isWhole}">Show ${isWhole ? "less" : "all"}<span class="unseen"> of ${name}</span></button>`
    : "";
  const copy =
    `<button type="button" class="result-copy" data-act="copy" data-key="${name}" data-focus="copy ${name}" ` +
    `aria-label="Copy ${name}" title="Copy">${COPY}</button>`;
  const kind = isLong && !isWhole ? ' class="cut"' : "";
  const width = value.length > NARROW ? "wide" : "";
  return `<div class="${width}"><dt>${name}</dt><dd${kind}><span>${linkedHtml(value)}</span>${more}${copy}</dd></div>`;
}
