/* The button beside the number of the line under the pointer: it copies a link to the line. It is for
   the pointer only; a click on the number, or going to the line by its number, offers the same. */

import { copyText } from "./dom.js";
import { page } from "./page_state.js";

export class LogLineLink {
  /** `linkTo(range)` is a link to lines, see log_range.js. */
  constructor({ find, view, linkTo }) {
    this.view = view;
    this.linkTo = linkTo;
    this.button = find("line-link");
    this.line = null; // that the pointer was on last
    view.element.addEventListener("pointerover", (event) => this.choose(event));
    view.element.addEventListener("scroll", () => this.draw());
    find("frame").addEventListener("pointerleave", () => this.choose({}));
    this.button.addEventListener("click", () => this.copy());
  }

  choose({ target, pointerType }) {
    this.line = pointerType === "mouse" ? target.closest(".line[data-offset]") : null;
    this.draw();
  }

  /** Shows the button beside the line, which scrolls away or is removed while a log grows. */
  draw() {
    const { line, button } = this;
    const { offsetTop, scrollTop, clientHeight } = this.view.element;
    const top = (line?.offsetTop ?? 0) - scrollTop;
    button.hidden = !line?.isConnected || top < 0 || top > clientHeight;
    button.style.top = `${offsetTop + top}px`;
  }

  async copy() {
    const offset = Number(this.line.dataset.offset);
    const isCopied = await copyText(this.linkTo({ from: offset, to: offset }));
    page.toast(isCopied ? "Link copied" : "The browser does not allow copying here.");
  }
}
