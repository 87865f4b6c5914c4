/* Ticks beside the scrollbar, one for each place with a match in the whole log. If the view has the
   whole log, a tick is beside its line; otherwise the ticks cover the log by its bytes, and a band
   marks the part in the view. A click on a tick goes to its match. */

import { setHtml } from "./dom.js";

const STEPS = 200; // places at which ticks can be

export class LogMinimap {
  /** `select(offset)` is called for the tick that was clicked. */
  constructor(element, { view, source }, select) {
    this.element = element;
    this.view = view;
    this.source = source;
    this.places = [];
    element.addEventListener("click", ({ target }) => {
      if (target.dataset.offset) {
        select(Number(target.dataset.offset));
      }
    });
  }

  clear() {
    this.draw([]);
  }

  draw(places) {
    this.places = places;
    this.redraw();
  }

  redraw() {
    const ticks = new Map(); // height in steps -> offset
    for (const offset of this.places) {
      const step = Math.floor(this.heightOf(offset) * STEPS);
      ticks.set(step, ticks.get(step) ?? offset);
    }
    const html = [...ticks].map(
      ([step, offset]) =>
        `<u style="top:${(100 * step) / STEPS}%" data-offset="${Number(offset)}"></u>`,
    );
    setHtml(this.element, (html.length > 0 ? this.bandHtml() : "") + html.join(""));
  }

  get hasWholeLog() {
    const { offset } = this.view.first;
    return offset !== null && offset <= this.source.start && this.source.mode === "following";
  }

  /** Where a place is in the minimap, from 0 to 1. */
  heightOf(offset) {
    const line = this.hasWholeLog ? this.view.lineAt(offset) : null;
    const { start, size } = this.source;
    const height = line
      ? line.offsetTop / this.view.element.scrollHeight
      : (offset - start) / Math.max(1, size - start);
    return Math.min(0.995, Math.max(0, height));
  }

  /** Marks the part of the log that is in the view; nothing if that is all of it. */
  bandHtml() {
    const from = this.view.first.offset;
    if (this.hasWholeLog || from === null) {
      return "";
    }
    const top = this.heightOf(from);
    const bottom = this.heightOf(this.view.last.end ?? this.view.last.offset ?? from);
    const height = Math.max(0.01, bottom - top);
    return `<i style="top:${(100 * top).toFixed(2)}%;height:${(100 * height).toFixed(2)}%"></i>`;
  }
}
