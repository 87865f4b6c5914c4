/* Finds text in a log: first in the lines in the view, then in the whole log through the API. */

import { formatCount } from "./format.js";
import { expectUnreachable, fetchMatches } from "./log_stream.js";
import { findMatches, linesAround } from "./log_text.js";

const COUNT_DELAY = 300; // milliseconds after the last key
const REDRAW_DELAY = 200; // milliseconds between searches while lines arrive
const AROUND = 2; // lines shown around each match with "Only matches"
const PAGE = 1000; // matches in one answer, the most that the API allows
const PAGES = 10; // pages to request at most when stepping down

export class LogFind {
  /** `goTo(offset)` shows another place in the log. */
  constructor(find, view, goTo) {
    this.find = find;
    this.view = view;
    this.goTo = goTo;
    this.jobId = "";
    this.ranges = []; // matches in the view, in order
    this.place = 0; // index of the selected match in `ranges`
    this.total = null; // matches in the whole log: { count, complete }
    this.field = find("find-field");
    this.field.addEventListener("input", () => this.start());
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    find("previous-match").addEventListener("click", () => this.step(-1));
    find("next-match").addEventListener("click", () => this.step(1));
    find("only-matches").addEventListener("change", () => this.showOnlyMatches());
  }

  get wanted() {
    return this.field.value;
  }

  /** Switches to another log. The text to find is kept, the matches are not. */
  setJob(jobId) {
    this.jobId = jobId;
    this.total = null;
    this.ranges = [];
    if (this.wanted) {
      this.countAll();
    }
  }

  onKey(event) {
    if (event.key === "Enter") {
      this.step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      this.field.value = "";
      this.start();
      this.view.element.focus();
    }
  }

  start() {
    this.total = null;
    this.search();
    this.place = this.nearest();
    this.show();
    this.showOnlyMatches();
    this.countAll();
  }

  /** The lines have changed. The selected match stays selected if it still exists. */
  update() {
    if (this.wanted) {
      this.redrawTimer ??= setTimeout(() => this.redraw(), REDRAW_DELAY);
    }
  }

  redraw() {
    this.redrawTimer = null;
    this.search();
    this.place = Math.min(this.place, Math.max(0, this.ranges.length - 1));
    this.show();
    this.showOnlyMatches();
  }

  // --- In the view ---

  search() {
    this.ranges = [];
    if (!this.wanted) {
      return;
    }
    const walk = document.createTreeWalker(this.view.element, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      for (const [begin, end] of findMatches(walk.currentNode.data, this.wanted)) {
        const range = new Range();
        range.setStart(walk.currentNode, begin);
        range.setEnd(walk.currentNode, end);
        this.ranges.push(range);
      }
    }
  }

  /** The index of the match nearest to the visible middle. */
  nearest() {
    const { top, height } = this.view.element.getBoundingClientRect();
    const eye = top + height / 2;
    let best = 0;
    let least = Infinity;
    this.ranges.forEach((range, index) => {
      const distance = Math.abs(range.getBoundingClientRect().top - eye);
      if (distance < least) {
        least = distance;
        best = index;
      }
    });
    return best;
  }

  async step(by) {
    const place = this.place + by;
    if (place >= 0 && place < this.ranges.length) {
      this.place = place;
      this.show();
      this.scrollToMatch();
    } else if (this.wanted && !(await this.stepOutside(by)) && this.ranges.length > 0) {
      this.place = by > 0 ? 0 : this.ranges.length - 1;
      this.show();
      this.scrollToMatch();
    }
  }

  scrollToMatch() {
    const range = this.ranges[this.place];
    const line = range.startContainer.parentElement.closest(".line");
    this.view.scrollToLine(line);
  }

  show() {
    const now = this.ranges.slice(this.place, this.place + 1);
    CSS.highlights?.set("found", new Highlight(...this.ranges));
    CSS.highlights?.set("found-now", new Highlight(...now));
    this.find("found").textContent = this.wanted ? this.describe() : "";
  }

  describe() {
    const here = this.ranges.length;
    const place = here > 0 ? this.place + 1 : 0;
    const text = `${formatCount(place)} of ${formatCount(here)}`;
    if (!this.total || (this.total.complete && this.total.count <= here)) {
      return text;
    }
    const sure = this.total.complete ? "" : "at least ";
    return `${text} here · ${sure}${formatCount(this.total.count)} in the whole log`;
  }

  showOnlyMatches() {
    const only = this.find("only-matches").checked && this.ranges.length > 0;
    this.view.element.classList.toggle("only-matches", only);
    if (!only) {
      return;
    }
    const lines = [...this.view.lines];
    const places = new Map(lines.map((line, index) => [line, index]));
    const matching = this.ranges.map((range) =>
      places.get(range.startContainer.parentElement.closest(".line")),
    );
    const shown = linesAround(matching, AROUND, lines.length);
    lines.forEach((line, index) => {
      line.classList.toggle("near", shown.has(index));
    });
  }

  // --- In the whole log ---

  countAll() {
    clearTimeout(this.countTimer);
    this.aborter?.abort();
    if (!this.wanted) {
      return;
    }
    this.aborter = new AbortController();
    this.countTimer = setTimeout(() => this.fetchCount(this.aborter.signal), COUNT_DELAY);
  }

  async fetchCount(signal) {
    try {
      this.total = await fetchMatches(this.jobId, { q: this.wanted, count: 1 }, signal);
      this.show();
    } catch (error) {
      expectUnreachable(error);
    }
  }

  /** Goes to the next match outside the view; resolves to false if there is none. */
  async stepOutside(by) {
    try {
      const offset = by < 0 ? await this.offsetBefore() : await this.offsetAfter();
      if (offset === null) {
        return false;
      }
      await this.goTo(offset);
      this.search();
      this.place = by < 0 ? this.placeAt(offset, -1) : this.placeAt(offset, 1);
      this.show();
      return true;
    } catch (error) {
      expectUnreachable(error);
      return false;
    }
  }

  async offsetBefore() {
    const before = this.view.first.offset;
    if (!before) {
      return null;
    }
    const { matches } = await fetchMatches(this.jobId, { q: this.wanted, before, limit: 1 });
    return matches[0]?.offset ?? null;
  }

  /** The first match after the view. The API searches from the end, so this keeps the last one
      found. */
  async offsetAfter() {
    const after = this.view.last.offset;
    const parameters = { q: this.wanted, limit: PAGE };
    let found = null;
    for (let asked = 0; asked < PAGES; asked += 1) {
      const { matches, next } = await fetchMatches(this.jobId, parameters);
      const further = matches.filter((match) => match.offset > after);
      found = further.at(-1)?.offset ?? found;
      if (further.length < matches.length || next === null) {
        break;
      }
      parameters.before = next;
    }
    return found;
  }

  /** The index of the first (or, upwards, the last) match in the line at an offset. */
  placeAt(offset, by) {
    const line = this.view.lineAt(offset);
    const inLine = this.ranges.flatMap((range, index) =>
      line?.contains(range.startContainer) ? [index] : [],
    );
    return (by < 0 ? inLine.at(-1) : inLine[0]) ?? this.nearest();
  }
}
