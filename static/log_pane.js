/* The log pane: its parts, and which of them act on which event. log_job.js knows the job,
   log_places.js the place, log_source.js loads the lines, log_view.js shows them.

   `state` says what the pane shows. It follows from the parts and is stored nowhere else:

     "closed"     nothing: the address names no job
     "missing"    a sentence: the server cannot show the job
     "served"     the tail that the page's server sends, because the browser cannot reach the API
     "waiting"    the job, or the dimmed lines of the previous one: no line was requested yet,
                  because the API's URL has not arrived, or the request failed
     "loading"    as "waiting", but the lines were requested
     "following"  the end of the log, with new output as it arrives
     "reading"    another place of the log; new output is only counted

   closed → waiting           the address names a job (onAddress)
   any other state → waiting  the address names another job or place, or times are switched on or off
   waiting → loading          the API's URL is known: onAddress or the next refresh (onStatus)
   loading → following, reading, and back and forth: log_source.js, `mode`
   any state → served         log_source.js cannot reach the API; it returns to its mode once it can
   any state → missing        the server's answer contains an error and nothing is known of the job
   any state → closed         the address names no job */

import { closeWhenRemoved } from "./dom.js";
import { endedBadly } from "./format.js";
import { addJobKeys } from "./job_keys.js";
import { setErrorPatterns } from "./job_reason.js";
import { LogErrors } from "./log_errors.js";
import { LogFind } from "./log_find.js";
import { LogFolds } from "./log_folds.js";
import { LogGoTo } from "./log_go_to.js";
import { LogHead } from "./log_head.js";
import { LogInsights } from "./log_insights.js";
import { LogJob } from "./log_job.js";
import { LogLineLink } from "./log_line_link.js";
import { LogNewLines } from "./log_new_lines.js";
import { LogOpening } from "./log_opening.js";
import { LogPlaces } from "./log_places.js";
import { LogProgress } from "./log_progress.js";
import { LogSectionList } from "./log_section_list.js";
import { LogSections } from "./log_sections.js";
import { LogSelection } from "./log_selection.js";
import { LogSource } from "./log_source.js";
import { LogStatus } from "./log_status.js";
import { readTimes, TIMES } from "./log_times.js";
import { LogView } from "./log_view.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { addShortcut } from "./shortcuts.js";

class LogPane {
  constructor(root, errorPatterns) {
    this.root = root;
    const find = (name) => root.querySelector(`.${name}`);
    this.find = find;
    this.sections = new LogSections();
    this.view = new LogView(find("view"), errorPatterns, this.sections, this.viewHandlers());
    this.source = new LogSource(this.view, this.sections, this.sourceHandlers());
    this.shownJob = new LogJob(this.source);
    this.addPlaces(find);
    this.head = new LogHead(this, find);
    this.status = new LogStatus(this, find);
    const goTo = (offset) => this.places.goTo(offset);
    page.presetFind = (text) => {
      find("find-field").value = text; // the next log is searched for it
    };
    this.finder = new LogFind({
      find,
      view: this.view,
      source: this.source,
      moved: () => this.onDrawn(),
    });
    this.errors = new LogErrors({
      find,
      view: this.view,
      patterns: errorPatterns,
      goTo,
      moved: () => this.onMoved(),
    });
    this.progress = new LogProgress(this, find);
    this.newLines = new LogNewLines(this, find);
    this.opening = new LogOpening(this);
    this.insights = new LogInsights(this, find);
    this.addSections(find);
    this.listen();
    this.addShortcuts();
    addJobKeys(find);
  }

  addPlaces(find) {
    const { view, source } = this;
    const changed = (range) => this.places.setAddress(range);
    this.selection = new LogSelection({ find, view, source, changed });
    const { selection } = this;
    this.lineLink = new LogLineLink({ find, view, linkTo: (range) => selection.linkTo(range) });
    this.places = new LogPlaces({ view, source, selection, shown: () => this.onMoved() });
    const go = (first, last) => this.places.select(first, last);
    this.goTo = new LogGoTo({ find, source, go });
  }

