/* To the error: how many lines of a log tell of one, the way from one to the next, and ticks
   beside the scrollbar. Which lines these are log_text.js says; those of a job that ended badly are
   counted in all of its log, others in the lines that are here. */

import { formatCount } from "./format.js";
import { SCAN_BYTES, scanLog } from "./log_scan.js";
import { expectUnreachable } from "./log_stream.js";

const DRAW_DELAY = 300; // milliseconds between drawings
const MOST_TICKS = 200;
const KNOWN = 20; // logs whose errors stay known

export class LogErrors {
  /** `goTo(offset)` shows another place of the log. */
  constructor(find, view, patterns, goTo) {
    this.find = find;
    this.view = view;
    this.patterns = patterns;
    this.goTo = goTo;
    this.known = new Map(); // job ID -> the errors of its log
    this.shown = false; // is this a job whose errors matter?
    this.setJob("");
    find("previous-error").addEventListener("click", () => this.step(-1));
    find("next-error").addEventListener("click", () => this.step(1));
  }

  /** Another log: nothing is pointed at. */
  setJob(jobId) {
    this.aborter?.abort();
    this.aborter = null; // of the scan that is under way
    this.jobId = jobId;
    this.isScanning = false;
    this.current = null; // offset of the line that is pointed at
  }

  /** Of a job that ended badly the errors are counted, and that there are none is said. */
  setShown(shown) {
    this.shown = shown;
    this.update();
  }

  /** Count in the whole log, once; `start` and `size` are its first byte and its end. */
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
      expectUnreachable(error); // then those that are here are all that is known
    }
    if (!signal.aborted) {
      this.isScanning = false;
      this.update();
    }
  }

  keep(jobId, errors) {
    this.known.set(jobId, errors);
    if (this.known.size > KNOWN) {
      this.known.delete(this.known.keys().next().value);
    }
  }

  /** Where the errors are that are known: all of them, or those that are here. */
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

  /** Beside the scrollbar, which is that of the lines that are here. */
  drawTicks(lines) {
    const { scrollHeight } = this.view.element;
    const every = Math.ceil(lines.length / MOST_TICKS);
    const ticks = lines.filter((_, index) => index % every === 0);
    const html = ticks.map(
      (line) => `<u style="top:${((100 * line.offsetTop) / scrollHeight).toFixed(2)}%"></u>`,
    );
    this.find("error-ticks").innerHTML = html.join("");
  }

  // --- From one to the next ---

  /** To the next error below (or above) the one pointed at, or the middle of what is in sight. */
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

  /** To the last error; false where none is known. */
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
