/* The errors in a log: their number, steps from one to the next, and ticks beside the scrollbar.
   log_text.js decides which lines are errors. If a job ended badly, the whole log is searched,
   otherwise only the lines in the view. */

import { formatCount } from "./format.js";
import { SCAN_BYTES, scanLog } from "./log_scan.js";
import { expectUnreachable } from "./log_stream.js";

const DRAW_DELAY = 300; // milliseconds between drawings
const MOST_TICKS = 200;
const KNOWN = 20; // logs whose errors are remembered

export class LogErrors {
  /** `goTo(offset)` shows another place in the log; `moved()` is called when an error is shown. */
  constructor({ find, view, patterns, goTo, moved }) {
    this.find = find;
    this.view = view;
    this.patterns = patterns;
    this.goTo = goTo;
    this.moved = moved;
    this.known = new Map(); // job ID -> the errors of its log
    this.shown = false; // is the number of errors shown?
    this.setJob("");
    find("previous-error").addEventListener("click", () => this.step(-1));
    find("next-error").addEventListener("click", () => this.step(1));
  }

  /** Switches to another log, with no error selected. */
  setJob(jobId) {
    this.aborter?.abort();
    this.aborter = null; // aborts the scan that is under way
    this.jobId = jobId;
    this.isScanning = false;
    this.current = null; // offset of the selected line
  }

  /** Shows or hides the number of errors. It is shown for jobs that ended badly, even if it is
      0. */
  setShown(shown) {
    this.shown = shown;
    this.update();
  }

  /** Scans the whole log for errors, once. `start` is the offset of its first byte, `size` its
      end. */
  async scan(start, size) {
    const { jobId } = this;
    if (this.aborter || this.known.has(jobId)) {
      return;
    }
    this.aborter = new AbortController();
    const { signal } = this.aborter;
    this.isScanning = true;
    try {
      this.keep(jobId, await scanLog({ jobId, start, size, patterns: this.patterns, signal }));
    } catch (error) {
      expectUnreachable(error); // then only the errors in the view are known
    }
    if (!signal.aborted) {
      this.isScanning = false;
      this.update();
    }
  }

  /** Was the whole log, or as much as is scanned of it, searched for errors? */
  get isScanned() {
    return this.known.has(this.jobId);
  }

  keep(jobId, errors) {
    this.known.set(jobId, errors);
    if (this.known.size > KNOWN) {
      this.known.delete(this.known.keys().next().value);
    }
  }

  /** The offsets of the known errors: of the whole log if it was scanned, else of the view. */
  get offsets() {
    const here = this.view.errors.filter((line) => line.dataset.offset !== undefined);
    return this.known.get(this.jobId)?.offsets ?? here.map((line) => Number(line.dataset.offset));
  }

  // --- Drawing ---

  update() {
    this.timer ??= setTimeout(() => this.draw(), DRAW_DELAY);
  }

  draw() {
    this.timer = null;
    const { offsets } = this;
    this.find("errors").hidden = !this.shown;
    this.find("error-steps").hidden = offsets.length === 0;
    this.find("error-count").textContent = this.describe(offsets);
    this.find("error-count").classList.toggle("some", offsets.length > 0);
    this.drawTicks(this.shown ? this.view.errors : []);
  }

  describe(offsets) {
    const count = offsets.length;
    const where = this.describeWhere();
    if (count === 0 && this.isScanning) {
      return "looking for errors…";
    }
    if (count === 0) {
      return this.view.count > 0 ? `no errors found${where}` : "";
    }
    const place = offsets.indexOf(this.current) + 1;
    const noun = count === 1 ? "error" : "errors";
    return `✕ ${place > 0 ? `${formatCount(place)} of ` : ""}${formatCount(count)} ${noun}${where}`;
  }

  describeWhere() {
    const errors = this.known.get(this.jobId);
    if (!errors) {
      return " here";
    }
    return errors.isWhole ? "" : ` in the last ${SCAN_BYTES >> 20} MiB`;
  }

  /** Draws the ticks beside the scrollbar, which covers the lines in the view. */
  drawTicks(lines) {
    const { scrollHeight } = this.view.element;
    const every = Math.ceil(lines.length / MOST_TICKS);
    const ticks = lines.filter((_, index) => index % every === 0);
    const html = ticks.map(
      (line) => `<u style="top:${((100 * line.offsetTop) / scrollHeight).toFixed(2)}%"></u>`,
    );
    this.find("error-ticks").innerHTML = html.join("");
  }

  // --- Stepping ---

  /** Steps to the next error below (or above) the selected one or, if none is, the visible
      middle. */
  async step(by) {
    const { offsets } = this;
    if (offsets.length === 0) {
      return;
    }
    const eye = this.current ?? this.view.middleOffset;
    const below = offsets.find((offset) => offset > eye);
    const above = offsets.findLast((offset) => offset < eye);
    await this.stepTo(by > 0 ? (below ?? offsets[0]) : (above ?? offsets.at(-1)));
  }

  /** Steps to the last error; resolves to false if none is known. */
  async stepToLast() {
    const last = this.offsets.at(-1);
    if (last !== undefined) {
      await this.stepTo(last);
    }
    return last !== undefined;
  }

  async stepTo(target) {
    this.current = target;
    if (!this.view.hasOffset(target)) {
      await this.goTo(target);
    }
    this.moved();
    this.point(target);
    this.update();
  }

  point(offset) {
    const line = offset === this.current ? this.view.lineAt(offset) : null;
    this.view.moveMark("current", line);
    if (line) {
      this.view.scrollToLine(line);
    }
  }
}
