/* The lines that the reader has selected: by a click on a number, by Shift and a click on another
   one, or by a link. A bar offers what can be done with them. */

import { addressLink } from "./address.js";
import { copyByButton } from "./dom.js";
import { splitBytes } from "./log_lines.js";
import { describeLines, formatRange, orderRange } from "./log_range.js";
import { expectUnreachable, fetchPart } from "./log_stream.js";
import { plainLine } from "./log_text.js";

const COPY_BYTES = 4 << 20; // most that one request can return
const LAST_LINE_BYTES = 1 << 20; // to fetch of the last line

export class LogSelection {
  /** `changed(range)` is called when the reader has selected other lines: { from, to }, the offsets
      of the first and the last one, or null. */
  constructor({ find, view, source, changed }) {
    this.find = find;
    this.view = view;
    this.source = source;
    this.changed = changed;
    this.range = null;
    this.anchor = null; // offset of the line that was clicked without Shift
    view.element.addEventListener("mousedown", (event) => this.onMouseDown(event));
    view.element.addEventListener("click", (event) => this.onClick(event));
    const on = (name, act) => find(name).addEventListener("click", act);
    on("copy-lines", (event) => this.copyLines(event.currentTarget));
    on("link-lines", (event) => copyByButton(event.currentTarget, this.linkTo(this.range)));
    on("unselect", () => this.clear());
  }

  /** Selects lines, or none, without calling `changed`. */
  set(range) {
    this.range = range;
    this.anchor = range?.from ?? null;
    this.draw();
  }

  clear() {
    this.set(null);
    this.changed(null);
    this.view.element.focus();
  }

  draw() {
    const { range, view } = this;
    view.setMarked(range);
    this.find("selection").hidden = range === null;
    if (range) {
      const numberAt = (offset) => Number(view.nodeAt(offset)?.dataset.line ?? Number.NaN);
      const [first, last] = [numberAt(range.from), numberAt(range.to)];
      this.find("selected").textContent = describeLines(first, last);
      this.find("copy-lines").textContent = range.from === range.to ? "Copy line" : "Copy lines";
    }
  }

  // --- Clicks on numbers ---

  /** Shift would select the text between. */
  onMouseDown(event) {
    if (event.shiftKey && isOnNumber(event)) {
      event.preventDefault();
    }
  }

  onClick(event) {
    const { offset } = isOnNumber(event) ? event.target.dataset : {};
    if (offset === undefined) {
      return; // elsewhere, or the offset is not known
    }
    const anchor = event.shiftKey ? (this.anchor ?? Number(offset)) : Number(offset);
    this.range = orderRange(anchor, Number(offset));
    this.anchor = anchor;
    this.draw();
    this.changed(this.range);
  }

  // --- Copying ---

  linkTo(range) {
    const query = addressLink({ job: this.source.jobId, at: formatRange(range) });
    return location.origin + location.pathname + query;
  }

  async copyLines(button) {
    await copyByButton(button, (await this.fetchText()) ?? this.textInView());
  }

  /** The selected lines as the API has them, however many are in the view. */
  async fetchText() {
    const { from, to } = this.range;
    const limit = Math.min(COPY_BYTES, to - from + LAST_LINE_BYTES);
    try {
      const part = await fetchPart(this.source.jobId, { offset: from, limit_bytes: limit });
      const lines = splitBytes(part.bytes, part.offset, null);
      const selected = lines.filter((line) => line.offset <= to);
      return selected.map((line) => plainLine(line.text)).join("\n");
    } catch (error) {
      expectUnreachable(error);
      return undefined;
    }
  }

  textInView() {
    const marked = [...this.view.element.querySelectorAll(".marked > span")];
    return marked.map((node) => node.textContent).join("\n");
  }
}

/** Is the pointer on the number of a line, which is before the line's text? */
export function isOnNumber({ target, offsetX }) {
  const isLine = target.classList.contains("line");
  return isLine && offsetX < Number.parseFloat(getComputedStyle(target, "::before").width);
}
