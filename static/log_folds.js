/* Folds the sections of the log in the view. log_sections.js knows which are folded; this hides their
   lines, draws their headers, and acts on clicks and keys. A log without sections stays as it is. */

import { copyText } from "./dom.js";
import { formatCount, isEnded } from "./format.js";
import { formatSectionTime } from "./insight_words.js";
import { describeLine } from "./log_line.js";
import { isOnNumber } from "./log_selection.js";
import { page } from "./page_state.js";
import { addShortcut } from "./shortcuts.js";

const MOST_HIDDEN = 500; // lines to keep in the view for sections that are unfolded again
const JUST_SHOWN = 2000; // milliseconds after which the reader may be reading what is shown
const MARGIN = 8; // pixels above a header to which the reader has gone

export class LogFolds {
  /** `linkTo(range)` is a link to lines; `changed()` is called when the visitor folds sections. */
  constructor({ view, source, sections, linkTo, changed }) {
    this.view = view;
    this.source = source;
    this.sections = sections;
    this.linkTo = linkTo;
    this.changed = changed;
    this.boundaries = view.element.getElementsByClassName("boundary"); // live
    this.hidden = view.element.getElementsByClassName("folded"); // live
    this.setJob();
    view.element.addEventListener("click", (event) => this.onClick(event));
    addShortcut("[", "previous section", () => this.step(-1), "Log");
    addShortcut("]", "next section", () => this.step(1), "Log");
  }

  setJob() {
    this.job = undefined; // what is known of it
    this.seen = new WeakSet(); // boundaries that `sections` knows
    this.shownAt = 0; // when lines were last loaded, milliseconds
    this.steppedTo = null; // the offset of a header
  }

  /** Other lines are shown. */
  onShown() {
    this.shownAt = Date.now();
  }

  /** Called when the lines in the view or what is known of the sections has changed. */
  apply() {
    if (this.boundaries.length === 0 && this.sections.isEmpty) {
      return;
    }
    this.sections.start = this.source.start;
    this.sections.isLive = this.job !== undefined && !isEnded(this.job);
    this.look();
    let changes = this.findChanges();
    if (!this.mayMoveLines && this.keepVisible(changes)) {
      changes = this.findChanges();
    }
    this.change(changes);
    this.drawHeaders();
    this.view.checkEnds(); // hidden lines leave room for others
  }

  /** Unfolds the section of a hidden line. */
  unfold(node) {
    this.sections.unfoldAt(describeLine(node).offset ?? 0);
    this.applyChoice();
  }

  /** Applies what the visitor has chosen, also to the lines that are visible. */
  applyChoice() {
    this.change(this.findChanges());
    this.apply();
    this.changed();
  }

  /** Takes the headers and the ends of groups that are new in the view. */
  look() {
    for (const node of this.boundaries) {
      const { offset, end } = describeLine(node);
      const { kind } = node.dataset;
      if (this.seen.has(node) || offset === null) {
        continue;
      }
      this.seen.add(node);
      if (kind === "open") {
        this.sections.seeOpened(offset);
      } else {
        this.sections.seeErrors(offset, ...countErrorsAbove(node));
      }
      if (kind === "endgroup") {
        this.sections.seeEnd(offset, end);
      } else if (kind !== "open") {
        this.sections.see(offset, kind);
      }
    }
  }

  /** Is it expected that the lines move: does the reader follow the end, where lines arrive or have
      just been loaded? */
  get mayMoveLines() {
    const isNew = this.sections.isLive || Date.now() - this.shownAt < JUST_SHOWN;
    return this.view.following && isNew;
  }

  // --- Hiding lines ---

  /** The lines to hide, or to show again. */
  findChanges() {
    const { sections } = this;
    const changes = [];
    let until = -1; // the end of the section that the lines belong to
    let header = 0; // its offset
    let isHidden = false;
    for (const node of this.view.lines) {
      const offset = Number(node.dataset.offset ?? header + 1);
      if (offset >= until || offset < header) {
        const section = sections.sectionAt(offset);
        header = section?.offset ?? offset;
        until = section ? sections.endOf(section) : offset + 1;
        isHidden = section !== undefined && sections.isFolded(section);
      }
      if (node.classList.contains("folded") !== (isHidden && offset > header)) {
        changes.push(node);
      }
    }
    return changes;
  }

  /** Keeps the sections unfolded whose lines the reader sees. Returns true if there are any. */
  keepVisible(changes) {
    const [top, bottom] = this.view.visible;
    const from = describeLine(top).offset ?? 0;
    const to = describeLine(bottom).offset ?? Infinity;
    const offsets = changes.filter((node) => !isFolded(node)).map((it) => describeLine(it).offset);
    const kept = offsets.filter((offset) => offset !== null && offset >= from && offset <= to);
    return kept.map((offset) => this.sections.keepAt(offset)).includes(true);
  }

  change(nodes) {
    if (nodes.length > 0) {
      this.view.keepPlace(() => {
        for (const node of nodes) {
          node.classList.toggle("folded");
        }
        if (this.view.following) {
          this.removeHidden(); // before the browser computes their styles, which is slow
        }
      });
    }
    this.removeHidden();
  }

  /** Removes hidden lines if there are many, so that the view has room for others. The last line stays,
      since the view continues after it. */
  removeHidden() {
    const { view } = this;
    if (this.hidden.length <= MOST_HIDDEN) {
      return;
    }
    while (view.count > 1 && isFolded(view.lines[0])) {
      view.lines[0].remove();
    }
    for (const header of [...view.element.querySelectorAll(".section[data-offset]")]) {
      const last = lastHiddenAfter(header);
      const next = last?.nextElementSibling ?? last;
      const { offset } = describeLine(next);
      if (last && offset !== null) {
        view.cover(header, offset);
      }
    }
  }

