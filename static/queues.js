/* The queues in the page's menu: how many of their jobs run and wait, their limits, which are paused
   and why, and buttons to change that. */

import { setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { escapeHtml, formatClock, formatCount } from "./format.js";
import { DEFAULT_QUEUE, page } from "./page_state.js";
import { Press } from "./press.js";
import { queueCounts } from "./queue_words.js";

export class Queues {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.find = find;
    this.known = []; // the queues as the server sent them
    // What the visitor is about to do: { act, queue, text }. `act` is "pause" or "limit", `text` the
    // content of the field. null: nothing
    this.asking = null;
    this.problem = "";
    this.isCounting = false; // is an answer awaited that only brings the counts?
    find("page-menu").addEventListener("toggle", (event) => this.onToggle(event));
    find("queues").addEventListener("click", (event) => this.onClick(event));
    find("queues").addEventListener("keydown", (event) => this.onKey(event));
    this.press = new Press(find("queues"), () => this.draw());
    this.onStatus = this.onStatus.bind(this);
    page.on("status", this.onStatus);
  }

  close() {
    this.press.close();
    page.removeEventListener("status", this.onStatus);
  }

  /** Counts again with each refresh of the page while the menu is open. */
  onStatus() {
    const isOpen = this.find("page-menu").matches(":popover-open");
    if (isOpen && !this.isCounting && !page.status.problem) {
      this.count();
    }
  }

  async count() {
    this.isCounting = true;
    await this.request("queues");
    this.isCounting = false;
  }

  onToggle(event) {
    this.asking = null;
    this.problem = "";
    if (event.newState === "open") {
      this.draw();
      this.count();
    }
  }

  onClick(event) {
    this.press.isHeld = false; // the question is drawn at once
    const { act, queue } = event.target.closest("[data-act]")?.dataset ?? {};
    const acts = {
      "ask-pause": () => this.showQuestion({ act: "pause", queue, text: "" }),
      "ask-limit": () => this.showQuestion({ act: "limit", queue, text: this.limitOf(queue) }),
      no: () => this.hideQuestion(),
      yes: () => this.answer(),
      resume: () => this.request("resume", { queue }),
    };
    acts[act]?.();
  }

  onKey(event) {
    if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      this.answer();
    }
  }

  /** The limit of a queue as text; "" if it has none. */
  limitOf(queue) {
    return String(this.known.find((each) => each.queue === queue)?.limit ?? "");
  }

  get field() {
    return this.find("queues").querySelector("input");
  }

  showQuestion(asking) {
    this.asking = asking;
    this.problem = "";
    this.draw();
    this.field?.select();
  }

  /** Returns to the button that asked. */
  hideQuestion() {
    const { act, queue } = this.asking;
    this.showQuestion(null);
    this.focus({ act: `ask-${act}`, queue });
  }

  /** Does what the visitor was asked about. A limit that is refused can be corrected. */
  async answer() {
    const asked = { ...this.asking, text: this.field.value.trim() };
    this.hideQuestion();
    if (asked.act === "pause") {
      this.request("pause", { queue: asked.queue, why: asked.text });
      return;
    }
    await this.request("limit", { queue: asked.queue, limit: asked.text });
    const { problem } = this;
    if (problem && !this.asking) {
      this.showQuestion(asked);
      this.problem = problem;
      this.drawProblem();
    }
  }

  /** Sends an errand. The answer contains all queues after the change. */
  async request(errand, details = {}) {
    const answer = await ask(errand, details);
    if (answer.error || errand !== "queues") {
      this.problem = answer.error ?? "";
    }
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
    const focused = this.root.activeElement?.closest(".queue-list [data-act]")?.dataset;
    setHtml(this.find("queue-list"), rows.join(""));
    this.drawProblem();
    if (focused) {
      this.focus(focused);
    }
  }

  get root() {
    return this.find("queues").getRootNode();
  }

  /** Puts the focus on a button again that was drawn again. */
  focus({ act, queue }) {
    const name = CSS.escape(queue);
    this.find("queue-list").querySelector(`[data-act="${act}"][data-queue="${name}"]`)?.focus();
  }

  drawProblem() {
    this.find("queue-problem").textContent = this.problem;
  }

  /** Is the visitor typing? Drawing would replace the field and lose the text. */
  get isAnswering() {
    const { field, asking } = this;
    return (
      field && asking && field.dataset.act === asking.act && field.dataset.queue === asking.queue
    );
  }

  /** The queues that the server knows and those of listed jobs, by name. */
  all() {
    const known = new Map(this.known.map((each) => [each.queue, each]));
    for (const name of [DEFAULT_QUEUE, ...page.jobs.map((job) => job.queue)]) {
      known.set(name, known.get(name) ?? { queue: name, paused: null });
    }
    return [...known.values()].sort((one, other) => (one.queue < other.queue ? -1 : 1));
  }

  rowHtml(row) {
    const { queue, paused } = row;
    const mark = paused ? '<i class="paused-mark"></i> ' : "";
    const counts = `<small>${escapeHtml(queueCounts(row))}</small>`;
    const name = `<span class="queue-name">${mark}${escapeHtml(queue)} ${counts}</span>`;
    if (queue === this.asking?.queue) {
      return `<li>${name}${QUESTIONS[this.asking.act](queue, this.asking.text)}</li>`;
    }
    const limit = buttonHtml("ask-limit", queue, "Limit…", "Limit of");
    if (paused) {
      const why = `<span class="queue-why">${escapeHtml(describeSince(paused))}</span>`;
      return `<li>${name}${limit}${buttonHtml("resume", queue, "Resume")}${why}</li>`;
    }
    return `<li>${name}${limit}${buttonHtml("ask-pause", queue, "Pause…")}</li>`;
  }
}

const QUESTIONS = {
  pause: (queue) =>
    questionHtml(
      `<input aria-label="Why is ${escapeHtml(queue)} paused?" placeholder="Reason (optional)" ` +
        `maxlength="500" data-act="pause" data-queue="${escapeHtml(queue)}">`,
      buttonHtml("yes", queue, "Pause"),
      buttonHtml("no", queue, "Cancel", "Do not pause"),
    ),
  limit: (queue, text) =>
    questionHtml(
      `<label class="queue-limit">Jobs that run at a time <input inputmode="numeric" maxlength="6" ` +
        `size="5" placeholder="no limit" value="${escapeHtml(text)}" autocomplete="off" ` +
        `aria-describedby="queue-problem" data-act="limit" data-queue="${escapeHtml(queue)}"></label>`,
      buttonHtml("yes", queue, "Set", "Set the limit of"),
      buttonHtml("no", queue, "Cancel", "Keep the limit of"),
    ),
};

function questionHtml(...parts) {
  return `<span class="queue-question" data-needs="queues">${parts.join("")}</span>`;
}

function buttonHtml(act, queue, label, spoken = label.replace("…", "")) {
  const name = escapeHtml(queue);
  return (
    `<button type="button" data-needs="queues" data-act="${act}" data-queue="${name}" ` +
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
