/* The queues in the page's menu: how many jobs are queued in each, which are paused and why, and
   buttons to pause and resume them. */

import { setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { escapeHtml, formatClock, formatCount } from "./format.js";
import { DEFAULT_QUEUE, page } from "./page_state.js";
import { Press } from "./press.js";

export class Queues {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    this.known = []; // the queues as the server sent them
    this.asking = ""; // the queue that the visitor is about to pause
    this.problem = "";
    find("page-menu").addEventListener("toggle", (event) => this.onToggle(event));
    find("queues").addEventListener("click", (event) => this.onClick(event));
    find("queues").addEventListener("keydown", (event) => this.onKey(event));
    this.press = new Press(find("queues"), () => this.draw());
  }

  close() {
    this.press.close();
  }

  onToggle(event) {
    this.asking = "";
    if (event.newState === "open") {
      this.draw();
      this.request("queues");
    }
  }

  onClick(event) {
    this.press.isHeld = false; // the question is drawn at once
    const { act, queue } = event.target.closest("[data-act]")?.dataset ?? {};
    if (act === "ask") {
      this.showQuestion(queue);
    } else if (act === "no") {
      this.showQuestion("");
    } else if (act === "pause") {
      this.pause();
    } else if (act === "resume") {
      this.request("resume", { queue });
    }
  }

  onKey(event) {
    if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      this.pause();
    }
  }

  showQuestion(queue) {
    this.asking = queue;
    this.draw();
    this.find("queues").querySelector("input")?.focus();
  }

  pause() {
    const queue = this.asking;
    const why = this.find("queues").querySelector("input").value.trim();
    this.asking = "";
    this.request("pause", { queue, why });
  }

  /** Sends an errand. The answer contains all queues after the change. */
  async request(errand, details = {}) {
    const answer = await ask(errand, details);
    this.problem = answer.error ?? "";
    this.known = answer.queues ?? this.known;
    this.draw();
    if (errand !== "queues") {
      page.refresh();
    }
  }

  // --- Drawing ---

  /** Shows the paused queues of the last refresh in the header. */
  drawPaused(paused) {
    const pill = this.find("paused-pill");
    pill.hidden = paused.length === 0;
    const count = formatCount(paused.length);
    const what = paused.length === 1 ? `${paused[0].queue} paused` : `${count} queues paused`;
    setHtml(pill, `<i class="paused-mark"></i><span class="word">${escapeHtml(what)}</span>`);
    pill.title = paused.map((pause) => `${pause.queue} is ${describePause(pause)}`).join("\n");
    pill.ariaLabel = what;
  }

  draw() {
    if (this.press.isHeld || this.isAnswering) {
      return;
    }
    const rows = this.all().map((queue) => this.rowHtml(queue));
    const problem = this.problem ? `<p class="wrong">${escapeHtml(this.problem)}</p>` : "";
    setHtml(this.find("queues"), `<h3>Queues</h3><ul>${rows.join("")}</ul>${problem}`);
  }

  /** Is the visitor typing a reason? Drawing would replace the field and lose the text. */
  get isAnswering() {
    const field = this.find("queues").querySelector("input");
    return this.asking !== "" && field?.dataset.queue === this.asking;
  }

  /** The queues that the server knows and those of listed jobs, by name. */
  all() {
    const known = new Map(this.known.map((each) => [each.queue, each]));
    for (const name of [DEFAULT_QUEUE, ...page.jobs.map((job) => job.queue)]) {
      known.set(name, known.get(name) ?? { queue: name, queued: 0, paused: null });
    }
    return [...known.values()].sort((one, other) => (one.queue < other.queue ? -1 : 1));
  }

  rowHtml({ queue, queued, paused }) {
    const waiting = queued > 0 ? `${formatCount(queued)} queued` : "";
    const mark = paused ? '<i class="paused-mark"></i> ' : "";
    const name = `<span class="queue-name">${mark}${escapeHtml(queue)} <small>${waiting}</small></span>`;
    if (queue === this.asking) {
      return (
        `<li>${name}<span class="queue-question"><input aria-label="Why is ${escapeHtml(queue)} paused?" ` +
        `placeholder="Reason (optional)" maxlength="500" data-queue="${escapeHtml(queue)}">${buttonHtml("pause", queue, "Pause")}` +
        `${buttonHtml("no", queue, "Cancel", "Do not pause")}</span></li>`
      );
    }
    if (paused) {
      const why = `<span class="queue-why">${escapeHtml(describeSince(paused))}</span>`;
      return `<li>${name}${buttonHtml("resume", queue, "Resume")}${why}</li>`;
    }
    return `<li>${name}${buttonHtml("ask", queue, "Pause…")}</li>`;
  }
}

function buttonHtml(act, queue, label, spoken = label.replace("…", "")) {
  const name = escapeHtml(queue);
  return (
    `<button type="button" data-act="${act}" data-queue="${name}" ` +
    `aria-label="${spoken} ${name}">${label}</button>`
  );
}

function describePause({ by, why }, when = "") {
  return `paused${by ? ` by ${by}` : ""}${when}${why ? `: ${why}` : ""}`;
}

function describeSince(pause) {
  const { since } = pause;
  const when = since ? ` since ${formatClock(Date.parse(since), Date.now())}` : "";
  return describePause(pause, when);
}
