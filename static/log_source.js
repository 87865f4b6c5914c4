/* Loads one job's log into the view: parts of it by requests, new output by an event stream and,
   while the browser cannot reach the API, the tail that the page's server sends. It draws nothing
   itself.

   `mode` says which lines of the log the view shows:

     "idle"       none, and no request for them is under way
     "loading"    none yet; a request is under way
     "following"  the end of the log; new output is added to the view
     "reading"    another place; new output is only counted, and scrolling down loads more lines
                  (log_paging.js) until the end is reached

   idle → loading             load() begins
   loading → idle             the request failed
   idle, loading → following  showPart() or showServerTail() has shown the end of the log
   loading → reading          showPart() has shown another place
   following → reading        the view takes no more lines (stopFollowing), or showPart() has shown
                              another place
   reading → following        log_paging.js or showPart() has reached the end
   any mode → idle            forget()

   `isServed` is independent of the mode: if true, the page's server has to send the tail. A tail
   that does not join the lines in the view replaces them, except while reading: then it is only
   counted. */

import { isEnded } from "./format.js";
import {
  boundLines,
  countLines,
  LineCounter,
  LineJoiner,
  numberAfter,
  popUnfinished,
  splitBytes,
  splitStamped,
  stampedText,
  tailBehind,
} from "./log_lines.js";
import { LogPaging } from "./log_paging.js";
import { fetchPart, LogStream, PART_BYTES, TAIL_LINES, Unreachable } from "./log_stream.js";
import { page } from "./page_state.js";

const ABOVE = 65_536; // bytes to fetch above the place that a link points to
const GIVE_UP = 2; // failures of the stream before the server is asked for the tail
const WHOLE_LINE_BYTES = 1 << 20;

export class LogSource {
  /** `view` is the LogView that gets the lines, `sections` the LogSections. `handlers`: shown() when
      the view shows other lines, written(text) when the job has written something, moved(job),
      ended(job), changed() when the connection has changed, and served() when `isServed` has. */
  constructor(view, sections, handlers) {
    this.view = view;
    this.sections = sections;
    this.handlers = handlers;
    this.paging = new LogPaging(this, sections);
    this.stamped = false; // does the API put a time before each line?
    this.isServed = false;
    this.forget("");
  }

  // --- Which log ---

  /** Switches to another job and forgets the previous one. */
  setJob(jobId) {
    this.isServed = false;
    this.forget(jobId);
  }

  /** The same job, with or without the time of each line. The caller loads it again. */
  setStamped(stamped) {
    this.stamped = stamped;
    this.forget(this.jobId);
  }

  /** Forgets everything about the log. Its lines stay in the view until others replace them. */
  forget(jobId) {
    this.stop();
    this.jobId = jobId;
    this.mode = "idle";
    this.start = 0; // offset of the first byte that the API still keeps
    this.next = 0; // offset after the last byte that the view shows
    this.nextNumber = null; // number of the line at `next`, while reading
    this.size = 0; // bytes
    this.counter = new LineCounter(); // of the whole log, however little of it is in the view
    this.joiner = new LineJoiner(0, 1, this.stamped);
    this.newLines = 0; // written since the view stopped following
    this.writtenAt = Date.now();
    this.paging.reset();
  }

