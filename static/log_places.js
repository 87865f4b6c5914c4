/* Which place of a log the pane shows: its end, its start, or the place that the address names. */

import { page } from "./page_state.js";

export class LogPlaces {
  /** `shown()` is called when another place is shown. */
  constructor({ view, source, shown }) {
    this.view = view;
    this.source = source;
    this.shown = shown;
    this.at = ""; // the offset that the address names
    view.element.addEventListener("click", (event) => this.onClick(event));
  }

  /** Shows the log at the place in the address, else at its end. */
  open() {
    if (!page.status.api) {
      return; // the header has not loaded yet; its first refresh calls this again
    }
    if (this.at) {
      this.goTo(Number(this.at));
    } else {
      this.source.loadTail();
    }
  }

  /** Shows the lines around an offset, with its line marked and in the middle. */
  async goTo(offset) {
    if (!(await this.source.loadPlace(offset))) {
      return;
    }
    const line = this.view.lineAt(offset) ?? this.view.lines[0];
    if (line) {
      this.view.moveMark("marked", line);
      this.view.scrollToLine(line);
    }
    this.shown();
  }

  async toStart() {
    if (this.source.jobId && (await this.source.loadPlace(this.source.start))) {
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
      this.at = "";
      page.go({ at: "" }, { replace: true });
    }
  }

  onClick(event) {
    const line = event.target.closest(".line");
    if (!line || event.target.closest("a")) {
      return;
    }
    if (event.target.closest(".whole")) {
      this.showWholeLine(line);
    } else if (event.target === line && event.offsetX < gutterWidth(line)) {
      this.view.moveMark("marked", line);
      this.at = line.dataset.offset ?? "";
      page.go({ at: this.at }, { replace: true });
    }
  }

  async showWholeLine(line) {
    const text = await this.source.fetchWholeLine(Number(line.dataset.offset));
    if (text !== undefined) {
      this.view.keepPlace(() => this.view.showWhole(line, text));
    }
  }
}

function gutterWidth(line) {
  return Number.parseFloat(getComputedStyle(line).paddingLeft);
}
