/* What the page shows instead of a log while none is open: the timeline, and how to begin. */

import { copyText, setHtml } from "./dom.js";
import { escapeHtml, formatCount } from "./format.js";
import { page } from "./page_state.js";
import { layOutTimeline, timelineHtml } from "./timeline.js";

const KEYS = [
  "<kbd>j</kbd> <kbd>k</kbd> move",
  "<kbd>Enter</kbd> opens",
  "<kbd>c</kbd> runs a job",
  "<kbd>/</kbd> searches",
  "<kbd>?</kbd> shows all keys",
];
const GUIDE =
  '<p class="faint">Choose a job to see its log.</p>' +
  `<p class="faint keys">${KEYS.map((key) => `<span>${key}</span>`).join("")}</p>`;

export class Overview {
  /** `root` is the node of the overview. Clicks in it on an element with `data-go="job"` or "filter"
      are followed by the list. */
  constructor(root) {
    this.root = root;
    root.addEventListener("click", (event) => this.onClick(event));
  }

  /** Called whenever something may have changed that the page shows, and each second. */
  draw() {
    this.root.hidden = Boolean(page.address.job);
    if (this.root.hidden) {
      return;
    }
    const layout = layOutTimeline(page.jobs, page.now);
    const link = (job, attributes) =>
      `<a href="${escapeHtml(page.link({ job: job.id, at: "" }))}" data-go="job" ${attributes}>`;
    const html = layout ? timelineHtml(layout, page.statuses, page.now, link) : "";
    setHtml(this.root.querySelector(".timeline"), html);
    setHtml(this.root.querySelector(".guide"), guideHtml());
  }

  onClick(event) {
    const button = event.target.closest(".copy-worker");
    if (button) {
      copyWithAnswer(button, "python worker.py");
    }
  }
}

function guideHtml() {
  const { workers, counts, problem } = page.status;
  const queued = counts.queued ?? 0;
  if (workers.length === 0 && !problem) {
    const waiting = queued > 0 ? `Queued jobs: ${formatCount(queued)}. ` : "";
    return (
      `<p>${waiting}No worker is running. Start one:</p><p><code>python worker.py</code> ` +
      '<button type="button" class="copy-worker">Copy</button></p>'
    );
  }
  return page.jobs.length > 0 ? GUIDE : "";
}

async function copyWithAnswer(button, text) {
  const done = await copyText(text);
  button.textContent = done ? "Copied" : "Cannot copy here";
}
