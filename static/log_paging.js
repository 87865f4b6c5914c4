/* Loads more lines above or below those in the view, when the reader has scrolled there. Of a folded
   section, however long it is, it loads little more than the header. */

import { lastBefore, MOST_LINES, popUnfinished } from "./log_lines.js";
import { PART_BYTES } from "./log_stream.js";

const SKIPPED = 65_536; // bytes of a folded section: if more would be loaded, they are skipped
const HEADER_BYTES = 8192; // to fetch for the header of a section

export class LogPaging {
  /** `source` is the LogSource whose view gets the lines; `sections` knows which are folded. */
  constructor(source, sections) {
    this.source = source;
    this.view = source.view;
    this.sections = sections;
    this.reset();
  }

  /** The log is forgotten. */
  reset() {
    this.isBusy = false; // is a request for more lines above or below under way?
  }

  // --- Above ---

  async loadEarlier() {
    const { source, view } = this;
    const { offset } = view.dropUnplacedHead();
    if (this.isBusy || !source.isLoaded || !offset || offset <= source.start) {
      return;
    }
    this.isBusy = true;
    const section = this.sections.sectionAt(offset - 1);
    const isSkipped = this.isSkipped(section, offset);
    const lines = await (isSkipped
      ? this.fetchHeader(section, offset)
      : this.fetchAbove(section, offset));
    this.isBusy = false;
    if (lines?.length > 0 && view.first.offset === offset) {
      view.prepend(lines);
    }
  }

  /** Is a section folded and so long that its lines up to `end` are not loaded? */
  isSkipped(section, end) {
    return section && end - section.offset > SKIPPED && this.sections.isFolded(section);
  }

  /** The lines above an offset, which `section` ends at. Hidden lines whose header is further above are
      left out. */
  async fetchAbove(section, offset) {
    const { source } = this;
    const from = Math.max(source.start, offset - PART_BYTES);
    const part = await source.fetch({ offset: from, limit_bytes: offset - from });
    if (!part) {
      return undefined;
    }
    const lines = source.split(part, part.line);
    const whole = part.offset > part.start && lines.length > 1 ? lines.slice(1) : lines;
    const last = whole.slice(-MOST_LINES);
    const shown = last.findIndex((line) => !this.sections.isHidden(line.offset));
    // If all are hidden, they are of one section, whose header is further above.
    return shown < 0 && last.length > 0
      ? this.fetchHeader(section, offset)
      : last.slice(Math.max(0, shown));
  }

  /** Only the header of a section, for the view to show it instead of the lines up to `end`. */
  async fetchHeader({ offset, line: number = null }, end) {
    const part = await this.source.fetch({ offset, limit_bytes: HEADER_BYTES });
    const [line] = part ? this.source.split(part, part.line ?? number) : [];
    return line?.offset === offset ? [{ ...line, end, covers: true }] : undefined;
  }

  // --- Below ---

  /** Loads more lines when the reader has scrolled down to the last line in the view. */
  async loadLater() {
    const { source } = this;
    if (this.isBusy || source.mode !== "reading") {
      return;
    }
    this.isBusy = true;
    const { next } = source;
    const header = await this.fetchNextHeader(next);
    const skip = this.findSkip(next);
    const wanted = { offset: skip?.to ?? next, limit_bytes: PART_BYTES };
    const part = header ? null : await source.fetch(wanted);
    const isTaken = (header || part) && source.mode === "reading" && source.next === next;
    if (isTaken && header) {
      this.view.extend(header, null);
      this.view.stopTaking(); // which calls stopFollowing
    } else if (isTaken) {
      this.takeLater(part, skip);
    }
    this.isBusy = false;
    if (isTaken) {
      source.handlers.shown(); // which may ask for more lines
    }
  }

  /** The header at an offset if a long, folded section begins there. The last section is loaded,
      because new output is added to it. */
  async fetchNextHeader(offset) {
    const section = this.sections.sectionAt(offset);
    if (section?.offset !== offset) {
      return undefined;
    }
    const end = this.sections.endOf(section);
    const isSkipped = end < this.source.size && this.isSkipped(section, end);
    return isSkipped ? this.fetchHeader(section, end) : undefined;
  }

  /** Where to continue if the lines at an offset are those of a folded section: at its end, or at a
      line near the end of the log. */
  findSkip(next) {
    const { sections, source, view } = this;
    const section = sections.sectionAt(next);
    if (!section || section.offset >= next || !sections.isFolded(section)) {
      return null;
    }
    const end = sections.endOf(section);
    const to = Math.min(end, source.size - SKIPPED);
    const header = view.nodeAt(section.offset);
    return header && to - next > SKIPPED ? { header, to, isAtEnd: to === end } : null;
  }

  takeLater(part, skip) {
    const { source, view } = this;
    const number = skip ? this.numberAt(part) : (source.nextNumber ?? part.line);
    const lines = source.split(part, number);
    if (skip) {
      if (!skip.isAtEnd) {
        lines.shift(); // it began before the part
      }
      view.cover(skip.header, lines[0]?.offset ?? part.next);
    }
    const shown = lines.slice(0, MOST_LINES);
    const isEnd = part.next >= part.size && shown.length === lines.length;
    const unfinished = popUnfinished(shown, isEnd);
    view.extend(shown, isEnd ? unfinished : null);
    if (isEnd) {
      source.resetNewLines();
      const last = shown.at(-1) ?? { number: lastBefore(source.nextNumber) };
      source.followFrom(last, unfinished, part);
    } else {
      view.stopTaking(); // which calls stopFollowing
    }
  }

  numberAt({ line, offset }) {
    const section = this.sections.sectionAt(offset);
    return line ?? (section?.offset === offset ? (section.line ?? null) : null);
  }
}
