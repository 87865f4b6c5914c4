/* The log pane: which job it shows, which place in the log, and the view's settings. log_source.js
   loads the lines, log_view.js shows them. */

import { closeWhenRemoved } from "./dom.js";
import { endedBadly, isEnded } from "./format.js";
import { LogErrors } from "./log_errors.js";
import { LogFind } from "./log_find.js";
import { LogHead } from "./log_head.js";
import { LogSource } from "./log_source.js";
import { LogStatus } from "./log_status.js";
import { LogView } from "./log_view.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { addShortcut } from "./shortcuts.js";

class LogPane {
  constructor(root, errorPatterns) {
    this.root = root;
    const find = (name) => root.querySelector(`.${name}`);
    this.find = find;
    this.view = new LogView(find("view"), errorPatterns, this.viewHandlers());
    this.source = new LogSource(this.view, this.sourceHandlers());
    this.head = new LogHead(this, find);
    this.status = new LogStatus(this, find);
    const goTo = (offset) => this.loadAround(offset);
    this.finder = new LogFind(find, this.view, goTo);
    this.errors = new LogErrors(find, this.view, errorPatterns, goTo);
    this.details = new Map(); // job ID -> the job as the server sent it
    this.data = { every: null, error: "", past: [], revealed: {}, tail: null };
    this.at = ""; // the offset that the address names
    this.hasBegun = false; // was the list refreshed because this queued job wrote something?
    this.listen();
    this.addShortcuts();
  }

  viewHandlers() {
    return {
      nearStart: () => this.source.loadEarlier(),
      nearEnd: () => this.source.loadLater(),
      full: () => this.source.stopFollowing(),
      drawn: () => this.onDrawn(),
      scrolled: () => this.onScrolled(),
    };
  }

  sourceHandlers() {
    return {
      shown: () => this.onDrawn(),
      written: () => this.onWritten(),
      ended: (job) => this.onEnd(job),
      changed: () => this.status.draw(),
      served: () => this.requestFromServer(),
    };
  }

  listen() {
    this.handlers = {
      address: () => this.onAddress(),
      jobs: () => this.drawHead(),
      status: () => this.onStatus(),
      tick: () => this.onTick(),
    };
    page.listen(this.handlers);
    const on = (name, event, act) => this.find(name).addEventListener(event, act);
    on("wrap", "change", (event) => this.setWrap(event.target.checked));
    on("times", "change", (event) => this.setTimes(event.target.checked));
    on("jump", "click", () => this.toEnd());
    on("to-end", "click", () => this.toEnd());
    on("to-start", "click", () => this.toStart());
    on("view", "click", (event) => this.onLineClick(event));
    this.setWrap(readSetting("wrap", true));
    this.find("wrap").checked = readSetting("wrap", true);
    this.find("times").checked = readSetting("times", false);
    this.source.setStamped(this.find("times").checked);
  }

  addShortcuts() {
    addShortcut("g", "start of the log", () => this.toStart(), "Log");
    addShortcut("G", "end of the log", () => this.toEnd(), "Log");
    addShortcut("f", "follow the log", () => this.toEnd(), "Log");
    addShortcut("e", "next error", () => this.errors.step(1), "Log");
    addShortcut("E", "previous error", () => this.errors.step(-1), "Log");
  }

  close() {
    page.unlisten(this.handlers);
    this.source.stop();
  }

  // --- Which job ---

  get jobId() {
    return this.source.jobId;
  }

  update(component) {
    this.component = component;
    const { data } = component;
    if (data.job) {
      this.details.clear(); // only the last job is kept; the list has the others
      this.details.set(data.job.id, data.job);
    }
    this.data = data;
    this.onAddress();
    this.requestFromServer();
    this.takeServerTail();
    this.drawHead();
  }

  onAddress() {
    const { job = "", at = "" } = page.address;
    this.find("log-pane").hidden = !job;
    if (job === this.jobId && at === this.at) {
      return;
    }
    const other = job !== this.jobId;
    if (other) {
      this.source.setJob(job);
      this.hasBegun = false;
      this.head.reset();
      this.finder.setJob(job);
      this.errors.setJob(job);
      this.requestFromServer();
    }
    this.at = at;
    if (job) {
      this.view.dim();
      this.drawHead();
      this.open();
    }
  }

  /** Asks the server for the job's details and, if the browser cannot reach the API, for its
      tail. */
  requestFromServer() {
    if (!this.component) {
      return; // the first update calls this again
    }
    const { jobId, isServed, stamped } = this.source;
    const wanted = { job: jobId, tail: isServed, stamped: isServed && stamped };
    const text = JSON.stringify(wanted);
    if (text !== (this.lastRequest ?? JSON.stringify(this.data.wanted))) {
      this.component.setStateValue("wanted", wanted);
    }
    this.lastRequest = text;
  }

  /** What is known of the job shown, the newest first. */
  get job() {
    const listed = page.find(this.jobId);
    const detailed = this.details.get(this.jobId);
    if (!listed || !detailed) {
      return listed ?? detailed;
    }
    const newer = isEnded(detailed) && !isEnded(listed) ? {} : listed;
    return { ...detailed, ...newer };
  }

