/* To the error: how many lines of a log tell of one, the way from one to the next, and ticks
   beside the scrollbar. Which lines these are log_text.js says. */

import { formatCount } from "./format.js";

const TICK_DELAY = 300; // milliseconds between drawings of the ticks
const MOST_TICKS = 200;

export class LogErrors {
  constructor(find, view) {
    this.find = find;
    this.view = view;
    this.shown = false; // is this a job whose errors matter?
    this.ended = false;
    find("previous-error").addEventListener("click", () => this.step(-1));
    find("next-error").addEventListener("click", () => this.step(1));
  }

  /** Of a job that ended badly the errors are counted, and that there are none is said. */
  setShown(shown) {
    this.shown = shown;
    this.update();
  }

  update() {
    this.timer ??= setTimeout(() => this.draw(), TICK_DELAY);
  }

  draw() {
    this.timer = null;
    const { errors } = this.view;
    this.find("errors").hidden = !this.shown;
    this.find("error-steps").hidden = errors.length === 0;
    const noun = errors.length === 1 ? "error" : "errors";
    const none = this.view.count > 0 ? "no error line known here" : "";
    this.find("error-count").textContent =
      errors.length > 0 ? `✕ ${formatCount(errors.length)} ${noun}` : none;
    this.find("error-count").classList.toggle("some", errors.length > 0);
    this.drawTicks(this.shown ? errors : []);
  }

  drawTicks(errors) {
    const { scrollHeight } = this.view.element;
    const every = Math.ceil(errors.length / MOST_TICKS);
    const ticks = errors.filter((_, index) => index % every === 0);
    const html = ticks.map(
      (line) => `<u style="top:${((100 * line.offsetTop) / scrollHeight).toFixed(2)}%"></u>`,
    );
    this.find("error-ticks").innerHTML = html.join("");
  }

  /** To the next error below (or above) the one pointed at, or the middle of what is in sight. */
  step(by) {
    const { errors } = this.view;
    if (errors.length === 0) {
      return;
    }
    const { scrollTop, clientHeight } = this.view.element;
    const current = errors.find((line) => line.classList.contains("current"));
    const eye = current ? current.offsetTop : scrollTop + clientHeight / 2;
    const below = errors.filter((line) => line.offsetTop > eye);
    const above = errors.filter((line) => line.offsetTop < eye);
    const line = by > 0 ? (below[0] ?? errors[0]) : (above.at(-1) ?? errors.at(-1));
    this.point(line);
  }

  point(line) {
    for (const other of this.view.element.querySelectorAll(".current")) {
      other.classList.remove("current");
    }
    line.classList.add("current");
    this.view.scrollToLine(line);
  }
}
