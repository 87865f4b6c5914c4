/* Where the time went: a list of the longest pauses of the log, and a mark for each beside the
   scrollbar. A click on either shows the lines before and after it. */

import { listStep, setHtml, stepFrom } from "./dom.js";
import { formatPause, linesOfPause, pauseHtml } from "./insight_words.js";
import { LogMinimap } from "./log_minimap.js";
import { page } from "./page_state.js";

const DRAW_DELAY = 300; // milliseconds between drawings of the marks

export class LogPauses {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.button = find("open-pauses");
    this.list = find("pauses");
    this.items = find("pause-list");
    this.minimap = new LogMinimap(find("pause-ticks"), pane, (offset) => this.goToMark(offset));
    this.list.addEventListener(
      "beforetoggle",
      ({ newState }) => newState === "open" && this.fill(),
    );
    this.items.addEventListener("click", (event) => this.onClick(event));
    this.items.addEventListener("keydown", (event) => this.onKey(event));
    this.reset();
  }

  reset() {
    this.pauses = [];
    this.listed = []; // those in the list
    this.button.hidden = true;
    this.list.hidePopover();
    this.minimap.clear();
  }

  draw({ pauses }) {
    this.pauses = pauses?.pauses ?? [];
    this.button.hidden = this.pauses.length === 0;
    if (this.button.hidden) {
      this.list.hidePopover();
    } else {
      this.button.title = `The longest pause: ${formatPause(this.pauses[0].seconds)}`;
    }
    this.drawn();
  }

  /** Fills the list that is about to open. While it is open it does not change. */
  fill() {
    this.listed = this.pauses;
    const items = this.listed.map((pause, index) => pauseHtml(pause, index, page.now));
    setHtml(this.items, items.join(""));
  }

  /** The view shows other lines. */
  drawn() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const lines = this.pauses.map(linesOfPause).filter(Boolean);
      this.minimap.draw(lines.map(({ first }) => first));
    }, DRAW_DELAY);
  }

  goToMark(offset) {
    this.show(this.pauses.find((pause) => linesOfPause(pause)?.first === offset));
  }

  /** Shows and selects the lines before and after a pause. */
  show(pause) {
    const lines = pause && linesOfPause(pause);
    if (lines) {
      this.pane.places.select(lines.first, lines.last);
    }
  }

  onClick(event) {
    const item = event.target.closest("[data-pause]");
    if (item) {
      this.list.hidePopover();
      this.show(this.listed[Number(item.dataset.pause)]);
      this.pane.view.element.focus();
    }
  }

  onKey(event) {
    const step = listStep(event);
    const buttons = [...this.items.querySelectorAll("button")];
    const index = buttons.indexOf(event.target.closest("button"));
    if (step !== undefined && index >= 0) {
      event.preventDefault();
      stepFrom(buttons, index, step).focus();
    }
  }
}
