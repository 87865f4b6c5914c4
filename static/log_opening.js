/* Where the log of a failed job opens: at the line that explains the failure, if the address asks for
   it, or else at the log's end; but at the first line that is new in this failure, if that
   explanation is none of the new lines. A reader who has done anything in the meantime is not
   moved. */

import { endedBadly } from "./format.js";
import { describeLine } from "./log_line.js";

const HINT = "hint"; // as a place in the address: the line that explains why the job failed
const PATIENCE = 1000; // milliseconds that the hint waits for the new lines
const TOO_LATE = 10_000; // milliseconds after which a reader is reading

export class LogOpening {
  /** `pane` is the log pane. */
  constructor(pane) {
    this.pane = pane;
    this.stop = () => {
      this.seeksNew = false;
    };
    this.begin({ at: "", isOtherJob: false });
    const options = { capture: true, passive: true };
    for (const name of ["pointerdown", "wheel"]) {
      pane.root.addEventListener(name, this.stop, options);
    }
    addEventListener("keydown", this.stop, options);
  }

  close() {
    removeEventListener("keydown", this.stop, { capture: true });
  }

  /** The address names another job, or another place of the same one. */
  begin({ at, isOtherJob }) {
    this.begunAt = Date.now();
    this.seeksHint = at === HINT; // whose line is not known yet
    this.seeksNew = this.seeksHint || (isOtherJob && at === "");
  }

  /** Goes to a line that the reader should see first. Called whenever more is known of the job. */
  seek() {
    const { job, errors, source } = this.pane;
    const age = Date.now() - this.begunAt;
    if (!job || !endedBadly(job) || age > TOO_LATE) {
      this.seeksNew = false; // a job that fails later has a reader
    }
    const isShown = source.isLoaded && !source.isServed;
    if (!job || !endedBadly(job) || !isShown || !errors.isScanned) {
      return;
    }
    if (this.seeksNew && this.seekNew()) {
      return;
    }
    if (this.seeksHint && (!this.seeksNew || age > PATIENCE)) {
      this.seeksHint = false;
      this.pane.toHint();
    }
  }

  /** Goes to the first new line, unless the hint is new; returns true if it did. */
  seekNew() {
    const { newLines } = this.pane;
    if (!newLines.isComplete) {
      return false;
    }
    this.seeksNew = false;
    const { first } = newLines;
    if (first === null || newLines.has(this.hintOffset)) {
      return false;
    }
    this.seeksHint = false;
    newLines.goTo(first);
    return true;
  }

  /** The offset of the line that toHint() shows; null if it is not known. */
  get hintOffset() {
    const { errors, view } = this.pane;
    const isFilled = (line) => line.querySelector("span")?.textContent.trim();
    return errors.offsets.at(-1) ?? describeLine([...view.lines].findLast(isFilled)).offset;
  }
}