  // --- Headers ---

  drawHeaders() {
    for (const node of this.boundaries) {
      const button = node.querySelector(".fold-section");
      const section = button && this.sections.sectionAt(describeLine(node).offset);
      if (section) {
        const isShown = !describeLine(node).covers && !this.sections.isFolded(section);
        setText(node.querySelector(".section-facts"), this.describe(section));
        node.classList.toggle("failed-section", section.errors > 0);
        if (button.ariaExpanded !== String(isShown)) {
          button.ariaExpanded = String(isShown);
        }
      }
    }
  }

  /** "12 s · 2 errors". */
  describe(section) {
    const { errors } = section;
    const noun = errors === 1 ? "error" : "errors";
    const time = this.durationOf(section);
    const parts = [formatSectionTime(time), errors > 0 ? `${formatCount(errors)} ${noun}` : ""];
    return parts.filter(Boolean).join(" · ");
  }

  /** How long a section took so far, milliseconds; null if not known. */
  durationOf({ seconds, end, started_at: startedAt }) {
    if (typeof seconds === "number") {
      return seconds * 1000;
    }
    const isRunning = this.sections.isLive && end === null && startedAt;
    return isRunning ? page.now - Date.parse(startedAt) : null;
  }

  // --- Clicks ---

  async onClick(event) {
    const header = event.target.closest(".section[data-offset]");
    if (!header) {
      return;
    }
    const { offset } = describeLine(header);
    if (event.target.closest(".section-link")) {
      const isCopied = await copyText(this.linkTo({ from: offset, to: offset }));
      page.toast(isCopied ? "Link copied" : "The browser does not allow copying here.");
    } else if (event.target.closest(".fold-section") || isOnText(event)) {
      await this.toggle(header);
    }
  }

  async toggle(header) {
    const { offset, covers } = describeLine(header);
    const isFolding = header.querySelector(".fold-section").ariaExpanded === "true";
    this.sections.fold(offset, isFolding);
    if (covers && !isFolding) {
      await this.load(offset, header.offsetTop - this.view.element.scrollTop);
      this.changed();
    } else {
      this.view.keepLine(header, () => this.applyChoice());
    }
  }

  /** Folds or unfolds all sections. */
  async foldAll(isFolding) {
    const { sections, source, view } = this;
    sections.foldAll(isFolding, source.size);
    const { offset } = describeLine(view.visible[0]);
    if (!isFolding && view.element.querySelector("[data-covers]") && offset !== null) {
      await this.load(offset, 0);
    }
    this.applyChoice();
  }

  /** Loads the lines around a header and shows it at a height of the view. */
  async load(offset, height) {
    if (await this.source.loadAround(offset)) {
      const node = this.view.lineAt(offset);
      if (node) {
        this.view.scrollLineTo(node, height);
      }
      return node;
    }
    return undefined;
  }

  // --- Going to sections ---

  /** The offset of the first visible line; 0 if it is not known. */
  get visibleOffset() {
    return describeLine(this.view.visible[0]).offset ?? 0;
  }

  /** Shows the header of a section at the top of the view; `opens`: and its lines. */
  async goTo(offset, opens) {
    if (opens) {
      this.sections.unfoldAt(offset);
    }
    this.steppedTo = offset;
    let node = this.view.nodeAt(offset);
    if (!node || (opens && describeLine(node).covers)) {
      node = await this.load(offset, MARGIN);
    }
    if (node && this.steppedTo === offset) {
      this.applyChoice();
      this.view.scrollLineTo(node, MARGIN);
      node.querySelector(".fold-section")?.focus({ preventScroll: true });
    }
  }

  /** Goes to the next or the previous section. Returns false if the log has none. */
  step(by) {
    const { all, isEmpty } = this.sections;
    if (isEmpty || !page.address.job) {
      return false;
    }
    const [top, bottom] = this.view.visible;
    const from = this.steppedNow ?? describeLine(by > 0 ? top : bottom).offset ?? 0;
    const index = this.sections.indexAt(from);
    const isHeader = all[index]?.offset === from;
    const isOnIt = this.steppedNow !== null;
    const previous = isHeader && isOnIt ? index - 1 : index;
    const next = isHeader && !isOnIt ? index : index + 1;
    const section = all[by > 0 ? next : previous];
    if (section) {
      this.goTo(section.offset, false);
    }
    return undefined;
  }

  /** The offset of the header that the reader has gone to, if it is still visible. */
  get steppedNow() {
    const node = this.steppedTo === null ? null : this.view.nodeAt(this.steppedTo);
    return this.view.isVisible(node) ? this.steppedTo : null;
  }
}

/** How many error lines are in the view between a boundary and the header before it, and whether all
    lines between them are in the view. */
function countErrorsAbove(boundary) {
  let errors = 0;
  let node = boundary.previousElementSibling;
  while (node && !node.classList.contains("section")) {
    errors += node.classList.contains("error") ? 1 : 0;
    node = node.previousElementSibling;
  }
  return [errors, node !== null && !describeLine(node).covers];
}

function lastHiddenAfter(header) {
  let last = null;
  let node = header.nextElementSibling;
  while (node && isFolded(node)) {
    last = node;
    node = node.nextElementSibling;
  }
  return last;
}

function isFolded(node) {
  return node.classList.contains("folded");
}

/** Was the text of a line clicked, and not its number, a link or a button, and is none selected? */
function isOnText(event) {
  const isElsewhere = event.target.closest("a, button") || isOnNumber(event);
  return !isElsewhere && String(getSelection()) === "";
}

function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}