  /** Aborts all requests and closes the stream. */
  stop() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.stream?.close();
    this.stream = null;
  }

  /** The lines of the whole log; null if not known. */
  get lineCount() {
    return this.counter.lines;
  }

  get isLoaded() {
    return this.mode === "following" || this.mode === "reading";
  }

  resetNewLines() {
    this.newLines = 0;
  }

  // --- Loading a place of the log ---

  /** Shows the end of the log. */
  async loadTail() {
    await this.load({ tail: TAIL_LINES });
  }

  /** Shows the lines around an offset, whose section is unfolded; resolves to false if they are not
      available. */
  async loadPlace(offset) {
    this.sections.unfoldAt(offset);
    return this.loadAround(offset);
  }

  async loadAround(offset) {
    const from = Math.max(this.start, offset - ABOVE);
    return this.load({ offset: from, limit_bytes: PART_BYTES }, offset);
  }

  /** Starts over at the end of the log. */
  reload() {
    this.stop();
    this.loadTail();
  }

  async load(parameters, target = null) {
    const { aborter } = this; // replaced when another log or place is chosen
    if (!this.isLoaded) {
      this.mode = "loading";
    }
    try {
      const part = await this.fetch(parameters);
      if (part) {
        this.showPart(part, target);
      }
      return Boolean(part);
    } finally {
      if (this.mode === "loading" && this.aborter === aborter) {
        this.mode = "idle";
      }
    }
  }

  /** A part of the log; undefined if another job was chosen meanwhile or the API is unreachable. */
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
    this.setServed(false);
    this.start = part.start;
    this.size = part.size;
    if (!this.stream) {
      this.counter.setBlindly(part.lines, part.size); // else the stream's texts are counted
    }
  }

  /** Replaces the lines in the view with those of a part. `target` is the offset that the reader
      wants to see, or null for the end. */
  showPart(part, target) {
    const lines = this.split(part, part.line);
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
    this.newLines = 0;
    if (isEnd) {
      this.followFrom(shown.at(-1), unfinished, part);
    } else {
      this.mode = "reading";
      this.view.stopTaking(); // which calls stopFollowing
      this.countNewOutput(part);
    }
    this.handlers.shown();
  }

  /** The lines of a part. Only if the API was asked for times, a time before a line is not the
      job's own. */
  split({ bytes, offset }, number) {
    return (this.stamped ? splitStamped : splitBytes)(bytes, offset, number);
  }

  /** A line's text, however long it is; undefined if it is not available. */
  async fetchWholeLine(offset) {
    const part = await this.fetch({ offset, limit_bytes: WHOLE_LINE_BYTES });
    const [line] = part ? this.split(part, null) : [];
    return line?.text;
  }

  // --- The stream ---

  /** The view shows the end of the log: from now on, new output is added to it. */
  followFrom(last, unfinished, part) {
    this.mode = "following";
    this.view.takeAgain();
    this.counter.set(part.lines, part.next, unfinished !== null);
    this.next = part.next;
    const number = last ? numberAfter(last.number) : part.line;
    this.joiner = new LineJoiner(unfinished?.offset ?? part.next, number, this.stamped);
    if (unfinished) {
      this.joiner.add(stampedText(unfinished), part.next);
    }
    if (!part.complete) {
      this.openStream(part.next);
    }
  }

  /** The view takes no more lines: new output is only counted, and log_paging.js continues after
      the last line in the view. The view also calls this for lines of the previous log. */
  stopFollowing() {
    const { end, number, covers } = this.view.dropUnplacedTail();
    if (this.mode === "following") {
      this.mode = "reading";
    }
    this.next = end ?? this.next;
    this.nextNumber = covers ? null : numberAfter(number);
  }

  /** Counts new output while the end of the log is not in the view. */
  countNewOutput(part) {
    if (!this.stream && !isEnded(part)) {
      this.openStream(this.counter.next);
    }
  }

  openStream(offset) {
    this.stream?.close();
    const { jobId } = this;
    this.stream = new LogStream(jobId, offset, this.stamped, {
      text: (text, end) => this.onText(jobId, text, end),
      moved: (job) => this.handlers.moved(job),
      end: (job) => this.onEnd(job),
      gap: () => this.onGap(jobId),
      change: () => this.onStreamChange(),
    });
  }

  onText(jobId, text, end) {
    if (jobId !== this.jobId) {
      return;
    }
    this.writtenAt = Date.now();
    this.size = Math.max(this.size, end);
    const ended = this.counter.add(text, end);
    if (!this.view.following) {
      this.newLines += ended;
    }
    if (this.mode === "following") {
      const lines = this.joiner.add(text, end);
      this.next = end;
      this.view.append(lines, this.joiner.unfinished());
    }
    this.handlers.written(text);
  }

  onEnd(job) {
    if (job.id === this.jobId) {
      this.stream = null;
      this.handlers.ended(job);
    }
  }

  /** The new output does not join the lines in the view: the API no longer has the bytes between
      them, or the job has truncated its log. */
  onGap(jobId) {
    if (jobId === this.jobId) {
      this.reload();
    }
  }

  onStreamChange() {
    if (this.stream && this.stream.failures >= GIVE_UP) {
      this.askServer();
    } else if (this.stream?.isOpen) {
      this.setServed(false);
    }
    this.handlers.changed();
  }

  // --- The server's tail, while the browser cannot reach the API ---

  setServed(isServed) {
    if (this.isServed !== isServed) {
      this.isServed = isServed;
      this.handlers.served();
    }
  }

  askServer() {
    if (!this.isServed) {
      this.setServed(true);
      page.refreshLater(); // which also brings a new ticket, in case this one has expired
    }
  }

  /** Takes a tail of this job's log from the server; `isOver` is true if the job has ended. */
  takeServerTail(tail, isOver) {
    if (!this.isServed || (this.isLoaded && tail.next === this.counter.at)) {
      return;
    }
    if (tail.stamped !== this.stamped || this.stream?.isOpen) {
      return;
    }
    this.size = tail.next;
    if (this.mode === "reading") {
      this.counter.set(tail.lines, tail.next, !tail.text.endsWith("\n"));
    } else {
      this.followServerTail(tail);
    }
    if (!isOver) {
      this.openStream(tail.next); // the old stream would resume before this text
    }
    this.handlers.changed();
  }

  followServerTail(tail) {
    const isJoining = this.isLoaded && !this.stamped;
    const more = isJoining ? tailBehind(tail.text, tail.offset, tail.next, this.next) : null;
    if (more === null) {
      this.showServerTail(tail);
    } else {
      this.onText(this.jobId, more, tail.next);
    }
    this.counter.set(tail.lines, tail.next, this.counter.isMidLine);
  }

  showServerTail(tail) {
    this.view.clear();
    this.counter.set(null, tail.offset, false);
    const number = tail.lines === null ? null : tail.lines - countLines(tail.text) + 1;
    this.joiner = new LineJoiner(tail.offset, number, this.stamped);
    this.mode = "following";
    this.newLines = 0;
    this.onText(this.jobId, tail.text, tail.next);
  }
}
