/* The pane with a job's log. It fetches the log itself, in the moment of a click, and follows it;
   where the browser does not reach the API, the server's 5-second tail serves. */

import { endedBadly, isEnded } from "./format.js";
import { LogErrors } from "./log_errors.js";
import { LogFind } from "./log_find.js";
import { LogHead } from "./log_head.js";
import { LogStatus } from "./log_status.js";
import { fetchPart, LogStream, PART_BYTES, Unreachable } from "./log_stream.js";
import { countLines, LineJoiner, splitStamped, tailBehind } from "./log_text.js";
import { LogView } from "./log_view.js";
import { closeWhenRemoved, page, readSetting, writeSetting } from "./page_state.js";
import { addShortcut } from "./shortcuts.js";

const TAIL_LINES = 1000; // fetched at first
const ABOVE = 65_536; // bytes fetched above a place that a link leads to
const MOST_LINES = 2000; // put in at a time
const GIVE_UP = 2; // failures of the stream until the server's tail is asked for
const WHOLE_LINE_BYTES = 1 << 20;

class LogPane {
  constructor(root, errorPatterns) {
    this.root = root;
    const find = (name) => root.querySelector(`.${name}`);
    this.find = find;
    this.view = new LogView(find("view"), errorPatterns, this.viewHandlers());
    this.head = new LogHead(this, find);
    this.status = new LogStatus(this, find);
    const goTo = (offset) => this.loadAround(offset);
    this.finder = new LogFind(find, this.view, goTo);
    this.errors = new LogErrors(find, this.view, errorPatterns, goTo);
    this.details = new Map(); // what the server has told of jobs, by ID
    this.data = { every: null, error: "", past: [], revealed: {}, tail: null };
    this.wantsTail = false; // from the server, because the browser does not reach the API
    this.forget("");
    this.listen();
    this.addShortcuts();
  }

  viewHandlers() {
    return {
      nearStart: () => this.loadEarlier(),
      nearEnd: () => this.loadLater(),
      full: () => this.detach(),
      drawn: () => this.onDrawn(),
      scrolled: () => this.onScrolled(),
    };
  }

  listen() {
    this.handlers = {
      address: () => this.onAddress(),
      jobs: () => this.drawHead(),
      status: () => this.onStatus(),
      tick: () => this.onTick(),
    };
    for (const [name, act] of Object.entries(this.handlers)) {
      page.on(name, act);
    }
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
    this.stamped = this.find("times").checked;
  }

  addShortcuts() {
    addShortcut("g", "start of the log", () => this.toStart());
    addShortcut("G", "end of the log", () => this.toEnd());
    addShortcut("f", "follow the log", () => this.toEnd());
    addShortcut("e", "next error", () => this.errors.step(1));
    addShortcut("E", "previous error", () => this.errors.step(-1));
  }

  close() {
    for (const [name, act] of Object.entries(this.handlers)) {
      page.removeEventListener(name, act);
    }
    this.stop();
  }

  // --- Which job ---

  update(component) {
    this.component = component;
    const { data } = component;
    if (data.job) {
      this.details.clear(); // one is enough: the list knows the others
      this.details.set(data.job.id, data.job);
    }
    this.data = data;
    this.onAddress();
    this.tellServer();
    this.takeServerTail();
    this.drawHead();
  }

  /** Everything about a log is forgotten, but for its lines, which dim until others come. */
  forget(jobId) {
    this.stop();
    this.jobId = jobId;
    this.at = "";
    this.loaded = false; // is what is shown of this job?
    this.attached = false; // does what is written come into the view?
    this.logStart = 0; // the first byte that is kept
    this.next = 0; // the offset behind the last byte that is shown
    this.nextNumber = null; // of the line behind the last that is shown, while not attached
    this.size = 0;
    this.allLines = null; // also the last one, if it lacks its end; null where not known
    this.isMidLine = false; // does what was counted end within a line?
    this.joiner = new LineJoiner(0, 1, this.stamped);
    this.newLines = 0; // written since the view stopped following
    this.writtenAt = Date.now();
    this.loading = false;
    this.opening = null; // what can abort the first request, while that is under way
    this.failed = false; // did the browser not reach the API?
    this.begun = false; // was it told that a queued job has begun?
  }

