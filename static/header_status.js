/* What the header says about the present: failures of the day, workers, and what is wrong. */

import { setHtml } from "./dom.js";
import { escapeHtml, formatCount } from "./format.js";
import { page } from "./page_state.js";

export class HeaderStatus {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    this.draw = this.draw.bind(this);
    page.on("status", this.draw);
  }

  close() {
    page.removeEventListener("status", this.draw);
  }

  draw() {
    const { failed_today: failed, problem, slots } = page.status;
    setHtml(this.find("totals"), page.hasHeard && failed ? failedHtml(failed) : "");
    this.find("slots").textContent =
      page.hasHeard && slots.all > 0
        ? `${formatCount(slots.busy)} of ${formatCount(slots.all)} slots busy`
        : "";
    this.find("no-worker").hidden = !page.lacksWorker;
    if (this.find("problem").textContent !== problem) {
      this.find("problem").textContent = problem;
    }
    this.find("problem").title = problem;
    document.documentElement.classList.toggle("tailboard-problem", Boolean(problem));
  }
}

/** `failed` is a number, with a plus sign if there may be more. */
function failedHtml(failed) {
  const title = "Jobs that failed, timed out or were lost since midnight";
  return `<span title="${title}"><b>${escapeHtml(failed)}</b> failed today</span>`;
}