  addSections(find) {
    const { view, source, sections, selection } = this;
    const linkTo = (range) => selection.linkTo(range);
    const changed = () => this.sectionList.redraw();
    this.folds = new LogFolds({ view, source, sections, linkTo, changed });
    this.sectionList = new LogSectionList({ find, sections, folds: this.folds });
    this.insights.parts.push(this.sectionList);
  }

  viewHandlers() {
    return {
      unfold: (node) => this.folds.unfold(node),
      nearStart: () => this.source.paging.loadEarlier(),
      nearEnd: () => this.source.paging.loadLater(),
      full: () => this.source.stopFollowing(),
      drawn: () => this.onDrawn(),
      scrolled: () => this.onScrolled(),
    };
  }

  sourceHandlers() {
    return {
      shown: () => this.onShown(),
      written: (text) => this.onWritten(text),
      moved: (job) => this.onMove(job),
      ended: (job) => this.onEnd(job),
      changed: () => this.status.draw(),
      served: () => this.shownJob.request(),
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
    on("times", "change", (event) => this.setTimes(event.target.value));
    on("jump", "click", () => this.places.toEnd());
    on("to-end", "click", () => this.places.toEnd());
    on("to-start", "click", () => this.places.toStart());
    this.setWrap(readSetting("wrap", true));
    this.find("wrap").checked = readSetting("wrap", true);
    this.find("times").value = readTimes(readSetting("times", "off"));
    this.applyTimes();
  }

  addShortcuts() {
    addShortcut("g", "start of the log", () => this.places.toStart(), "Log");
    addShortcut("G", "end of the log", () => this.places.toEnd(), "Log");
    addShortcut(":", "go to a line", () => this.goTo.open(), "Log");
    addShortcut("Mod+g", "go to a line", () => this.goTo.open(), "Log");
    addShortcut("f", "follow the log", () => this.places.toEnd(), "Log");
    addShortcut("t", "times: off, time of day, since the start", () => this.nextTimes(), "Log");
    addShortcut("e", "next error", () => this.errors.step(1), "Log");
    addShortcut("E", "previous error", () => this.errors.step(-1), "Log");
  }

  close() {
    page.unlisten(this.handlers);
    this.opening.close();
    this.source.stop();
  }

  // --- What the pane shows ---

  get jobId() {
    return this.source.jobId;
  }

  /** What is known of the job; undefined if nothing is. */
  get job() {
    return this.shownJob.shown;
  }

  get component() {
    return this.shownJob.component;
  }

  get state() {
    if (!this.jobId) {
      return "closed";
    }
    if (this.shownJob.error) {
      return "missing";
    }
    if (this.source.isServed) {
      return "served";
    }
    return this.source.mode === "idle" ? "waiting" : this.source.mode;
  }

  update(component) {
    this.shownJob.update(component);
    this.onAddress();
    this.shownJob.request();
    this.shownJob.takeServerTail();
    this.drawHead();
  }

  onAddress() {
    const { job = "", at = "" } = page.address;
    this.find("log-pane").hidden = !job;
    this.insights.onAddress();
    if (job === this.jobId && at === this.places.at) {
      return;
    }
    this.opening.begin({ at, isOtherJob: job !== this.jobId });
    if (job !== this.jobId) {
      this.chooseJob(job);
    }
    this.places.at = at;
    if (job) {
      this.view.dim();
      this.drawHead();
      this.places.open();
    }
  }

  chooseJob(id) {
    this.shownJob.choose(id);
    this.head.reset();
    this.finder.setJob();
    this.errors.setJob(id);
    this.sections.setJob(id);
    this.folds.setJob();
    this.insights.setJob();
    this.shownJob.request();
  }

  /** Goes to the line that explains why the job failed: the last error, else the last line. */
  async toHint() {
    if (page.address.compare) {
      page.go({ compare: "" });
    }
    if (!(await this.errors.stepToLast())) {
      this.places.toEnd();
    }
  }

  // --- Settings ---

  setWrap(on) {
    writeSetting("wrap", on);
    this.view.keepPlace(() => this.view.element.classList.toggle("wrapped", on));
  }

  setTimes(how) {
    writeSetting("times", how);
    if (this.applyTimes()) {
      this.shownJob.hasWritten = false;
      this.shownJob.request();
      this.places.open();
    }
  }

  /** Returns true if the log has to be loaded again, with or without times. */
  applyTimes() {
    const how = this.find("times").value;
    const stamped = how !== "off";
    this.view.element.classList.toggle("timed", stamped);
    this.view.setTimes({ how, startedAt: Date.parse(this.job?.started_at ?? "") });
    if (stamped === this.source.stamped) {
      return false;
    }
    this.source.setStamped(stamped);
    return true;
  }

  nextTimes() {
    const { value } = this.find("times");
    this.find("times").value = TIMES[(TIMES.indexOf(value) + 1) % TIMES.length];
    this.setTimes(this.find("times").value);
  }

  // --- Events ---

  onWritten(text) {
    this.shownJob.onWritten();
    if (this.progress.onText(text)) {
      this.drawHead();
    }
  }

  onMove(job) {
    this.shownJob.onMove(job);
    this.drawHead();
  }

  onEnd(job) {
    this.shownJob.onEnd(job);
    this.drawHead();
    this.insights.update();
  }

  onStatus() {
    if (this.state === "waiting") {
      this.places.open(); // otherwise the server sends the tail at each refresh
    }
    this.insights.onAddress();
    this.drawHead();
  }

  onTick() {
    if (this.jobId) {
      this.drawHead();
      this.insights.update();
      this.sectionList.redraw();
      this.status.speak();
    }
  }

  onScrolled() {
    if (this.view.following) {
      this.source.resetNewLines();
    }
    this.status.draw();
  }

  /** Another place is shown, which the matching lines must not cover. */
  onMoved() {
    this.finder.setFiltering(false);
    this.newLines.setFiltering(false);
    this.onDrawn();
  }

  onShown() {
    this.folds.onShown();
    this.insights.update();
    this.onDrawn();
  }

  onDrawn() {
    this.folds.apply();
    this.finder.update();
    this.errors.update();
    this.insights.drawn();
    this.countErrors();
    this.status.draw();
  }

  drawHead() {
    const { job } = this;
    this.find("log-pane").classList.toggle("missing", this.state === "missing");
    if (this.jobId && job) {
      const { data, isSent } = this.shownJob;
      this.noteStart(job);
      this.folds.job = job;
      this.head.draw(job, isSent ? data.past : [], isSent ? data.revealed : {});
      this.progress.show(job);
      this.errors.setShown(endedBadly(job));
      this.countErrors();
    }
    this.status.draw();
  }

  /** Once the job has started, times since its start can be shown. */
  noteStart(job) {
    const startedAt = Date.parse(job.started_at ?? "");
    if (!Object.is(startedAt, this.view.times.startedAt)) {
      this.view.setTimes({ ...this.view.times, startedAt });
    }
  }

  /** Counts the errors of a job that ended badly, once its lines are shown. */
  countErrors() {
    const { isLoaded, isServed, start, size } = this.source;
    if (isLoaded && !isServed && this.job && endedBadly(this.job)) {
      this.errors.scan(start, size);
    }
    this.opening.seek();
  }
}

async function readErrorPatterns() {
  const answer = await fetch(new URL("error_patterns.json", import.meta.url));
  return (await answer.json()).map((pattern) => new RegExp(pattern));
}

const errorPatterns = await readErrorPatterns();
setErrorPatterns(errorPatterns);

export default function mountLogPane(component) {
  const root = component.parentElement;
  root.logPane ??= new LogPane(root, errorPatterns);
  root.logPane.update(component);
  return closeWhenRemoved(root, root.logPane);
}
