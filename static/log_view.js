/* Shows the lines of a log as nodes: a window onto a log of any length. Lines are added below and
   above, a few at a time so that no frame is late, and removed if there are too many. Must not know
   where the lines come from. */

import { escapeHtml, formatCount } from "./format.js";
import { cleanLine, isErrorLine, LINE_LIMIT, lastOverwrite } from "./log_text.js";
import { AnsiUp } from "./vendor/ansi_up.js";

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
const NEAR = 600; // pixels from either end at which more lines are fetched

export class LogView {
  /** `handlers`: nearStart(), nearEnd(), scrolled(), drawn(), and full() when the view takes
      no more lines below. */
  constructor(element, errorPatterns, handlers) {
    this.element = element;
    this.errorPatterns = errorPatterns;
    this.handlers = handlers;
    this.clear();
    element.addEventListener("scroll", () => this.onScroll());
    new ResizeObserver(() => this.keepEnd()).observe(element);
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
    this.ansi = makeAnsi();
    this.following = true;
    this.previousEnd = 0; // scroll position when the end was last visible
    this.isFull = false;
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

  get lines() {
    return this.element.children;
  }

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
    this.insertAbove(lines.map((line) => this.lineHtml(line, makeAnsi())));
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

  // --- One line ---

  lineHtml({ text, stamp, offset, end, number }, ansi) {
    const last = lastOverwrite(text);
    const shown = ansi.ansi_to_html(cleanLine(last.slice(0, LINE_LIMIT))); // which escapes it
    const kind = isErrorLine(last, this.errorPatterns) ? "line error" : "line";
    const place = dataHtml("offset", offset) + dataHtml("end", end) + dataHtml("line", number);
    const time = stamp ? `<time>${escapeHtml(timeOfDay(stamp))}</time>` : "";
    return `<div class="${kind}"${place}>${time}<span>${shown}</span>${moreHtml(last, offset)}</div>`;
  }

  /** Shows all of a long line. */
  showWhole(node, text) {
    const html = makeAnsi().ansi_to_html(cleanLine(text));
    node.querySelector("span").innerHTML = html;
    node.querySelector(".whole")?.remove();
  }

  // --- Scrolling ---

  onScroll() {
    this.updateFollowing();
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    if (scrollTop < NEAR && this.htmlAbove.length === 0) {
      this.handlers.nearStart();
    }
    if (scrollHeight - scrollTop - clientHeight < NEAR) {
      this.handlers.nearEnd();
    }
    this.handlers.scrolled();
  }

  /** Updates `following`: the view follows the end until the reader scrolls up, and again from the
      end. */
  updateFollowing() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const atEnd = scrollHeight - scrollTop - clientHeight < 3;
    this.following =
      !this.isFull && (atEnd || (this.following && scrollTop > this.previousEnd - 3));
    if (atEnd) {
      this.previousEnd = scrollTop;
    }
  }

  /** Keeps the end visible when the height of the view changes. */
  keepEnd() {
    if (this.following) {
      this.element.scrollTop = this.element.scrollHeight;
      this.previousEnd = this.element.scrollTop;
    }
  }

  /** Goes to the end and follows it. */
  follow() {
    this.takeAgain();
    this.following = true;
    this.scrollToEnd();
  }

  scrollToEnd() {
    if (this.following) {
      this.element.scrollTop = this.element.scrollHeight;
    }
    this.updateFollowing();
  }

  /** Scrolls a line into the middle. */
  scrollToLine(node) {
    this.leaveEnd();
    const { clientHeight } = this.element;
    this.element.scrollTop = node.offsetTop - clientHeight / 2 + node.offsetHeight / 2;
    this.updateFollowing();
  }

  /** Moves a class to one line; null removes it from all lines. */
  moveMark(name, line) {
    for (const other of this.element.querySelectorAll(`.${name}`)) {
      other.classList.remove(name);
    }
    line?.classList.add(name);
  }

  /** Stops following, as if the reader had scrolled up. */
  leaveEnd() {
    this.following = false;
    this.previousEnd = Infinity;
  }

  /** The line with the byte at an offset; undefined if all lines in the view begin after it. */
  lineAt(offset) {
    const known = [...this.lines].filter((node) => node.dataset.offset !== undefined);
    return known.filter((node) => Number(node.dataset.offset) <= offset).at(-1);
  }

  hasOffset(offset) {
    return this.element.querySelector(`[data-offset="${Number(offset)}"]`) !== null;
  }

  /** The offset of the line in the visible middle; 0 if it is not known. */
  get middleOffset() {
    const { scrollTop, clientHeight } = this.element;
    const line = lineAtHeight(this.lines, scrollTop + clientHeight / 2);
    return Number(line?.dataset.offset ?? 0);
  }

  /** Changes the layout of the lines and keeps the top line where it is. */
  keepPlace(change) {
    const top = this.element.scrollTop;
    const line = [...this.lines].find((node) => node.offsetTop + node.offsetHeight > top);
    const above = line ? line.offsetTop - top : 0;
    change();
    if (line && !this.following) {
      this.element.scrollTop = line.offsetTop - above;
    }
    this.scrollToEnd();
  }

  /** The first and the last visible line. */
  get visible() {
    const top = this.element.scrollTop;
    const bottom = top + this.element.clientHeight;
    return [lineAtHeight(this.lines, top), lineAtHeight(this.lines, bottom)];
  }
}

/** The line at a height, by binary search, since there can be thousands of lines. */
function lineAtHeight(lines, height) {
  let low = 0;
  let high = lines.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lines[middle].offsetTop <= height) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return lines[low];
}

function makeAnsi() {
  const ansi = new AnsiUp();
  ansi.use_classes = true;
  return ansi;
}

function dataHtml(name, number) {
  return number === null ? "" : ` data-${name}="${Number(number)}"`;
}

function describeLine(node) {
  const read = (name) => (node?.dataset[name] === undefined ? null : Number(node.dataset[name]));
  return { offset: read("offset"), end: read("end"), number: read("line") };
}

function timeOfDay(stamp) {
  return new Date(stamp).toTimeString().slice(0, 8);
}

function moreHtml(text, offset) {
  const more = text.length - LINE_LIMIT;
  if (more <= 0) {
    return "";
  }
  const label = `… ${formatCount(more)} more characters`;
  return offset === null
    ? ` <u>${label}</u>`
    : ` <button type="button" class="whole" tabindex="-1">${label}</button>`;
}
