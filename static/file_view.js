/* Shows a file of the job beside its log, or over it if the window is narrow. The address names the
   file, so that it can be linked to. */

import { setHtml } from "./dom.js";
import {
  addressOfFile,
  describeEntry,
  findEntry,
  unlistedEntry,
  viewOf,
  visibleName,
} from "./file_names.js";
import { FileProblem, fileUrl, renewTicket } from "./file_source.js";
import { drawFile } from "./file_viewers.js";
import { escapeHtml, formatBytes } from "./format.js";
import { page } from "./page_state.js";

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
const IS_LOADING = "Loading…";
const WITHOUT_VIEW = "This kind of file is only downloaded.";

export class FileView {
  /** `files` is the LogFiles; `find(name)` returns a node of the pane by class. */
  constructor(files, find) {
    this.files = files;
    this.find = find;
    this.node = find("file-view");
    this.body = find("file-body");
    this.file = ""; // in the address; "" if none is shown
    this.jobId = "";
    this.forget();
    const on = (name, event, act) => find(name).addEventListener(event, act);
    on("close-file", "click", () => this.close());
    on("back-to-log", "click", () => this.close());
    on("previous-file", "click", () => this.step(-1));
    on("next-file", "click", () => this.step(1));
    on("file-view", "keydown", (event) => this.onKey(event));
    for (const name of ["pointerdown", "focusin", "click"]) {
      on("download-file", name, renewTicket);
    }
    on("wrap", "change", () => this.drawWrap());
  }

  /** Also reads the file that is shown again: the job can have changed it, or the API was away. */
  open(file) {
    if (file === this.file) {
      this.forget();
    }
    page.go({ file, compare: "" });
    this.update();
    this.find("file-title").focus();
  }

  close() {
    const { file } = this;
    page.go({ file: "" });
    if (!this.files.focusFile(file)) {
      this.files.pane.view.element.focus();
    }
  }

  /** The address or the list of files has changed. A comparison takes all the room. */
  update() {
    const { job = "", file = "", compare = "" } = page.address;
    const wanted = job && !compare ? file : "";
    if (wanted !== this.file || job !== this.jobId) {
      this.forget();
      this.jobId = job;
      this.file = wanted;
      this.node.hidden = !wanted;
      this.find("beside").classList.toggle("with-file", Boolean(wanted));
      this.drawHead({ path: wanted, size: null, modified: null });
    }
    const shown = this.files.pane.job;
    if (wanted && !this.isBegun && shown?.id === job && this.files.isKnown(shown)) {
      this.isBegun = true;
      this.load();
    }
    if (wanted) {
      this.drawSteps();
    }
  }

  forget() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.isBegun = false;
    this.closeShown?.();
    this.closeShown = null;
    this.body.replaceChildren();
    this.say(IS_LOADING);
  }

  // --- Loading ---

  /** The entry of the list; or { wrong }, a sentence, if there is none. */
  findEntry() {
    const { file, jobId } = this;
    const { list, problem, entries } = this.files;
    const found = findEntry(entries, file, jobId);
    if (found) {
      return found;
    }
    const isMissing = list ? list.complete : !problem;
    const other = entries.find(({ path }) => path === file);
    if (other) {
      return { wrong: `This is a ${other.kind}. Only files are shown.` };
    }
    const unlisted = isMissing || problem ? undefined : unlistedEntry(file, jobId);
    return unlisted ?? { wrong: problem || "This job has no such file." };
  }

  async load() {
    const { signal } = this.aborter;
    const entry = this.findEntry();
    if (entry.wrong) {
      this.say(entry.wrong);
      this.isBegun = false; // a running job can still write the file
      return;
    }
    this.drawHead(entry);
    const kind = viewOf(entry.path);
    if (!kind) {
      this.say(WITHOUT_VIEW);
      return;
    }
    try {
      this.show(await drawFile(kind, entry, signal), signal);
    } catch (error) {
      if (signal.aborted) {
        return; // another file is shown
      }
      if (!(error instanceof FileProblem)) {
        this.say("The page cannot show this file. Download it to see it.");
        throw error;
      }
      this.say(error.status === 404 ? "This file no longer exists." : error.message);
    }
  }

  show({ node, said, close }, { aborted }) {
    if (aborted) {
      close();
      return;
    }
    this.closeShown = close;
    this.body.replaceChildren(node);
    this.body.scrollTop = 0;
    this.drawWrap();
    this.say(said);
  }

  // --- Drawing ---

  drawHead(entry) {
    const { path, size, url } = entry;
    this.find("file-title").textContent = visibleName(path);
    this.find("file-title").title = path && describeEntry(entry, page.now);
    setHtml(this.find("file-facts"), size === null ? "" : formatBytes(size));
    const download = this.find("download-file");
    download.hidden = !url;
    if (url) {
      download.dataset.url = url;
      download.href = fileUrl(url, { download: 1 });
    }
  }

  drawSteps() {
    for (const [name, by] of [
      ["previous-file", -1],
      ["next-file", 1],
    ]) {
      this.find(name).hidden = this.files.viewable.length < 2;
      this.find(name).ariaDisabled = String(!this.neighbour(by));
    }
  }

  drawWrap() {
    this.body.classList.toggle("wrapped", this.find("wrap").checked);
  }

  say(text) {
    setHtml(this.find("file-said"), escapeHtml(text));
    this.find("file-said").hidden = !text;
  }

  // --- Other files ---

  /** The file before or after this one that can be shown. */
  neighbour(by) {
    const { viewable } = this.files;
    const place = viewable.findIndex((entry) => addressOfFile(entry, this.jobId) === this.file);
    return place === -1 ? undefined : viewable[place + by];
  }

  step(by) {
    const entry = this.neighbour(by);
    if (entry) {
      page.go({ file: addressOfFile(entry, this.jobId) }, { replace: true });
    }
  }

  /** The arrow keys go to other files unless they scroll this one sideways. */
  onKey(event) {
    const by = STEPS[event.key];
    const [scrolled = this.body] = this.body.children;
    const isScrolled = [scrolled, this.body].some((node) => node.scrollWidth > node.clientWidth);
    const isChanged = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (by && !isScrolled && !isChanged) {
      event.preventDefault();
      this.step(by);
    }
  }
}