  takeServerTail() {
    const { tail, id } = this.data;
    if (tail && id === this.jobId) {
      this.source.takeServerTail(tail, this.job ? isEnded(this.job) : false);
    }
  }

  // --- Events of the log ---

  onWritten() {
    if (this.job?.status === "queued" && !this.hasBegun) {
      this.hasBegun = true;
      page.refresh(); // the list still shows the job as queued
    }
  }

  onEnd(job) {
    const listed = page.find(job.id) ?? this.job ?? {};
    const names = [
      ...["status", "started_at", "finished_at"],
      ...["exit_code", "reason", "hint", "attempt"],
    ];
    const end = Object.fromEntries(names.map((name) => [name, job[name]]));
    page.local.set(job.id, { ...listed, ...end });
    this.component.setTriggerValue("ended", job.id);
    page.refreshLater();
    this.drawHead();
  }

  // --- Places ---

  /** Shows the log at the place in the address, else at its end. */
  open() {
    if (!page.status.api) {
      return; // the header has not loaded yet; its first refresh calls this again
    }
    if (this.at) {
      this.loadAround(Number(this.at));
    } else {
      this.source.loadTail();
    }
  }

  /** Shows the lines around an offset, with its line marked and in the middle. */
  async loadAround(offset) {
    if (!(await this.source.loadPlace(offset))) {
      return;
    }
    const line = this.view.lineAt(offset) ?? this.view.lines[0];
    if (line) {
      this.view.moveMark("marked", line);
      this.view.scrollToLine(line);
    }
    this.onDrawn();
  }

  async toStart() {
    if (this.jobId && (await this.source.loadPlace(this.source.start))) {
      this.view.leaveEnd();
      this.view.element.scrollTop = 0;
      this.onDrawn();
    }
  }

  /** Goes to the line that explains why the job failed: the last error, else the last line. */
  async toHint() {
    if (!(await this.errors.stepToLast())) {
      this.toEnd();
    }
  }

  toEnd() {
    if (this.source.mode === "following" || this.source.isServed) {
      this.view.follow();
      this.source.resetNewLines();
      this.status.draw();
    } else if (this.jobId) {
      this.source.reload();
    }
    if (page.address.at) {
      this.at = "";
      page.go({ at: "" }, { replace: true });
    }
  }

  onLineClick(event) {
    const line = event.target.closest(".line");
    if (!line) {
      return;
    }
    if (event.target.closest(".whole")) {
      this.showWholeLine(line);
    } else if (event.target === line && event.offsetX < gutterWidth(line)) {
      this.view.moveMark("marked", line);
      this.at = line.dataset.offset ?? "";
      page.go({ at: this.at }, { replace: true });
    }
  }

  async showWholeLine(line) {
    const text = await this.source.fetchWholeLine(Number(line.dataset.offset));
    if (text !== undefined) {
      this.view.keepPlace(() => this.view.showWhole(line, text));
    }
  }

  // --- Settings ---

  setWrap(on) {
    writeSetting("wrap", on);
    this.view.keepPlace(() => this.view.element.classList.toggle("wrapped", on));
  }

  setTimes(on) {
    writeSetting("times", on);
    this.source.setStamped(on);
    this.hasBegun = false;
    this.requestFromServer();
    this.open();
  }

  // --- Drawing ---

  onStatus() {
    if (this.jobId && this.source.mode === "idle" && !this.source.isServed) {
      this.open(); // otherwise the server sends the tail at each refresh
    }
    this.drawHead();
  }

  onTick() {
    if (this.jobId) {
      this.drawHead();
      this.status.speak();
    }
  }

  onScrolled() {
    if (this.view.following) {
      this.source.resetNewLines();
    }
    this.status.draw();
  }

  onDrawn() {
    this.finder.update();
    this.errors.update();
    this.countErrors();
    this.status.draw();
  }

  drawHead() {
    const { job } = this;
    if (this.jobId && job) {
      const isShown = this.data.id === this.jobId;
      this.head.draw(job, isShown ? this.data.past : [], isShown ? this.data.revealed : {});
      this.errors.setShown(endedBadly(job));
      this.countErrors();
    }
    this.status.draw();
  }

  /** Counts the errors of a job that ended badly, once its lines are shown. */
  countErrors() {
    const { isLoaded, isServed, start, size } = this.source;
    if (isLoaded && !isServed && this.job && endedBadly(this.job)) {
      this.errors.scan(start, size);
    }
  }
}

function gutterWidth(line) {
  return Number.parseFloat(getComputedStyle(line).paddingLeft);
}

async function readErrorPatterns() {
  const answer = await fetch(new URL("error_patterns.json", import.meta.url));
  return (await answer.json()).map((pattern) => new RegExp(pattern));
}

const errorPatterns = await readErrorPatterns();

export default function mountLogPane(component) {
  const root = component.parentElement;
  root.logPane ??= new LogPane(root, errorPatterns);
  root.logPane.update(component);
  return closeWhenRemoved(root, root.logPane);
}
