/* Compares the log with that of another run, by default of the last success: both side by side,
   instead of the log. The address names the other run, so that the comparison can be linked to. More
   of a long comparison is loaded as the reader scrolls. */

import { compareText, hunkHtml, sideHtml } from "./compare_words.js";
import { setHtml } from "./dom.js";
import { endedBadly } from "./format.js";
import { fetchComparison } from "./log_stream.js";
import { page } from "./page_state.js";
import { pause } from "./pause.js";

const LAST_SUCCESS = "success"; // as the other run in the address: whichever it is
const NEAR = 800; // pixels from the end at which more is loaded
const CONTINUE = 300; // milliseconds until a partial comparison is requested again

export class LogCompare {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.find = find;
    this.node = find("compare");
    this.body = find("compare-body");
    this.lastSuccess = ""; // its ID; "" if it is not known
    this.other = ""; // the run in the address; "" if the log is shown
    this.forget();
    const on = (name, event, act) => find(name).addEventListener(event, act);
    for (const name of ["compare-success", "compare-failed"]) {
      on(name, "click", () => this.open());
    }
    on("close-compare", "click", () => this.close());
    on("compare-wrap", "click", () => find("wrap").click());
    on("wrap", "change", () => this.drawWrap());
    on("compare-body", "scroll", () => this.loadMore());
    on("compare-body", "wheel", (event) => this.onWheel(event));
    on("compare-body", "pointermove", (event) => this.onDrag(event));
    on("compare-body", "keydown", (event) => this.onKey(event));
    on("compare-slider", "scroll", () => this.shift());
  }

  // --- Which runs ---

  reset() {
    this.lastSuccess = "";
    this.drawButtons(null);
  }

  draw({ compared_with: successes }, job) {
    this.lastSuccess = successes[0] ?? "";
    this.drawButtons(job);
  }

  drawButtons(job) {
    this.find("compare-success").hidden = !job?.started_at;
    this.find("compare-failed").hidden = !job || !endedBadly(job) || !this.lastSuccess;
  }

  open() {
    this.find("log-menu").hidePopover();
    page.go({ compare: this.lastSuccess || LAST_SUCCESS });
    this.body.focus();
  }

  close() {
    page.go({ compare: "" });
    this.pane.view.element.focus();
  }

  /** The address has changed, or the API's URL has arrived. */
  update() {
    const { job = "", compare = "" } = page.address;
    const other = job && compare;
    if (other !== this.other || job !== this.jobId) {
      this.forget();
      this.jobId = job;
      this.other = other;
      this.node.hidden = !other;
      this.find("log-pane").classList.toggle("comparing", Boolean(other));
      this.drawWrap();
    }
    if (other && page.status.api && !this.isBegun) {
      this.isBegun = true;
      this.say("Comparing…");
      this.load();
    }
  }

  forget() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.isBegun = false;
    this.isLoading = false;
    this.hunks = 0; // that are shown
    this.longest = 0; // characters of the longest line that is shown
    this.hasMore = false;
    this.body.replaceChildren();
    this.body.scrollTop = 0;
    for (const name of ["compare-left", "compare-right", "compare-said"]) {
      setHtml(this.find(name), "");
    }
  }

  // --- Loading ---

  loadMore() {
    const { scrollTop, scrollHeight, clientHeight } = this.body;
    if (this.hasMore && !this.isLoading && scrollHeight - scrollTop - clientHeight < NEAR) {
      this.load();
    }
  }

  async load() {
    const { signal } = this.aborter;
    this.isLoading = true;
    const { wrong, ...found } = await this.fetch(signal);
    if (signal.aborted) {
      return; // something else is shown
    }
    this.isLoading = false;
    this.hasMore = Boolean(found.more);
    if (wrong) {
      this.say(wrong);
    } else {
      this.show(found);
      this.loadMore();
    }
  }

  /** The part after the hunks that are shown; or { wrong }, a sentence. */
  async fetch(signal) {
    const parameters = { from: this.hunks };
    if (this.other !== LAST_SUCCESS) {
      parameters.with = this.other;
    }
    for (;;) {
      const found = await fetchComparison(this.jobId, parameters, signal);
      if (signal.aborted || !found.partial) {
        return found;
      }
      await pause(CONTINUE);
    }
  }

  // --- Drawing ---

  show(found) {
    const { left, right, hunks } = found;
    const link = (change) => page.link(change);
    const context = { link, now: page.now, statuses: page.statuses };
    setHtml(this.find("compare-left"), sideHtml(left, "−", context));
    setHtml(this.find("compare-right"), sideHtml(right, "+", context));
    this.say(compareText(found));
    const ids = { left: left.id, right: right.id };
    const html = hunks.map((hunk) => hunkHtml(hunk, ids, link));
    this.body.insertAdjacentHTML("beforeend", html.join(""));
    this.hunks += hunks.length;
    this.measure(hunks);
  }

  /** Makes room in the slider for the longest line. */
  measure(hunks) {
    for (const { left_lines: left, right_lines: right } of hunks) {
      for (const text of [...left, ...right]) {
        this.longest = Math.max(this.longest, text.length);
      }
    }
    this.node.style.setProperty("--longest", this.longest);
  }

  say(text) {
    this.find("compare-said").textContent = text;
    this.find("compare-said").hidden = !text;
  }

  // --- Long lines ---

  drawWrap() {
    const isWrapped = this.find("wrap").checked;
    this.node.classList.toggle("wrapped", isWrapped);
    this.find("compare-wrap").ariaPressed = String(isWrapped);
  }

  /** Moves the texts of both sides as far as the slider below them. */
  shift() {
    this.body.style.setProperty("--shift", `${-this.find("compare-slider").scrollLeft}px`);
  }

  onWheel(event) {
    const across = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    if (Math.abs(across) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      event.preventDefault();
      this.find("compare-slider").scrollLeft += across;
    }
  }

  /** A finger moves the texts, too. */
  onDrag({ pointerType, buttons, movementX }) {
    if (pointerType === "touch" && buttons) {
      this.find("compare-slider").scrollLeft -= movementX;
    }
  }

  onKey(event) {
    const by = { ArrowLeft: -60, ArrowRight: 60 }[event.key];
    if (by && !event.altKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.find("compare-slider").scrollLeft += by;
    }
  }
}
