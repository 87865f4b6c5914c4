/* New in this failure: the lines of a failed log that its earlier successes do not have. Marks them
   in the margin, steps from one group of them to the next, and can hide all other lines. */

import { setHtml } from "./dom.js";
import { formatCount } from "./format.js";
import { LogAnsi } from "./log_ansi.js";
import { LogFilter } from "./log_filter.js";
import { expectUnreachable } from "./log_stream.js";
import { isWithinAny, MOST_ROWS, NewLineRows } from "./new_line_rows.js";

export class LogNewLines {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.view = pane.view;
    this.find = find;
    this.filter = new LogFilter(find("new-only"), {
      lineHtml: (line) => pane.view.lineHtml(line, new LogAnsi()),
      open: (offset) => this.goTo(offset),
      drawn: () => {},
    });
    const on = (name, event, act) => find(name).addEventListener(event, act);
    on("only-new", "click", () => this.toggle());
    on("previous-new", "click", () => this.step(-1));
    on("next-new", "click", () => this.step(1));
    on("filter-lines", "click", () => this.setFiltering(false)); // which covers the view, too
    on("new-only", "keydown", (event) => this.onKey(event));
    this.reset();
  }

  /** Another job is shown. */
  reset() {
    this.found = null; // the part of the explanation
    this.runs = 0; // earlier successes that the job was compared with
    this.ranges = [];
    this.current = null; // offset of the line to which the reader has stepped
    this.checked = new WeakSet(); // lines of the view
    this.setFiltering(false);
    this.drawTools();
  }

  draw({ new_lines: found = null, compared_with: runs }) {
    this.found = found;
    this.runs = runs.length;
    this.ranges = found && found.unavailable === null ? found.ranges : [];
    this.checked = new WeakSet();
    this.drawTools();
    this.drawn();
    this.pane.opening.seek();
  }

  // --- What is known ---

  /** Was the whole log compared? */
  get isComplete() {
    return this.found !== null && !this.found.partial;
  }

  /** The offset of the new line to look at first: the first that reports an error, else the first.
      Null if there is none. */
  get first() {
    return this.found?.first?.offset ?? null;
  }

  /** The number of lines in the ranges, which are only the first ones if there are many. */
  get listed() {
    return this.ranges.reduce((sum, { lines }) => sum + lines, 0);
  }

  /** Is the line at this offset new? */
  has(offset) {
    return offset !== null && isWithinAny(offset, this.ranges);
  }

  // --- Drawing ---

  /** Someone who runs a command for the first time has nothing to compare it with. */
  drawTools() {
    const { found, runs } = this;
    this.find("news").hidden = found === null || runs === 0;
    if (found === null || runs === 0) {
      return;
    }
    const isComparing = found.partial && found.count === 0;
    const hasNone = found.count === 0 && found.unavailable === null;
    this.find("news-words").hidden = !(isComparing || hasNone);
    this.find("news-words").textContent = isComparing ? "comparing…" : "nothing new";
    this.find("news-words").title = `Compared with ${describeRuns(runs)}`;
    this.find("only-new").hidden = isComparing || hasNone;
    this.find("only-new").ariaDisabled = String(found.unavailable !== null);
    this.find("only-new").title = found.unavailable ?? this.describe();
    setHtml(this.find("only-new"), labelHtml(this.countText()));
    this.find("new-steps").hidden = this.ranges.length === 0;
  }

  /** "12"; "4,002, first 1,000" if there are more ranges than that. */
  countText() {
    const { found, ranges, listed } = this;
    if (found.unavailable !== null) {
      return "";
    }
    const isCut = listed < found.count;
    return formatCount(found.count) + (isCut ? `, first ${formatCount(ranges.length)}` : "");
  }

  describe() {
    const { count } = this.found;
    const shown = Math.min(this.listed, MOST_ROWS);
    const rest = count > shown ? ` Shows the first ${formatCount(shown)}.` : "";
    const lines = count === 1 ? "1 line is" : `${formatCount(count)} lines are`;
    return `${lines} not in ${describeRuns(this.runs)}.${rest}`;
  }

  /** Marks the new lines among those in the view. */
  drawn() {
    if (this.ranges.length === 0) {
      return;
    }
    const title = `Not in ${describeRuns(this.runs)}`;
    for (const line of this.view.lines) {
      if (!this.checked.has(line)) {
        this.checked.add(line);
        this.mark(line, title);
      }
    }
  }

  mark(line, title) {
    const isMarked = line.firstElementChild?.className === "new-mark";
    const isNew = line.dataset.offset !== undefined && this.has(Number(line.dataset.offset));
    if (isNew && !isMarked) {
      const mark = document.createElement("i");
      mark.className = "new-mark";
      mark.title = title;
      line.prepend(mark);
    } else if (!isNew && isMarked) {
      line.firstElementChild.remove();
    }
  }

  // --- Steps ---

  /** Goes to the next group of new lines below (or above) the last one or, if there was none, the
      visible middle. */
  step(by) {
    const offsets = this.ranges.map(({ offset }) => offset);
    const eye = this.current ?? this.view.middleOffset;
    const below = offsets.find((offset) => offset > eye);
    const above = offsets.findLast((offset) => offset < eye);
    const target = by > 0 ? (below ?? offsets[0]) : (above ?? offsets.at(-1));
    if (target !== undefined) {
      this.goTo(target);
    }
  }

  /** Shows all lines around a line, which need not be loaded. */
  async goTo(offset) {
    this.current = offset;
    if (!this.view.hasOffset(offset)) {
      await this.pane.places.goTo(offset);
    }
    this.pane.onMoved();
    const line = this.view.lineAt(offset) ?? null;
    if (line && this.current === offset) {
      this.view.moveMark("current", line);
      this.view.scrollToLine(line);
    }
  }

  // --- Only the new lines ---

  async toggle() {
    if (this.found.unavailable !== null) {
      return;
    }
    if (this.filter.isOpen) {
      this.leave();
      return;
    }
    this.pane.finder.setFiltering(false);
    this.setFiltering(true);
    try {
      await this.filter.fill(new NewLineRows(this.pane.jobId, this.ranges), 0);
    } catch (error) {
      expectUnreachable(error);
      this.setFiltering(false);
    }
  }

  setFiltering(on) {
    this.find("only-new").setAttribute("aria-pressed", String(on));
    if (on) {
      this.filter.open(this.view.digits);
    } else {
      this.filter.close();
    }
  }

  leave() {
    this.setFiltering(false);
    this.view.element.focus();
  }

  onKey(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      this.leave();
    }
  }
}

/** "the last success", "the last 10 successes". */
function describeRuns(count) {
  return count === 1 ? "the last success" : `the last ${count} successes`;
}

/** The switch's label; some of its words give way if there is little room. */
function labelHtml(count) {
  return `Only <span class="news-long">what is </span>new${count ? ` (${count})` : ""}`;
}
