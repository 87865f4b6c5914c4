/* Shows the lines of a log as nodes: a window onto a log of any length. Lines are added below and
   above, a few at a time so that no frame is late, and removed if there are too many. Must not know
   where the lines come from. */

import { LogAnsi } from "./log_ansi.js";
import { describeLine, isWithin, lineHtml, wholeHtml } from "./log_line.js";
import { LogScroll } from "./log_scroll.js";
import { LINE_LIMIT } from "./log_text.js";
import { describeLineTime, formatLineTime } from "./log_times.js";

const FOLLOWED_LINES = 2000; // to keep while following the end
const READ_LINES = 10_000; // to keep while the reader looks at an earlier place
const FRAME = 16; // milliseconds
const LINES_PER_FRAME = 250;
const CHARACTERS_PER_FRAME = 40_000;
const WAITING_CHARACTERS = 2_000_000; // of lines that are not drawn yet, at most
// Digits of line numbers for which the view has room from the start. More room later means a new
// layout of all lines, which is slow if there are many.
const LEAST_DIGITS = 6;
const LEAST_DIGITS_NARROW = 4;
const NARROW = "(max-width: 999px)"; // room for the list or the log only, as in dashboard.css

export class LogView extends LogScroll {
  /** `sections` is the LogSections. `handlers`: nearStart(), nearEnd(), scrolled(), drawn(),
      unfold(node) before a hidden line is shown, and full() when the view takes no more lines
      below. */
  constructor(element, errorPatterns, sections, handlers) {
    super(element, handlers);
    this.errorPatterns = errorPatterns;
    this.sections = sections;
    this.times = { how: "off", startedAt: Number.NaN };
    this.marked = null;
    this.clear();
    element.addEventListener("pointerover", (event) => this.explainTime(event.target));
  }

  clear() {
    clearTimeout(this.timer);
    this.timer = null;
    this.element.replaceChildren();
    this.element.classList.remove("old");
    clearTimeout(this.timerAbove);
    this.htmlAbove = []; // of lines still to be added above
    this.waiting = []; // lines to draw below
    this.waitingCharacters = 0;
    this.unfinished = null; // the unfinished line below all others
    this.unfinishedNode = null;
    this.ansi = new LogAnsi();
    this.isFull = false;
    this.resetScroll();
  }

  /** Dims the lines, which belong to another log or place, until others replace them. */
  dim() {
    this.element.classList.add("old");
  }

  /** Replaces all lines. */
  replace(lines, unfinished = null) {
    this.replaceFromEnd(lines, unfinished);
    this.drawAllAbove();
  }

  /** Replaces all lines and shows the end. The lines above are added in the next frames, because
      the layout of all of them takes long. */
  replaceFromEnd(lines, unfinished = null) {
    this.clear();
    this.makeRoom(lines.at(-1)?.number);
    this.htmlAbove = lines.map((line) => this.lineHtml(line, this.ansi));
    const html = this.htmlAbove.splice(-LINES_PER_FRAME);
    this.element.insertAdjacentHTML("beforeend", html.join(""));
    this.unfinished = unfinished;
    this.drawUnfinished();
    this.scrollToEnd();
    if (this.htmlAbove.length > 0) {
      this.timerAbove = setTimeout(() => this.drawAbove(), FRAME);
    }
  }

  /** Adds some of the lines that are still missing above. */
  drawAbove() {
    this.insertAbove(this.htmlAbove.splice(-LINES_PER_FRAME));
    this.scrollToEnd();
    if (this.htmlAbove.length > 0) {
      this.timerAbove = setTimeout(() => this.drawAbove(), FRAME);
    } else {
      this.handlers.drawn();
    }
  }

  drawAllAbove() {
    clearTimeout(this.timerAbove);
    if (this.htmlAbove.length > 0) {
      this.insertAbove(this.htmlAbove.splice(0));
    }
  }

  // --- The lines in the view ---

  get count() {
    return this.element.childElementCount;
  }

