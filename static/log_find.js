/* Finds text in a log: selects a match, steps to others, and shows which one of how many it is.

   log_matches.js asks the API, which searches the whole log. While the browser cannot reach it, the
   lines in the view are searched instead, and the counter says so. A match is a line: the counter,
   the steps and the filter all count lines. */

import { FindField } from "./find_field.js";
import { describeMistake, describePosition } from "./find_text.js";
import { LogAnsi } from "./log_ansi.js";
import { LogFilter } from "./log_filter.js";
import { LogHighlights, rowOf } from "./log_highlights.js";
import { LogMatches } from "./log_matches.js";
import { LogMinimap } from "./log_minimap.js";
import { expectUnreachable, Unreachable, WrongSearch } from "./log_stream.js";

const TYPING_DELAY = 120; // milliseconds after the last key
const REDRAW_DELAY = 200; // milliseconds between searches while lines arrive
const COUNT_INTERVAL = 1000; // milliseconds between two counts of a log that grows, at least
const COUNT_SHARE = 10; // of the time, at most one part in so many is spent on counting

export class LogFind {
  /** `find` returns nodes of the pane by class; `moved()` is called when another place of the log
      is shown. */
  constructor({ find, view, source, moved }) {
    this.find = find;
    this.view = view;
    this.source = source;
    this.moved = moved;
    this.highlights = new LogHighlights(() => this.redrawSoon());
    this.filter = new LogFilter(find("filtered"), {
      lineHtml: (line) => view.lineHtml(line, new LogAnsi()),
      open: (offset) => this.leaveFilter(offset),
      drawn: () => this.drawHighlights(),
    });
    this.minimap = new LogMinimap(find("match-ticks"), { view, source }, (offset) =>
      this.selectPlace(offset),
    );
    this.field = new FindField(find, () => this.start());
    this.anchor = 0; // the offset from which the first match is searched
    this.steps = Promise.resolve(); // the last of the steps, which run one after the other
    this.forget();
    this.listen();
  }

