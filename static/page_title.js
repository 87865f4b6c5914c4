/* What a visitor sees while looking elsewhere: the tab's title, its icon, and notifications. */

import { endedBadly, formatCount, formatStatus, isEnded, statusLook } from "./format.js";
import { shortProgress } from "./job_progress.js";
import { page } from "./page_state.js";

const IDLE = "#64748b"; // the colour of the icon's dot while no job runs

class PageTitle {
  constructor() {
    this.open = new Set(); // IDs of jobs that had not ended in the last list
    this.unseen = new Set(); // IDs of jobs that ended badly since the page last had the focus
    this.shownJob = null; // the job whose log was shown last
    this.shownProgress = null; // of that job
    page.on("jobs", () => this.receive());
    page.on("status", () => this.draw());
    page.on("address", () => this.draw());
    page.on("tick", () => this.draw()); // Streamlit sometimes sets its own title
    addEventListener("focus", () => this.clearIfSeen());
    document.addEventListener("visibilitychange", () => this.clearIfSeen());
    this.receive(); // the list may have arrived before this file
  }

  receive() {
    for (const job of page.jobs) {
      if (isEnded(job)) {
        this.onEnd(job);
      } else {
        this.open.add(job.id);
      }
    }
    this.clearIfSeen();
  }

  onEnd(job) {
    if (page.bells.has(job.id)) {
      page.toggleBell(job.id, false);
      notify(job);
    }
    if (this.open.delete(job.id) && endedBadly(job)) {
      this.unseen.add(job.id);
    }
  }

  clearIfSeen() {
    if (document.visibilityState === "visible" && document.hasFocus()) {
      this.unseen.clear();
    }
    this.draw();
  }

  /** Takes what is known of the job whose log is shown, and its progress or null. */
  showJob(job, progress) {
    this.shownJob = job;
    this.shownProgress = progress;
    this.draw();
  }

  draw() {
    if (!page.statuses.failed) {
      return; // the header has not loaded yet
    }
    const running = page.status.counts.running ?? 0;
    const failed = this.unseen.size;
    const isOpen = this.shownJob !== null && this.shownJob.id === page.address.job;
    const title = isOpen
      ? titleOf(this.shownJob, this.shownProgress)
      : titleOfCounts(running, failed);
    if (document.title !== title) {
      document.title = title;
    }
    this.drawIcon(this.chooseColour(running, failed));
  }

  chooseColour(running, failed) {
    if (failed > 0) {
      return page.statuses.failed.colour;
    }
    return running > 0 ? page.statuses.running.colour : IDLE;
  }

  drawIcon(colour) {
    const href = `data:image/svg+xml,${encodeURIComponent(iconSvg(colour))}`;
    const icon = document.querySelector("link[rel~=icon]");
    if (icon && icon.href !== href) {
      icon.href = href;
    }
  }
}

function titleOf(job, progress) {
  const sign = progress ? shortProgress(progress) : statusLook(job.status, page.statuses).icon;
  return `${sign} ${job.title} · Tailboard`;
}

function titleOfCounts(running, failed) {
  const parts = [
    failed > 0 ? `✕${formatCount(failed)}` : "",
    running > 0 ? `▶${formatCount(running)}` : "",
    "Tailboard",
  ];
  return parts.filter(Boolean).join(" ");
}

function iconSvg(colour) {
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">' +
    '<rect width="16" height="16" rx="3" fill="#1e293b"/>' +
    '<path d="M3 5h10M3 8h10M3 11h6" stroke="#fff" stroke-width="1.5"/>' +
    `<circle cx="12" cy="12" r="4" fill="${colour}"/></svg>`
  );
}

/** Can this browser show notifications? Over plain HTTP it cannot ask for permission. */
export function canNotify() {
  return "Notification" in window && window.isSecureContext;
}

/** Asks for permission unless the visitor has already answered. Must be called by a click. */
export async function askToNotify() {
  return (await Notification.requestPermission()) === "granted";
}

function notify(job) {
  if (canNotify() && Notification.permission === "granted") {
    const notification = new Notification(`${job.title}: ${formatStatus(job.status)}`, {
      tag: job.id,
    });
    notification.onclick = () => {
      window.focus();
      page.show(job.id);
    };
  }
}

export const pageTitle = new PageTitle();
