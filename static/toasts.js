/* Short messages in a corner, each gone after a while. */

import { formatStatus, isEnded } from "./format.js";
import { page } from "./page_state.js";

const SHOWN = 6000; // milliseconds

export class Toasts {
  constructor(container) {
    this.container = container;
    this.lookedAt = new Set(); // IDs of jobs that were shown and had not ended
    page.on("jobs", () => this.tellEnds());
    page.on("address", () => this.remember());
    this.remember();
  }

  show(text) {
    const toast = document.createElement("p");
    toast.className = "toast";
    toast.textContent = text;
    this.container.append(toast);
    setTimeout(() => toast.remove(), SHOWN);
  }

  remember() {
    if (page.address.job) {
      this.lookedAt.add(page.address.job);
    }
  }

  /** The end of a job that was looked at is told, unless it is the one shown. */
  tellEnds() {
    for (const job of page.jobs) {
      if (isEnded(job) && this.lookedAt.delete(job.id) && job.id !== page.address.job) {
        this.show(`${job.title}: ${formatStatus(job.status)}`);
      }
    }
  }
}
