/* Short messages in a corner, each of which disappears after a while. */

import { formatStatus, isEnded } from "./format.js";
import { page } from "./page_state.js";

const SHOWN = 6000; // milliseconds

export class Toasts {
  constructor(container) {
    this.container = container;
    this.watched = new Set(); // IDs of jobs that the visitor has opened before they ended
    page.on("jobs", () => this.onList());
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

  onList() {
    this.showEnds();
    this.remember();
  }

  /** Only a job that has not ended is remembered: the end of an older one is no news. */
  remember() {
    const job = page.find(page.address.job);
    if (job && !isEnded(job)) {
      this.watched.add(job.id);
    }
  }

  /** Shows a message when a job ends that the visitor has opened before and no longer looks at. */
  showEnds() {
    for (const job of page.jobs) {
      if (isEnded(job) && this.watched.delete(job.id) && job.id !== page.address.job) {
        this.show(`${job.title}: ${formatStatus(job.status)}`);
      }
    }
  }
}
