/* The divider between the list and the log. It sets the width of the list, which the browser
   stores. */

import { readSetting, writeSetting } from "./page_state.js";

const LEAST_WIDTH = 240; // pixels, as all lengths in this file
const WIDTH = 360;
const STEPS = { ArrowLeft: -20, ArrowRight: 20 };

export class ListDivider {
  constructor(node) {
    this.node = node;
    this.setWidth(readSetting("list-width", WIDTH));
    node.addEventListener("pointerdown", (event) => {
      node.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    node.addEventListener("pointermove", (event) => {
      if (node.hasPointerCapture(event.pointerId)) {
        this.setWidth(event.clientX);
      }
    });
    node.addEventListener("pointerup", () => writeSetting("list-width", this.width));
    node.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    if (event.key in STEPS) {
      this.setWidth(this.width + STEPS[event.key]);
      writeSetting("list-width", this.width);
    }
  }

  setWidth(wanted) {
    const most = Math.max(LEAST_WIDTH, innerWidth / 2);
    this.width = Math.round(Math.min(most, Math.max(LEAST_WIDTH, wanted)));
    this.node.ariaValueNow = String(this.width);
    this.node.ariaValueMin = String(LEAST_WIDTH);
    this.node.ariaValueMax = String(Math.round(most));
    document.documentElement.style.setProperty("--tailboard-list-width", `${this.width}px`);
  }
}
