/* Shows only the lines of a log that match, and marks the gaps between them. It covers the view,
   which keeps its place, and loads its lines in parts from the whole log as the user scrolls. */

import { describeGap, linesBetween } from "./find_text.js";

const PART = 200; // lines to fetch at a time
const MOST = 2000; // lines to keep
const NEAR = 600; // pixels from either end at which more lines are fetched

export class LogFilter {
  /** `handlers`: lineHtml(line) returns the HTML of a line; open(offset) shows all lines at a place; drawn() when other lines are shown. */
  constructor(element, handlers) {
    this.element = element;
    this.handlers = handlers;
    this.isOpen = false;
    this.forget();
    element.addEventListener("scroll", () => this.onScroll());
    element.addEventListener("click", (event) => this.onClick(event));
  }

  forget() {
    this.matches = null;
    this.rows = []; // { offset, line, text }, oldest first, none missing between them
    this.hasStart = false; // is the first row the first match?
    this.hasEnd = false;
    this.current = null; // offset of the selected row
    this.isLoading = false;
  }

  /** `digits`: of the widest line number for which there is room. */
  open(digits) {
    this.isOpen = true;
    this.element.style.setProperty("--digits", digits);
    this.element.hidden = false;
    this.element.innerHTML = "";
    this.forget();
  }

  close() {
    this.isOpen = false;
    this.element.hidden = true;
    this.element.innerHTML = "";
    this.forget();
  }

  /** Shows the matches around an offset; null: the last ones. */
  async fill(matches, offset) {
    this.forget();
    this.matches = matches;
    const before = await matches.backwards(offset, PART);
    const after = offset === null ? [] : await matches.forwards(offset, PART);
    if (matches !== this.matches) {
      return;
    }
    this.hasStart = before.length < PART;
    this.hasEnd = after.length < PART;
    this.rows = [...before, ...after];
    this.current = after[0]?.offset ?? null;
    this.draw();
    if (offset === null || this.current === null) {
      this.element.scrollTop = this.element.scrollHeight;
    } else {
      this.center(this.current);
    }
    this.handlers.drawn();
  }

  /** Shows these lines only; no others can be loaded. */
  showRows(matches, rows) {
    this.forget();
    this.matches = matches;
    this.rows = rows;
    this.hasStart = true;
    this.hasEnd = true;
    this.keepPlace(() => {});
  }

  /** Selects a match, which need not be loaded. */
  async show(matches, offset) {
    if (matches !== this.matches || !this.rows.some((row) => row.offset === offset)) {
      await this.fill(matches, offset);
    }
    this.current = offset;
    this.mark();
    this.center(offset);
    this.handlers.drawn();
  }

  // --- More lines ---

  onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    if (scrollTop < NEAR) {
      this.loadEarlier();
    }
    if (scrollHeight - scrollTop - clientHeight < NEAR) {
      this.loadLater();
    }
  }

  /** Matches in new output: shown at once if the last match is. */
  async loadNew() {
    if (this.isOpen && this.hasEnd) {
      this.hasEnd = false;
      await this.loadLater();
    }
  }

  async loadEarlier() {
    const first = this.rows[0];
    if (this.hasStart || !first) {
      return;
    }
    await this.load(
      (matches) => matches.backwards(first.offset, PART),
      (more) => {
        this.hasStart = more.length < PART;
        this.rows = [...more, ...this.rows].slice(0, MOST);
        this.hasEnd = this.hasEnd && this.rows.at(-1).offset >= first.offset;
      },
    );
  }

  async loadLater() {
    const last = this.rows.at(-1);
    if (this.hasEnd || !this.matches) {
      return;
    }
    await this.load(
      (matches) => matches.forwards(last ? last.offset + 1 : 0, PART),
      (more) => {
        this.hasEnd = more.length < PART;
        const all = [...this.rows, ...more];
        this.rows = all.slice(-MOST);
        this.hasStart = this.hasStart && this.rows.length === all.length;
      },
    );
  }

  async load(fetchMore, add) {
    const { matches } = this;
    if (this.isLoading) {
      return;
    }
    this.isLoading = true;
    try {
      const more = await fetchMore(matches);
      if (matches === this.matches) {
        this.keepPlace(() => add(more));
      }
    } finally {
      this.isLoading = false;
    }
  }

  /** Draws other rows and keeps the scroll position: at the end, or at the row on top. */
  keepPlace(change) {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 3;
    const top = [...this.element.querySelectorAll(".line")].find(
      (line) => line.offsetTop + line.offsetHeight > scrollTop,
    );
    const above = (top?.offsetTop ?? 0) - scrollTop;
    change();
    this.draw();
    const line = top && this.lineAt(Number(top.dataset.offset));
    if (isAtEnd) {
      this.element.scrollTop = this.element.scrollHeight;
    } else if (line) {
      this.element.scrollTop = line.offsetTop - above;
    }
    this.handlers.drawn();
  }

  // --- Drawing ---

  draw() {
    if (this.rows.length === 0) {
      this.element.innerHTML = '<p class="none">No lines match</p>';
      return;
    }
    const html = [this.hasStart ? gapHtml(0, this.rows[0].line, null) : ""];
    this.rows.forEach((row, index) => {
      const previous = this.rows[index - 1];
      html.push(previous ? gapHtml(previous.line, row.line, previous.offset) : "");
      html.push(this.rowHtml(row));
    });
    this.element.innerHTML = html.join("");
    this.mark();
  }

  rowHtml({ offset, line, text }) {
    return this.handlers.lineHtml({ text, stamp: "", offset, end: null, number: line });
  }

  mark() {
    this.element.querySelector(".found-line")?.classList.remove("found-line");
    if (this.current !== null) {
      this.lineAt(this.current)?.classList.add("found-line");
    }
  }

  lineAt(offset) {
    return this.element.querySelector(`.line[data-offset="${Number(offset)}"]`);
  }

  center(offset) {
    const line = this.lineAt(offset);
    if (line) {
      const room = this.element.clientHeight - line.offsetHeight;
      this.element.scrollTop = line.offsetTop - room / 2;
    }
  }

  onClick({ target }) {
    const gap = target.closest(".gap");
    if (gap) {
      this.handlers.open(Number(gap.dataset.offset));
    }
  }
}

/** A button between two matching lines that shows the lines between them. `offset` is that of the
    line before; null: the gap is before the first match. */
function gapHtml(before, after, offset) {
  const lines = linesBetween(before, after);
  if (lines === 0 || (lines === null && offset === null)) {
    return "";
  }
  const label = "Show all lines here";
  return `<button type="button" class="gap" title="${label}" data-offset="${Number(offset ?? 0)}">${describeGap(lines)}</button>`;
}