  /** Offset, end and number of the first line; each is null if it is not known or there is no
      line. */
  get first() {
    return describeLine(this.element.firstElementChild);
  }

  get last() {
    return describeLine(this.element.lastElementChild);
  }

  get errors() {
    return [...this.element.querySelectorAll(".error")];
  }

  // --- Lines below ---

  append(lines, unfinished) {
    if (this.isFull) {
      return;
    }
    this.waiting.push(...lines);
    this.waitingCharacters += lines.reduce((sum, line) => sum + line.text.length, 0);
    this.unfinished = unfinished;
    this.dropExcess();
    this.timer ??= setTimeout(() => this.draw(), FRAME);
  }

  /** If more lines arrive than the view keeps, draws only the last ones and removes those before,
      so that there is no gap. */
  dropExcess() {
    if (!this.following) {
      return;
    }
    let drop = Math.max(0, this.waiting.length - FOLLOWED_LINES);
    let characters = this.waitingCharacters;
    for (let index = 0; index < this.waiting.length - 1; index += 1) {
      if (index >= drop && characters <= WAITING_CHARACTERS) {
        break;
      }
      characters -= this.waiting[index].text.length;
      drop = Math.max(drop, index + 1);
    }
    if (drop > 0) {
      this.updateFollowing(); // the event of a scroll may not have arrived yet
    }
    if (drop > 0 && this.following) {
      this.waiting.splice(0, drop);
      this.waitingCharacters = characters;
      this.htmlAbove = [];
      this.element.replaceChildren();
      this.unfinishedNode = null;
    }
  }

  draw() {
    this.timer = null;
    this.drawAllAbove();
    this.updateFollowing(); // the event of a scroll may not have arrived yet
    this.insertAtEnd(this.takeBatch());
    if (this.waiting.length > 0) {
      this.timer = setTimeout(() => this.draw(), FRAME);
    } else {
      this.drawUnfinished();
    }
    this.keepWithinBounds();
    this.scrollToEnd();
    this.handlers.drawn();
  }

  takeBatch() {
    let characters = 0;
    let count = 0;
    while (
      count < this.waiting.length &&
      count < LINES_PER_FRAME &&
      characters < CHARACTERS_PER_FRAME
    ) {
      characters += Math.min(LINE_LIMIT, this.waiting[count].text.length);
      this.waitingCharacters -= this.waiting[count].text.length;
      count += 1;
    }
    return this.waiting.splice(0, count);
  }

  insertAtEnd(lines) {
    this.makeRoom(lines.at(-1)?.number);
    this.unfinishedNode?.remove();
    this.unfinishedNode = null;
    const html = lines.map((line) => this.lineHtml(line, this.ansi));
    this.element.insertAdjacentHTML("beforeend", html.join(""));
  }

  /** Makes the column of line numbers wide enough for this number. */
  makeRoom(number) {
    const least = matchMedia(NARROW).matches ? LEAST_DIGITS_NARROW : LEAST_DIGITS;
    const digits = Math.max(least, String(number ?? 0).length);
    if (digits !== this.digits) {
      this.digits = digits;
      this.element.style.setProperty("--digits", digits);
    }
  }

  /** Draws the unfinished line. It will be drawn again, so its changes to the colours are
      undone. */
  drawUnfinished() {
    this.unfinishedNode?.remove();
    this.unfinishedNode = null;
    if (this.unfinished) {
      const state = { ...this.ansi };
      this.element.insertAdjacentHTML("beforeend", this.lineHtml(this.unfinished, this.ansi));
      Object.assign(this.ansi, state);
      this.unfinishedNode = this.element.lastElementChild;
    }
  }

  keepWithinBounds() {
    if (this.following) {
      while (this.count > FOLLOWED_LINES) {
        this.element.firstElementChild.remove();
      }
    } else if (this.count >= READ_LINES) {
      this.stopTaking();
    }
  }

