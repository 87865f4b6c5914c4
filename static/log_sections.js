/* The sections of the log that is shown, and which of them are folded. It knows those that the API
   lists and those whose headers were in the view, and draws nothing. Pure.

   A section is folded unless it is the last one, has an error, was opened by the job, or contains a
   place that the reader looks at or has gone to. What the visitor chooses wins. */

const MOST_SEEN = 20_000; // sections that only the view knows
const MOST_JOBS = 20; // whose choices are remembered
const MOST_PLACES = 200; // that stay unfolded

export class LogSections {
  constructor() {
    this.choicesOf = new Map(); // job ID -> what the visitor has chosen
    this.setJob("");
  }

  /** Switches to another log. What the visitor chose for it before is remembered. */
  setJob(jobId) {
    const choices = this.choicesOf.get(jobId) ?? makeChoices();
    this.choicesOf.delete(jobId);
    this.choicesOf.set(jobId, choices);
    if (this.choicesOf.size > MOST_JOBS) {
      this.choicesOf.delete(this.choicesOf.keys().next().value);
    }
    this.choices = choices;
    this.isLive = false; // is the job still writing?
    this.start = 0; // offset of the first byte of the log that is kept
    this.all = []; // sections in order: those of the API, and { offset, kind, end, errors } of others
    this.count = 0; // of the whole log
    this.isPartial = true; // are the API's list or its numbers of errors incomplete?
  }

  get isEmpty() {
    return this.all.length === 0;
  }

  // --- Which sections there are ---

  /** Takes the API's list of sections, which replaces what the view has seen up to its end. */
  learn({ sections, count, partial }) {
    const listed = sections.map((section) => this.list(section));
    const known = listed.at(-1)?.offset ?? -1;
    const isWhole = !partial && !this.isLive && count <= listed.length;
    const seen = isWhole ? [] : this.all.filter((each) => !each.isListed && each.offset > known);
    this.all = [...listed, ...seen];
    this.count = Math.max(count, this.all.length);
    this.isPartial = partial;
  }

  /** A section of the API's list, with what the view has seen of it. */
  list(section) {
    const { is_open: isOpen, errors } = section;
    const known = this.all[this.indexAt(section.offset)];
    const seen = known?.offset === section.offset ? known : {};
    const most = Math.max(errors, seen.errors ?? 0);
    return { ...section, isOpen, errors: most, isListed: true, isSeenWhole: seen.isSeenWhole };
  }

  /** Takes a header that is in the view. `kind` is "section", "group" or, for one that the job
      opens, "opened". */
  see(offset, kind) {
    const index = this.indexAt(offset);
    if (this.all[index]?.offset === offset) {
      return;
    }
    const section = {
      offset,
      kind,
      end: null,
      isOpen: kind === "opened",
      errors: 0,
      seconds: null,
    };
    this.all.splice(index + 1, 0, section);
    this.count = Math.max(this.count, this.all.length);
    if (this.all.length > MOST_SEEN) {
      const oldest = this.all.findIndex((each) => !each.isListed);
      this.all.splice(oldest, 1);
    }
  }

  /** Takes the line in the view that ends a group. `end` is the offset after it. */
  seeEnd(offset, end) {
    const section = this.all[this.indexAt(offset - 1)];
    if (section && !section.isListed && section.kind === "group") {
      section.end = end;
    }
  }

  /** Takes the errors of the lines in the view that are before a boundary. `isWhole`: are those all
      lines of the section before it? */
  seeErrors(offset, errors, isWhole) {
    const section = this.all[this.indexAt(offset - 1)];
    if (section) {
      section.isSeenWhole ||= isWhole;
      section.errors = Math.max(section.errors, errors);
    }
  }

  /** Takes the line in the view with which a job opens the section before it. */
  seeOpened(offset) {
    const section = this.all[this.indexAt(offset - 1)];
    if (section) {
      section.isOpen = true;
    }
  }

  /** The index of the last section that begins at an offset or before it; -1 if none does. */
  indexAt(offset) {
    let low = -1;
    let high = this.all.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.all[middle].offset <= offset) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /** The section that contains the byte at an offset; undefined if none does. */
  sectionAt(offset) {
    const section = this.all[this.indexAt(offset)];
    return section && offset < (section.end ?? Infinity) ? section : undefined;
  }

  /** Where a section ends, as far as is known; Infinity if it is the last one and has not ended. */
  endOf(section) {
    const next = this.all[this.indexAt(section.offset) + 1];
    return Math.min(section.end ?? Infinity, next?.offset ?? Infinity);
  }

  // --- Which are folded ---

  isFolded(section) {
    if (section.offset < this.start) {
      return false; // its header was deleted
    }
    const { folded, everything } = this.choices;
    const chosen = folded.get(section.offset);
    if (chosen !== undefined) {
      return chosen;
    }
    if (this.isPlace(section)) {
      return false;
    }
    if (everything && section.offset <= everything.until) {
      return everything.isFolded;
    }
    return !section.isOpen && section.errors === 0 && this.isSettled(section);
  }

  /** Is it certain where a section ends, and how many errors it has? */
  isSettled(section) {
    const isLast = this.all.at(-1) === section;
    const isCounted = section.isListed && section.end !== null && !this.isPartial;
    return !isLast && (section.isSeenWhole || isCounted);
  }

  isPlace(section) {
    const end = this.endOf(section);
    return this.choices.places.some((place) => place >= section.offset && place < end);
  }

  /** Is the line at an offset hidden, since its section is folded? A header is not. */
  isHidden(offset) {
    const section = offset === null ? undefined : this.sectionAt(offset);
    return section !== undefined && offset > section.offset && this.isFolded(section);
  }

  // --- What the visitor chooses ---

  fold(offset, isFolded) {
    this.choices.folded.set(offset, isFolded);
    if (isFolded) {
      const section = this.sectionAt(offset);
      const isElsewhere = (place) => section && this.sectionAt(place) !== section;
      this.choices.places = this.choices.places.filter(isElsewhere);
    }
  }

  /** Unfolds the section at an offset, now or once it is known. Returns true if it was folded. */
  unfoldAt(offset) {
    const section = this.sectionAt(offset);
    const wasFolded = section !== undefined && this.isFolded(section);
    if (wasFolded) {
      this.choices.folded.delete(section.offset);
    }
    if (wasFolded || !section?.isListed) {
      this.choices.places = [...this.choices.places.slice(1 - MOST_PLACES), offset];
    }
    return wasFolded;
  }

  /** Keeps the section at an offset unfolded, unless the visitor has folded it. Returns true if it
      would have been folded. */
  keepAt(offset) {
    const { folded, everything } = this.choices;
    const section = this.sectionAt(offset);
    const isChosen = folded.has(section?.offset) || offset <= (everything?.until ?? -1);
    return !isChosen && this.unfoldAt(offset);
  }

  /** Folds or unfolds all sections up to an offset. */
  foldAll(isFolded, until) {
    this.choices.folded.clear();
    this.choices.places = [];
    this.choices.everything = { isFolded, until };
  }

  get hasFolded() {
    return this.all.some((section) => this.isFolded(section));
  }
}

function makeChoices() {
  return {
    folded: new Map(), // offset of a header -> is that section folded?
    places: [], // offsets of lines that stay visible
    everything: null, // { isFolded, until }: for all sections up to an offset
  };
}
