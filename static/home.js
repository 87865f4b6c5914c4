/* The home: whether everything is all right. It is shown while no log is open. It draws its parts
   from what HomeSource has loaded; HomeActions handles clicks and keys. */

import { can } from "./access.js";
import { asksForHome, EMPTY_ADDRESS } from "./address.js";
import { setHtml } from "./dom.js";
import { escapeHtml, formatCount } from "./format.js";
import { HomeActions } from "./home_actions.js";
import { attentionHtml, attentionItems, isDismissible } from "./home_attention.js";
import { LastLines } from "./home_lines.js";
import { barTooltip, namesHtml } from "./home_names.js";
import { nextHtml } from "./home_next.js";
import { runningHtml, updateRunning } from "./home_running.js";
import { seen } from "./home_seen.js";
import { HomeSource } from "./home_source.js";
import { welcomeHtml } from "./home_welcome.js";
import { HoveredUsage } from "./hovered_usage.js";
import { page } from "./page_state.js";
import { Press } from "./press.js";
import { saved } from "./saved_state.js";
import { addShortcut } from "./shortcuts.js";

const OWN_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone; // looking it up takes a while
const CALM =
  '<p class="home-calm">✓ Everything is all right. Nothing has failed since you last looked.</p>';
const SKELETON = '<div class="home-skeleton" aria-hidden="true"><i></i><i></i></div>';

export class Home {
  /** `node` is the element with the class `home`. */
  constructor(node) {
    this.node = node;
    this.items = []; // that need attention, as drawn
    this.asking = ""; // ID of the job that the visitor may be about to cancel
    this.showsAll = false; // of the items that need attention
    this.cancelled = new Set(); // IDs of the jobs that the visitor has cancelled
    this.problem = ""; // why the last action failed
    this.press = new Press(this.node, () => this.draw());
    this.source = new HomeSource(
      () => this.isShown,
      () => seen.since,
      (sections) => this.onLoaded(sections),
    );
    this.lines = new LastLines(
      () => this.visibleJobs(),
      () => this.drawTimes(),
    );
    this.usage = new HoveredUsage(this.body("running"), runningIn, () => this.drawTimes());
    new HomeActions(this);
    this.handlers = {
      address: () => this.onAddress(),
      status: () => this.onStatus(),
      tick: () => this.onTick(),
    };
    page.listen(this.handlers);
    this.listen();
    addShortcut("h", "go home", () => page.go(EMPTY_ADDRESS), "Page");
    this.onAddress();
  }

  close() {
    page.unlisten(this.handlers);
    saved.removeEventListener("answer", this.onSavedAnswer);
    this.press.close();
    document.removeEventListener("visibilitychange", this.onVisible);
  }

  listen() {
    this.node.addEventListener("pointerover", (event) => this.addTooltip(event));
    this.onVisible = () => this.source.refresh();
    document.addEventListener("visibilitychange", this.onVisible);
    this.onSavedAnswer = () => this.reload("schedules");
    saved.addEventListener("answer", this.onSavedAnswer);
  }

  find(name) {
    return this.node.querySelector(`.${name}`);
  }

  body(part) {
    return this.node.querySelector(`[data-part="${part}"]`);
  }

  /** Can the visitor see the home? On a narrow screen, the style sheet may hide it. */
  get isShown() {
    return this.node.getClientRects().length > 0;
  }

  get isDown() {
    return Boolean(page.status.problem);
  }

  // --- What has changed ---

  onAddress() {
    document.documentElement.classList.toggle("tailboard-home", asksForHome(page.address));
    this.node.hidden = Boolean(page.address.job);
    this.noteShown();
    this.asking = "";
    this.draw();
    this.source.refresh();
  }

  /** Remembers whose log is shown, and whose was shown until now. */
  noteShown() {
    const ids = new Set([this.shownJob, page.address.job].filter(Boolean));
    for (const id of ids) {
      seen.rememberShown(id);
    }
    this.shownJob = page.address.job;
    seen.dismissShown(this.content("attention")?.failures ?? []);
  }

  onTick() {
    this.draw();
    this.usage.update();
  }

  onStatus() {
    this.draw();
    this.source.refresh();
  }

  onLoaded(sections) {
    seen.dismissShown(this.content("attention")?.failures ?? []);
    if (sections.includes("schedules") && this.content("schedules")) {
      seen.forgetResumed(this.content("schedules").schedules);
    }
    this.draw();
  }

  reload(section) {
    this.source.forget(section);
    this.source.refresh();
  }

  content(section) {
    return this.source.content[section];
  }

  // --- Drawing ---

  draw() {
    if (this.press.isHeld || !page.hasStatuses || !this.isShown) {
      return;
    }
    const total = Object.values(page.status.counts).reduce((sum, count) => sum + count, 0);
    this.find("home-to-list").hidden = total === 0;
    this.find("home-total").textContent = formatCount(total);
    const isAlone = !page.hasHeard || total === 0;
    this.find("home-alone").hidden = !isAlone;
    this.find("home-parts").hidden = isAlone;
    if (isAlone) {
      this.redraw(this.find("home-alone"), this.aloneHtml());
      return;
    }
    this.drawAttention();
    this.drawRunning();
    this.drawPart("schedules", ({ schedules }) => nextHtml(schedules, this.context));
    this.drawNames();
  }