  stop() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.stream?.close();
    this.stream = null;
  }

  onAddress() {
    const { job = "", at = "" } = page.address;
    this.find("log-pane").hidden = !job;
    if (job === this.jobId && at === this.at) {
      return;
    }
    const other = job !== this.jobId;
    if (other) {
      this.forget(job);
      this.head.reset();
      this.wantsTail = false;
      this.finder.setJob(job);
      this.errors.setJob(job);
      this.tellServer();
    }
    this.at = at;
    if (job) {
      this.find("view").classList.add("old");
      this.drawHead();
      this.open();
    }
  }

  /** The server tells the rest of this job, and its tail where that is wanted. */
  tellServer() {
    if (!this.component) {
      return; // the first update comes back to this
    }
    const stamped = this.wantsTail && this.stamped;
    const wanted = { job: this.jobId, tail: this.wantsTail, stamped };
    const text = JSON.stringify(wanted);
    if (text !== (this.told ?? JSON.stringify(this.data.wanted))) {
      this.component.setStateValue("wanted", wanted);
    }
    this.told = text;
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

  // --- Fetching ---

  async open() {
    if (!page.status.api) {
      return; // the header has not come yet; its first refresh opens
    }
    const { aborter } = this; // another one once another job is chosen
    this.opening = aborter;
    try {
      await (this.at ? this.loadAround(Number(this.at)) : this.loadTail());
    } finally {
      if (this.opening === aborter) {
        this.opening = null;
      }
    }
  }

  async loadTail() {
    const part = await this.fetch({ tail: TAIL_LINES });
    if (part) {
      this.showPart(part);
    }
  }

  /** Show the lines around a place, which comes into the middle and is marked. */
  async loadAround(offset) {
    if (!(await this.loadPlace(offset))) {
      return;
    }
    const line = this.view.lineAt(offset) ?? this.view.lines[0];
    if (line) {
      this.markLine(line);
      this.view.scrollToLine(line);
    }
    this.onDrawn();
  }

  async toStart() {
    if (this.jobId && (await this.loadPlace(this.logStart))) {
      this.view.leaveEnd();
      this.view.element.scrollTop = 0;
      this.onDrawn();
    }
  }

  /** Put the lines around a place into the view; false where they cannot be had. */
  async loadPlace(offset) {
    const from = Math.max(this.logStart, offset - ABOVE);
    const part = await this.fetch({ offset: from, limit_bytes: PART_BYTES });
    if (part) {
      this.showPart(part, offset);
    }
    return Boolean(part);
  }

  /** A part of the log; undefined where another job was chosen meanwhile, or it cannot be had. */
  async fetch(parameters) {
    const { signal } = this.aborter;
    const wanted = { ...parameters, timestamps: Number(this.stamped) };
    try {
      const part = await fetchPart(this.jobId, wanted, signal);
      this.learn(part);
      return part;
    } catch (error) {
      if (error instanceof Unreachable) {
        this.askServer();
      } else if (error.name !== "AbortError") {
        throw error;
      }
      return undefined;
    }
  }

  learn(part) {
    this.failed = false;
    if (this.wantsTail) {
      this.wantsTail = false;
      this.tellServer();
    }
    this.logStart = part.start;
    this.size = part.size;
    this.allLines = part.lines ?? this.allLines;
  }

  /** Put a part's lines in place of all; the target is the offset that the reader wants to see,
      null for the end. */
  showPart(part, target = null) {
    const lines = splitStamped(part.bytes, part.offset, part.line);
    if (target !== null && part.offset > part.start && lines.length > 1) {
      lines.shift(); // it began before the part
    }
    const shown = boundLines(lines, target);
    const isEnd = part.next >= part.size && shown.at(-1) === lines.at(-1);
    const unfinished = popUnfinished(shown, isEnd);
    if (target === null) {
      this.view.replaceFromEnd(shown, isEnd ? unfinished : null);
    } else {
      this.view.replace(shown, isEnd ? unfinished : null);
    }
    this.loaded = true;
    this.newLines = 0;
    this.find("view").classList.remove("old");
    if (isEnd) {
      this.attach(shown.at(-1), unfinished, part);
    } else {
      this.view.stopTaking();
      this.countWhatComes(part);
    }
    this.onDrawn();
  }

  /** Only counted, because the end of the log is not in the view. */
  countWhatComes(part) {
    if (!this.stream && ["queued", "running"].includes(part.status)) {
      this.follow(part.size);
    }
  }

  /** The end of the log is in the view: what is written comes into it from now on. */
  attach(last, unfinished, part) {
    this.attached = true;
    this.isMidLine = unfinished !== null;
    this.view.isFull = false;
    this.next = part.next;
    const number = last ? nextNumber(last.number) : part.line;
    this.joiner = new LineJoiner(unfinished?.offset ?? part.next, number, this.stamped);
    if (unfinished) {
      this.joiner.add(stampedText(unfinished), part.next);
    }
    if (!part.complete) {
      this.follow();
    }
  }

  /** What is written is counted and no longer shown; reading goes on behind the last line. */
  detach() {
    const { end, number } = this.view.dropUnplacedTail();
    this.attached = false;
    this.next = end ?? this.next;
    this.nextNumber = nextNumber(number);
  }

  async loadEarlier() {
    const { offset } = this.view.dropUnplacedHead();
    if (this.loading || !this.loaded || !offset || offset <= this.logStart) {
      return;
    }
    this.loading = true;
    const from = Math.max(this.logStart, offset - PART_BYTES);
    const part = await this.fetch({ offset: from, limit_bytes: offset - from });
    this.loading = false;
    if (!part || this.view.first.offset !== offset) {
      return;
    }
    const lines = splitStamped(part.bytes, part.offset, part.line);
    const whole = part.offset > part.start && lines.length > 1 ? lines.slice(1) : lines;
    this.view.prepend(whole.slice(-MOST_LINES));
  }

  /** More below, for who has scrolled down to where the view stopped taking lines. */
  async loadLater() {
    if (this.loading || !this.loaded || this.attached) {
      return;
    }
    this.loading = true;
    const { next } = this;
    const part = await this.fetch({ offset: next, limit_bytes: PART_BYTES });
    this.loading = false;
    if (!part || this.attached || this.next !== next) {
      return;
    }
    const lines = splitStamped(part.bytes, part.offset, this.nextNumber ?? part.line);
    const shown = lines.slice(0, MOST_LINES);
    const isEnd = part.next >= part.size && shown.length === lines.length;
    const unfinished = popUnfinished(shown, isEnd);
    this.view.extend(shown, isEnd ? unfinished : null);
    if (isEnd) {
      this.newLines = 0;
      this.attach(shown.at(-1) ?? { number: lastBefore(this.nextNumber) }, unfinished, part);
    } else {
      this.view.stopTaking();
    }
    this.onDrawn();
  }

  follow(offset = this.next) {
    this.stream?.close();
    const { jobId } = this;
    this.stream = new LogStream(jobId, offset, this.stamped, {
      text: (text, end) => this.onText(jobId, text, end),
      end: (job) => this.onEnd(job),
      gap: () => this.onGap(jobId),
      change: () => this.onStreamChange(),
    });
  }

  /** What is shown does not join what comes: bytes were not kept, or the job has truncated its
      log. Reading starts again from its end. */
  onGap(jobId) {
    if (jobId === this.jobId) {
      this.stop();
      this.loadTail();
    }
  }

  onText(jobId, text, end) {
    if (jobId !== this.jobId) {
      return;
    }
    this.writtenAt = Date.now();
    this.size = Math.max(this.size, end);
    this.countLines(text);
    if (this.attached) {
      const lines = this.joiner.add(text, end);
      this.next = end;
      this.view.append(lines, this.joiner.unfinished());
    }
    if (this.job?.status === "queued" && !this.begun) {
      this.begun = true;
      page.act("refresh", Date.now()); // it has begun, and the list does not know
    }
  }

  countLines(text) {
    const lineCount = countLines(text);
    if (this.allLines !== null) {
      this.allLines += lineCount - (this.isMidLine ? 1 : 0);
    }
    this.isMidLine = text === "" ? this.isMidLine : !text.endsWith("\n");
    if (!this.view.following) {
      this.newLines += text.split("\n").length - 1;
    }
  }

  onEnd(job) {
    if (job.id !== this.jobId) {
      return;
    }
    this.stream = null;
    const listed = page.find(job.id) ?? this.job ?? {};
    const names = [
      ...["status", "started_at", "finished_at"],
      ...["exit_code", "reason", "hint", "attempt"],
    ];
    const told = Object.fromEntries(names.map((name) => [name, job[name]]));
    page.local.set(job.id, { ...listed, ...told });
    this.component.setTriggerValue("ended", job.id);
    page.refreshLater();
    this.drawHead();
  }

  onStreamChange() {
    if (this.stream && this.stream.failures >= GIVE_UP) {
      this.askServer();
    } else if (this.stream?.isOpen && this.wantsTail) {
      this.wantsTail = false;
      this.tellServer();
    }
    this.status.draw();
  }

  // --- The server's tail, where the browser does not reach the API ---

  askServer() {
    this.failed = true;
    if (!this.wantsTail) {
      this.wantsTail = true;
      this.tellServer();
      page.refreshLater(); // which brings another ticket, were this one too old
    }
  }

  takeServerTail() {
    const { tail, id } = this.data;
    const isWanted = tail && id === this.jobId && this.wantsTail;
    if (!isWanted || (this.loaded && tail.next === this.next)) {
      return;
    }
    if (tail.stamped !== this.stamped || this.stream?.isOpen) {
      return;
    }
    this.size = tail.next;
    const more = this.loaded ? tailBehind(tail.text, tail.offset, tail.next, this.next) : null;
    if (more === null || this.stamped) {
      this.showServerTail(tail);
    } else if (this.attached) {
      this.onText(this.jobId, more, tail.next);
    }
    this.allLines = tail.lines ?? this.allLines; // of the whole log, and so of this text, too
    this.tryStreamAgain();
    this.status.draw();
  }

  showServerTail(tail) {
    this.view.clear();
    this.allLines = null;
    const number = tail.lines === null ? null : tail.lines - countLines(tail.text) + 1;
    this.joiner = new LineJoiner(tail.offset, number, this.stamped);
    this.loaded = true;
    this.attached = true;
    this.newLines = 0;
    this.find("view").classList.remove("old");
    this.onText(this.jobId, tail.text, tail.next);
  }

  /** From behind what the server has brought: a stream that comes back by itself would bring
      that again. */
  tryStreamAgain() {
    if (!this.isOver && this.loaded) {
      this.follow();
    }
  }

  get isOver() {
    return this.job ? isEnded(this.job) : false;
  }

  // --- Places ---

  /** To the line that tells why the job failed: the last error, else the last line. */
  async toHint() {
    if (!(await this.errors.stepToLast())) {
      this.toEnd();
    }
  }

  toEnd() {
    if (this.attached || this.wantsTail) {
      this.view.isFull = false;
      this.view.following = true;
      this.view.scrollToEnd();
      this.newLines = 0;
      this.status.draw();
    } else if (this.jobId) {
      this.stop();
      this.loadTail();
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
      this.markLine(line);
      this.at = line.dataset.offset ?? "";
      page.go({ at: this.at }, { replace: true });
    }
  }

  markLine(line) {
    for (const other of this.view.element.querySelectorAll(".marked")) {
      other.classList.remove("marked");
    }
    line.classList.add("marked");
  }

  async showWholeLine(line) {
    const offset = Number(line.dataset.offset);
    const part = await this.fetch({ offset, limit_bytes: WHOLE_LINE_BYTES });
    const [whole] = part ? splitStamped(part.bytes, part.offset, null) : [];
    if (whole) {
      this.view.keepPlace(() => this.view.showWhole(line, whole.text));
    }
  }

  // --- Settings ---

  setWrap(on) {
    writeSetting("wrap", on);
    this.view.keepPlace(() => this.view.element.classList.toggle("wrapped", on));
  }

  setTimes(on) {
    writeSetting("times", on);
    this.stamped = on;
    const { jobId, at } = this;
    this.forget(jobId);
    this.at = at;
    this.tellServer();
    this.open();
  }

  // --- Drawing ---

  onStatus() {
    if (this.jobId && !this.loaded && !this.opening && !this.failed) {
      this.open();
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
      this.newLines = 0;
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

  /** Of what ended badly, once its lines are there. */
  countErrors() {
    if (this.loaded && !this.wantsTail && this.job && endedBadly(this.job)) {
      this.errors.scan(this.logStart, this.size);
    }
  }
}

/** Of many lines those around the target, else the last ones. */
function boundLines(lines, target) {
  if (lines.length <= MOST_LINES || target === null) {
    return lines;
  }
  const found = lines.findLastIndex((line) => line.offset <= target);
  const from = Math.max(0, found - MOST_LINES / 2);
  return lines.slice(from, from + MOST_LINES);
}

/** The last of some lines, taken out, if it lacks its end; else null. One that is all there is
    stays, unless it is the end of the log: there may be no end of it for long. */
function popUnfinished(lines, isEnd) {
  const last = lines.at(-1);
  return last && !last.ended && (isEnd || lines.length > 1) ? lines.pop() : null;
}

function nextNumber(number) {
  return number === null ? null : number + 1;
}

function lastBefore(number) {
  return number === null ? null : number - 1;
}

function stampedText({ stamp, text }) {
  return stamp ? `${stamp} ${text}` : text;
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
