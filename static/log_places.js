/* Which place of a log the pane shows: its end, its start, or the lines that the address names. */

import { formatRange, orderRange, parseRange } from "./log_range.js";
import { page } from "./page_state.js";

export class LogPlaces {
  /** `shown()` is called when another place is shown. */
  constructor({ view, source, selection, shown }) {
    this.view = view;
    this.source = source;
    this.selection = selection;
    this.shown = shown;
    this.at = ""; // the lines that the address names, see log_range.js; or "hint"
    view.element.addEventListener("click", (event) => this.onClick(event));
  }

  /** Shows the log at the place in the address, else at its end. */
  open() {
    if (!page.status.api) {
      return; // the header has not loaded yet; its first refresh calls this again
    }
    const range = parseRange(this.at);
    this.selection.set(range);
    if (range) {
      this.goToRange(range);
    } else {
      this.source.loadTail();
    }
  }

  /** Shows and selects lines, and names them in the address. */
  select(first, last) {
    const range = orderRange(first, last);
    this.selection.set(range);
    this.setAddress(range);
    this.goToRange(range);
  }

  /** Shows selected lines, the first one in the middle. */
  async goToRange(range) {
    const line = await this.goTo(range.from);
    if (line && this.selection.range === range) {
      // A link can name any byte of a line, and a place after the end of the log.
      const from = Number(line.dataset.offset ?? range.from);
      this.selection.set({ from, to: Math.max(from, range.to) });
    }
  }

  /** Shows the lines around an offset, with its line in the middle; resolves to that line. */
  async goTo(offset) {
    if (!(await this.source.loadPlace(offset))) {
      return undefined;
    }
    const line = this.view.lineAt(offset) ?? this.view.lines[0];
    if (line) {
      this.view.scrollToLine(line);
    }
    this.shown();
    return line;
  }

  async toStart() {
    if (this.source.jobId && (await this.source.loadAround(this.source.start))) {
      this.view.leaveEnd();
      this.view.element.scrollTop = 0;
      this.shown();
    }
  }

  toEnd() {
    if (this.source.mode === "following" || this.source.isServed) {
      this.view.follow();
      this.source.resetNewLines();
      this.shown();
    } else if (this.source.jobId) {
      this.source.reload();
    }
    if (page.address.at) {
      this.selection.set(null);
      this.setAddress(null);
    }
  }

  /** Names the selected lines in the address, without a step in the browser's history. */
  setAddress(range) {
    this.at = formatRange(range);
    page.go({ at: this.at }, { replace: true });
  }

  onClick(event) {
    if (event.target.closest(".whole")) {
      this.showWholeLine(event.target.closest(".line"));
    }
  }

  async showWholeLine(line) {
    const text = await this.source.fetchWholeLine(Number(line.dataset.offset));
    if (text !== undefined) {
      this.view.keepPlace(() => this.view.showWhole(line, text));
    }
  }
}