  aloneHtml() {
    if (!page.hasHeard) {
      const where = escapeHtml(page.status.api);
      return this.isDown
        ? `<p class="home-lead">Can't reach the API${where ? ` at ${where}` : ""}.</p><p>Retrying… Your jobs appear here as soon as it answers.</p>`
        : SKELETON;
    }
    const { workers, slots } = page.status;
    const { isDown, problem } = this;
    return welcomeHtml({ workers, slots, isDown, problem, canSubmit: can("submit") });
  }

  /** What the parts need to draw. */
  get context() {
    return {
      statuses: page.statuses,
      now: page.now,
      isDown: this.isDown,
      zone: OWN_ZONE,
      link: (change) => page.link(change),
      showsAll: this.showsAll,
      asking: this.asking,
      cancelled: this.cancelled,
    };
  }

  /** Draws a part: its content, or else why there is none. */
  drawPart(section, toHtml) {
    const node = this.body(section);
    const content = this.content(section);
    const error = this.source.errors[section];
    node.ariaBusy = String(!content && !error);
    if (content) {
      this.redraw(node, toHtml(content) + errorHtml(error));
    } else {
      this.redraw(node, error ? errorHtml(error) : SKELETON);
    }
  }

  drawAttention() {
    const node = this.body("attention");
    const { attention, queues, schedules } = this.source.content;
    const { errors } = this.source;
    const wrong = [...new Set([errors.attention, errors.queues].filter(Boolean))];
    const isLoaded = (attention || errors.attention) && (queues || errors.queues);
    node.ariaBusy = String(!isLoaded);
    if (!isLoaded) {
      this.redraw(node, SKELETON);
      return;
    }
    const failures = attention?.failures ?? [];
    const found = { failures, queues: queues?.queues ?? [], schedules: schedules?.schedules ?? [] };
    const { since, dismissed } = seen;
    this.items = attentionItems({ status: page.status, ...found }, { since, dismissed });
    const calm = wrong.length > 0 ? "" : CALM;
    const list = this.items.length > 0 ? attentionHtml(this.items, this.context) : calm;
    const problem = errorHtml(this.problem, "Not done");
    this.redraw(node, problem + list + wrong.map((error) => errorHtml(error)).join(""));
    this.find("dismiss-all").hidden = this.items.filter(isDismissible).length < 2;
  }

  drawRunning() {
    const jobs = this.content("running")?.jobs ?? [];
    for (const id of this.cancelled) {
      if (!jobs.some((job) => job.id === id)) {
        this.cancelled.delete(id);
      }
    }
    this.drawPart("running", (content) =>
      jobs.length > 0
        ? runningHtml(content, this.context)
        : '<p class="faint">No job is running.</p>',
    );
    this.drawTimes();
    this.lines.start();
  }

  drawTimes() {
    const jobs = this.content("running")?.jobs ?? [];
    const { lines } = this.lines;
    const usageOf = (id) => this.usage.of(id);
    updateRunning(this.body("running"), jobs, { now: page.now, lines, usageOf });
  }

  /** Draws the names if they or the links in them have changed: there can be a thousand bars. */
  drawNames() {
    const state = [
      this.source.versions.names,
      this.source.errors.names,
      this.isDown,
      page.link({ job: "", at: "" }),
    ].join("\n");
    if (state !== this.namesState || !this.content("names")) {
      this.namesState = state;
      this.drawPart("names", (content) => namesHtml(content, this.context));
    }
  }

  /** The running jobs whose rows are visible. */
  visibleJobs() {
    if (document.hidden || !this.isShown || this.isDown || this.find("home-parts").hidden) {
      return [];
    }
    const { top, bottom } = this.node.getBoundingClientRect();
    const rows = [...this.body("running").querySelectorAll("[data-job]")].filter((row) => {
      const box = row.getBoundingClientRect();
      return box.bottom > top && box.top < bottom;
    });
    return rows.map((row) => row.dataset.job);
  }

  /** Sets the HTML of a node and keeps the focus on the same button or link. */
  redraw(node, html) {
    const focused = this.node.getRootNode().activeElement;
    const key = node.contains(focused) ? focused.dataset.key : undefined;
    setHtml(node, html);
    if (key && !focused.isConnected) {
      node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
    }
  }

  addTooltip(event) {
    const bar = event.target.closest(".home-runs a");
    if (bar && !bar.title) {
      const id = new URLSearchParams(bar.search).get("job");
      bar.title = barTooltip(bar.ariaLabel, id, page.now);
    }
  }
}

/** The ID of the job in whose row a node is. */
function runningIn(node) {
  return node.closest("[data-job]")?.dataset.job;
}

function errorHtml(error, prefix = "Can't show this part") {
  return error ? `<p class="home-error" role="alert">${prefix}: ${escapeHtml(error)}</p>` : "";
}