  /** Takes no more lines below, so that a reader far up keeps the place and the memory stays
      bounded. */
  stopTaking() {
    this.waiting = [];
    this.waitingCharacters = 0;
    this.unfinished = null;
    this.unfinishedNode?.remove();
    this.unfinishedNode = null;
    this.isFull = true;
    this.following = false;
    this.handlers.full();
  }

  /** Takes lines below again, because the view has caught up with the log. */
  takeAgain() {
    this.isFull = false;
  }

  /** Removes lines below until one whose end is known, so that reading can continue after it. */
  dropUnplacedTail() {
    while (this.count > 0 && this.last.end === null) {
      this.element.lastElementChild.remove();
    }
    return this.last;
  }

  /** Removes lines above until one whose offset is known, so that reading can continue before
      it. */
  dropUnplacedHead() {
    this.drawAllAbove();
    while (this.count > 0 && this.first.offset === null) {
      this.element.firstElementChild.remove();
    }
    return this.first;
  }

  // --- Lines above ---

  /** Adds lines above, keeps the reader's place, and removes lines below if there are too many. */
  prepend(lines) {
    this.insertAbove(lines.map((line) => this.lineHtml(line, new LogAnsi())));
    if (this.count > READ_LINES) {
      while (this.count > READ_LINES) {
        this.element.lastElementChild.remove();
      }
      this.unfinishedNode = null;
      this.stopTaking();
    }
    this.handlers.drawn();
  }

  insertAbove(html) {
    const { scrollHeight, scrollTop } = this.element;
    this.element.insertAdjacentHTML("afterbegin", html.join(""));
    this.element.scrollTop = scrollTop + this.element.scrollHeight - scrollHeight;
  }

  /** Adds lines below for a reader who has scrolled there, and removes lines above if there are too
      many. */
  extend(lines, unfinished) {
    this.isFull = false;
    this.insertAtEnd(lines);
    this.unfinished = unfinished;
    this.drawUnfinished();
    const { scrollHeight, scrollTop } = this.element;
    while (this.count > READ_LINES) {
      this.element.firstElementChild.remove();
    }
    this.element.scrollTop = scrollTop - (scrollHeight - this.element.scrollHeight);
    this.handlers.drawn();
  }

  /** Removes the hidden lines after the header of a folded section. The header then covers the log
      up to `end`, where the view continues. */
  cover(header, end) {
    let node = header.nextElementSibling;
    while (node?.classList.contains("folded") && !(Number(node.dataset.offset) >= end)) {
      node.remove();
      node = header.nextElementSibling;
    }
    header.dataset.end = end;
    header.dataset.covers = "";
  }

  // --- One line ---

  lineHtml(line, ansi) {
    const { errorPatterns, times, marked, sections } = this;
    return lineHtml(line, { ansi, errorPatterns, times, marked, sections });
  }

  /** Marks the lines in a range of offsets, now and when they are drawn later; null marks none. */
  setMarked(range) {
    this.marked = range;
    for (const node of this.lines) {
      node.classList.toggle("marked", isWithin(describeLine(node).offset, range));
    }
  }

  /** Shows the lines' times in another way; see log_times.js. */
  setTimes(times) {
    this.times = times;
    for (const node of this.element.querySelectorAll("time")) {
      node.textContent = formatLineTime(node.dateTime, times);
    }
  }

  /** Adds the tooltip only now, since few of the many times are ever looked at. */
  explainTime(node) {
    if (node.matches("time")) {
      node.title = describeLineTime(node.dateTime, this.times.startedAt);
    }
  }

  /** Shows all of a long line. */
  showWhole(node, text) {
    node.querySelector("span").innerHTML = wholeHtml(text);
    node.querySelector(".whole")?.remove();
  }

  // --- Scrolling, which log_scroll.js does ---

  get canFollow() {
    return !this.isFull;
  }

  get hasAllAbove() {
    return this.htmlAbove.length === 0;
  }

  /** Goes to the end and follows it. */
  follow() {
    this.takeAgain();
    this.followEnd();
  }
}
