/* The files of a job, below the head of its log. The list is requested while the job runs, seldom,
   and once after its end. file_view.js shows one of the files beside the log. */

import { opensElsewhere, setHtml } from "./dom.js";
import { addressOfFile, viewOf } from "./file_names.js";
import { asSentence, FileProblem, fetchFiles, fileUrl, renewTicket } from "./file_source.js";
import { FileView } from "./file_view.js";
import { filesHtml } from "./file_words.js";
import { isEnded } from "./format.js";
import { page } from "./page_state.js";

const INTERVAL = 10_000; // milliseconds between two requests
const STEP = 200; // files that the open list shows at first, and more at each click
const NARROW = "(max-width: 999px)"; // room for the list or the log only, as in dashboard.css
// Files that a line shows. On a phone, each takes nearly a line of its own.
const LINE = 6;
const LINE_NARROW = 2;

export class LogFiles {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.node = find("files");
    this.view = new FileView(this, find);
    for (const name of ["pointerdown", "focusin", "click"]) {
      this.node.addEventListener(name, renewTicket);
    }
    this.node.addEventListener("click", (event) => this.onClick(event));
    this.setJob();
  }

  /** Another job is shown. */
  setJob() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.take(null, "", false);
    this.isLoading = false;
    this.requestedAt = null;
    this.isOpen = false; // are all files shown, one per line?
    this.most = STEP;
    this.draw();
    this.view.update();
  }

  /** The address has changed. */
  onAddress() {
    this.draw();
    this.view.update();
  }

  // --- Loading ---

  /** Requests the list if that is due. `job`: what is known of it. */
  update(job) {
    if (page.status.api && !this.isLoading && !document.hidden && this.isDue(job)) {
      this.load(job);
    }
    this.view.update();
  }

  isDue(job) {
    const isTooSoon = this.requestedAt !== null && Date.now() - this.requestedAt < INTERVAL;
    if (isEnded(job)) {
      const wasRequested = this.requestedAt !== null && !this.hasSeenEnd;
      return !this.isFinal && (wasRequested || (job.files_count > 0 && !isTooSoon));
    }
    return hasRun(job) && !isTooSoon;
  }

  async load(job) {
    const { signal } = this.aborter;
    const hasEnded = isEnded(job);
    this.isLoading = true;
    this.requestedAt = Date.now();
    this.hasSeenEnd = hasEnded;
    try {
      const list = await fetchFiles(job.id, signal);
      this.take(list, "", hasEnded);
    } catch (error) {
      if (signal.aborted) {
        return; // another job is shown
      }
      if (!(error instanceof FileProblem)) {
        throw error;
      }
      const isRefused = [404, 409].includes(error.status);
      this.take(isRefused ? null : this.list, error.message, hasEnded && isRefused);
    }
    this.isLoading = false;
    this.draw();
    this.view.update();
  }

  take(list, problem, isFinal) {
    this.list = list; // the API's response; null until the first has arrived
    this.problem = problem; // why there is none: a sentence
    this.isFinal = isFinal; // can nothing change any more?
    // Folders are left out: the paths of the files name them.
    this.entries = (list?.files ?? []).filter(({ kind }) => kind !== "folder");
    this.viewable = this.entries.filter(({ kind, path }) => kind === "file" && viewOf(path));
  }

  /** Is it known which files the job has, or why not? */
  isKnown(job) {
    const hasNone = isEnded(job) ? job.files_count === 0 || job.files_count === null : !hasRun(job);
    return this.list !== null || this.problem !== "" || (hasNone && this.requestedAt === null);
  }

  // --- Drawing ---

  /** Draws the list and keeps the focus on the same link or button. */
  draw() {
    const { entries, isOpen, most, list } = this;
    const focused = this.node.getRootNode().activeElement;
    const key = this.node.contains(focused) ? focused.dataset.focus : undefined;
    const elsewhere = list?.elsewhere ? asSentence(list.elsewhere) : "";
    const problem = elsewhere || (this.isFinal ? this.problem : "");
    this.node.hidden = entries.length === 0 && !problem;
    const jobId = page.address.job ?? "";
    const context = { jobId, problem, now: page.now, opened: page.address.file, fileUrl };
    const link = (entry) => page.link({ file: addressOfFile(entry, jobId), compare: "" });
    const line = matchMedia(NARROW).matches ? LINE_NARROW : LINE;
    const shown = { entries, isComplete: list?.complete ?? true, line, isOpen, most };
    setHtml(this.node, this.node.hidden ? "" : filesHtml(shown, { ...context, link }));
    if (key && !focused.isConnected) {
      this.node.querySelector(`[data-focus="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
    }
  }

  onClick(event) {
    const { act } = event.target.closest("button")?.dataset ?? {};
    const link = event.target.closest("a[data-file]");
    if (act === "toggle") {
      this.isOpen = !this.isOpen;
      this.draw();
    } else if (act === "more") {
      this.most += STEP;
      this.draw();
    } else if (link && !opensElsewhere(event)) {
      event.preventDefault();
      this.view.open(link.dataset.file);
    }
  }

  /** Moves the focus to the link of a file; returns false if it is not shown. */
  focusFile(file) {
    const link = this.node.querySelector(`a[data-file="${CSS.escape(file)}"]`);
    link?.focus();
    return Boolean(link);
  }
}

/** Can the job have files? Those of an attempt are kept while it waits for the next. */
function hasRun(job) {
  return job.status === "running" || (job.status === "queued" && job.attempt > 1);
}