  listen() {
    this.find("find-field").addEventListener("keydown", (event) => this.onKey(event));
    const on = (name, act) => this.find(name).addEventListener("click", act);
    on("previous-match", () => this.step(-1));
    on("next-match", () => this.step(1));
    on("filter-lines", () => this.toggleFilter());
    this.find("filtered").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        this.leaveFilter();
      }
    });
  }

  onKey(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, Enter: event.shiftKey ? -1 : 1 }[event.key];
    if (by) {
      event.preventDefault();
      this.step(by);
    } else if (event.key === "Escape" && this.field.query.text) {
      this.field.clear();
      this.start();
      this.view.element.focus();
    }
  }

  // --- The query ---

  /** Forgets the matches, which belong to another query or log. */
  forget() {
    clearTimeout(this.typingTimer);
    clearTimeout(this.countTimer);
    this.typingTimer = null;
    this.countTimer = null;
    this.matches?.abort();
    this.matches = null;
    this.current = null; // the selected match, { offset, line, text }
    this.index = null; // its place among all matches, from 0; null if not known
    this.total = null; // { lines, places, complete } of the whole log
    this.counted = 0; // the size of the log at that time
    this.mistake = ""; // in the regular expression
    this.isLocal = false; // are only the lines in the view searched?
  }

  /** Switches to another log. The text to find is kept, and nothing is selected yet. */
  setJob() {
    this.forget();
    this.setFiltering(false);
    this.highlights.setQuery(this.field.query);
    this.minimap.clear();
    this.field.write("");
  }

  /** Another query: shows its first match, from the place where the user began to type. */
  start() {
    if (
      !this.filter.isOpen &&
      !this.view.isVisible(this.view.element.querySelector(".found-line"))
    ) {
      this.anchor = this.topOffset;
    }
    this.forget();
    this.highlights.setQuery(this.field.query);
    this.view.moveMark("found-line", null);
    if (this.field.query.text === "") {
      this.minimap.clear();
      this.setFiltering(false);
      this.drawHighlights();
      this.show();
      return;
    }
    this.drawHighlights();
    this.typingTimer = setTimeout(() => this.run(), TYPING_DELAY);
  }

  get topOffset() {
    return Number(this.view.visible[0]?.dataset.offset ?? 0);
  }

  makeMatches() {
    this.matches ??= new LogMatches(this.source.jobId, this.field.query);
    return this.matches;
  }

  async run() {
    clearTimeout(this.typingTimer);
    this.typingTimer = null;
    this.field.writeIfSlow("Searching…");
    await this.attempt(
      async (matches) => {
        const first = await matches.from(this.anchor);
        if (first && matches === this.matches) {
          await this.select(first);
        }
        await (first ? this.count() : Promise.all([this.count(), this.refilter()]));
      },
      () => this.stepInView(0),
    );
  }

  /** Asks the API. If it cannot be reached, `act` is replaced by `local`, which uses the lines in
      the view. What arrives too late, for another query, is dropped. */
  async attempt(act, local = () => this.searchView()) {
    const matches = this.makeMatches();
    try {
      if (this.source.isServed) {
        throw new Unreachable();
      }
      await act(matches);
      this.isLocal = false;
    } catch (error) {
      this.onError(error, matches, local);
    }
    if (matches === this.matches) {
      this.show();
    }
  }

  onError(error, matches, local) {
    if (error instanceof WrongSearch && matches === this.matches) {
      this.mistake = describeMistake(error.message);
      this.minimap.clear();
    } else if (!(error instanceof WrongSearch)) {
      expectUnreachable(error);
      if (matches === this.matches) {
        local();
      }
    }
  }

  // --- The selected match ---

  /** Selects the next or previous match. The steps of a held key run one after the other. */
  step(by) {
    this.steps = this.steps.then(() => this.stepNow(by));
    return this.steps;
  }

  async stepNow(by) {
    if (this.field.query.text === "" || this.mistake) {
      return;
    }
    if (this.typingTimer) {
      await this.run(); // Enter came before the first match was shown
    }
    const act = async (matches) => {
      const from = this.current?.offset ?? (by > 0 ? this.topOffset - 1 : this.topOffset);
      const found = await matches.step(from, by);
      if (!found || matches !== this.matches) {
        return;
      }
      this.index = this.indexAfter(found.wraps, by);
      this.anchor = found.match.offset;
      await this.select(found.match);
      if (this.index === null) {
        await this.count();
      }
    };
    await this.attempt(act, () => this.stepInView(by));
  }

  indexAfter(wraps, by) {
    if (wraps) {
      const last = this.total?.complete ? this.total.lines - 1 : null;
      return by > 0 ? 0 : last;
    }
    return this.index === null ? null : this.index + by;
  }

  /** Shows a match, which need not be loaded. */
  async select(match) {
    this.current = match;
    if (this.filter.isOpen) {
      await this.filter.show(this.matches, match.offset);
    } else {
      await this.reveal(match.offset);
    }
    this.show();
  }

  /** Selects the match of a tick in the minimap. */
  async selectPlace(offset) {
    this.index = null;
    this.anchor = offset;
    await this.select({ offset });
    await this.attempt(() => this.count());
  }

  /** Loads the lines around an offset if they are not in the view, and scrolls there. */
  async reveal(offset) {
    if (!this.view.hasOffset(offset) && !(await this.source.loadPlace(offset))) {
      return;
    }
    const line = this.view.lineAt(offset) ?? this.view.lines[0];
    this.view.moveMark("found-line", line ?? null);
    if (line) {
      this.view.scrollToLine(line);
      this.drawHighlights();
      this.highlights.scrollAcross(this.view.element, line);
    }
    this.moved();
  }

  // --- The whole log ---

  async count() {
    const { matches, current } = this;
    const begun = Date.now();
    const { size } = this.source;
    const found = await matches.count(current?.offset ?? null);
    if (matches !== this.matches) {
      return;
    }
    this.total = found;
    this.counted = size;
    this.countLength = Date.now() - begun;
    if (current === this.current && current) {
      this.index = found.lines_before;
    }
    this.minimap.draw(found.places);
    this.show();
  }

  /** Counts again once the log has grown. A count of a long log takes a while, so counts are rarer
      then. */
  countLater() {
    if (!this.matches || this.isLocal || this.source.size <= this.counted || !this.total) {
      return;
    }
    const delay = Math.max(COUNT_INTERVAL, COUNT_SHARE * this.countLength);
    this.countTimer ??= setTimeout(() => {
      this.countTimer = null;
      this.attempt(async () => {
        await this.count();
        await this.filter.loadNew();
      });
    }, delay);
  }

  // --- The lines in the view ---

  /** The lines have changed. */
  update() {
    if (this.field.query.text !== "") {
      this.redrawSoon();
    }
  }

  redrawSoon() {
    this.redrawTimer ??= setTimeout(() => this.redraw(), REDRAW_DELAY);
  }

  redraw() {
    this.redrawTimer = null;
    this.drawHighlights();
    this.minimap.redraw();
    const isNewLog = this.field.query.text !== "" && !this.matches; // the text was kept
    if (this.isLocal && this.source.isServed) {
      this.searchView();
      this.show();
    } else if (this.source.isLoaded && (isNewLog || this.isLocal)) {
      this.attempt(() => this.count());
    }
    this.countLater();
  }

  drawHighlights() {
    const element = this.filter.isOpen ? this.filter.element : this.view.element;
    this.highlights.draw(element, element.querySelector(".found-line"));
  }

  /** Without the API: finds the matching lines in the view. */
  searchView() {
    const lines = this.highlights.findRanges(this.view.element).map(([line]) => line);
    const rows = lines.filter((line) => line.dataset.offset !== undefined).map(rowOf);
    const index = rows.findIndex(({ offset }) => offset === this.current?.offset);
    this.isLocal = true;
    this.total = { lines: rows.length, places: rows.map(({ offset }) => offset), complete: true };
    this.index = index < 0 ? null : index;
    this.minimap.draw(this.total.places);
    if (this.filter.isOpen) {
      this.filter.showRows(this.matches, rows);
    }
  }

  /** Without the API: selects the match that is `by` places further in the view. */
  stepInView(by) {
    this.searchView();
    const { places, lines } = this.total;
    if (lines > 0) {
      const below = places.findIndex((offset) => offset >= this.anchor);
      this.index = this.index === null ? Math.max(0, below) : (this.index + by + lines) % lines;
      this.select({ offset: places[this.index] });
    }
  }

  // --- The counter ---

  /** Writes the counter; it keeps its text until the number of matches is known. */
  show() {
    if (this.field.query.text !== "" && !this.mistake && this.total === null) {
      return;
    }
    const words = this.mistake || describePosition(this.total, this.index);
    const where = this.isLocal && words ? " in the lines shown" : "";
    this.field.write(this.field.query.text === "" ? "" : words + where, this.mistake !== "");
  }

  // --- Only the matching lines ---

  toggleFilter() {
    if (this.filter.isOpen) {
      this.leaveFilter();
    } else {
      this.setFiltering(true);
      this.attempt(() => this.refilter());
    }
  }

  setFiltering(on) {
    this.find("filter-lines").setAttribute("aria-pressed", String(on));
    if (on) {
      this.filter.open(this.view.digits);
    } else {
      this.filter.close();
    }
  }

  /** Fills the filter again, for another query. */
  async refilter() {
    if (this.filter.isOpen) {
      const isAtEnd = this.view.following && !this.current;
      const offset = this.current?.offset ?? (isAtEnd ? null : this.topOffset);
      await this.filter.fill(this.matches, offset);
    }
  }

  /** Shows all lines again: where the user was, or at an offset. */
  async leaveFilter(offset = null) {
    this.setFiltering(false);
    this.view.element.focus();
    if (offset !== null) {
      this.anchor = offset;
      await this.reveal(offset);
    }
    this.drawHighlights();
  }
}
