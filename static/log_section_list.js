/* The sections of a log above its lines: their number and how long they took, a bar with a part for
   each, and a list that opens. A click goes to the section. */

import { listStep, setHtml, stepFrom } from "./dom.js";
import { escapeHtml, formatCount, isEnded } from "./format.js";
import { formatSectionTime } from "./insight_words.js";

const LEAST_SHARE = 0.004; // of the time, for a part in the bar

export class LogSectionList {
  /** `find(name)` returns one of the log pane's nodes by class. */
  constructor({ find, sections, folds }) {
    this.find = find;
    this.sections = sections;
    this.folds = folds;
    find("section-list").addEventListener("click", (event) => this.onClick(event));
    find("section-list").addEventListener("keydown", (event) => this.onKey(event));
    find("section-bar").addEventListener("click", (event) => this.onClick(event));
    find("fold-all").addEventListener("click", () => folds.foldAll(!sections.hasFolded));
    find("section-menu").addEventListener("toggle", () => this.onToggle());
    this.reset();
  }

  reset() {
    this.find("sections").hidden = true;
    this.find("section-menu").hidePopover();
    this.listed = [];
  }

  draw(explanation, job) {
    if (explanation.sections) {
      this.sections.isLive = !isEnded(job);
      this.sections.learn(explanation.sections);
      this.listed = explanation.sections.sections;
      this.folds.apply();
    }
    this.redraw();
  }

  /** Called every second, since the time of a running section grows. */
  redraw() {
    const { listed, sections, find } = this;
    find("sections").hidden = listed.length === 0;
    if (listed.length === 0) {
      return;
    }
    const times = listed.map((section) => this.folds.durationOf(section) ?? 0);
    const total = times.reduce((sum, time) => sum + time, 0);
    const noun = sections.count === 1 ? "section" : "sections";
    const number = `${formatCount(sections.count)}${sections.isPartial ? "+" : ""} ${noun}`;
    const time = formatSectionTime(total);
    find("section-count").textContent = number + (time && ` · ${time}`);
    find("section-bar").hidden = !time;
    find("fold-all").textContent = sections.hasFolded ? "Expand all" : "Collapse all";
    setHtml(find("section-bar"), barHtml(listed, times, total));
    this.drawList(times);
  }

  /** Draws the list if it is open, and keeps the focus on the same section. */
  drawList(times = this.listed.map((section) => this.folds.durationOf(section) ?? 0)) {
    if (this.find("section-menu").matches(":popover-open")) {
      const longest = Math.max(1, ...times);
      const current = this.sections.indexAt(this.folds.visibleOffset);
      const rows = this.listed.map((section, index) =>
        rowHtml(section, { time: times[index], longest, isCurrent: index === current }),
      );
      const focused = this.buttons.findIndex((button) => button.matches(":focus"));
      const more = this.sections.count - this.listed.length;
      const rest = more > 0 ? `<li class="more">and ${formatCount(more)} more</li>` : "";
      setHtml(this.find("section-list"), rows.join("") + rest);
      this.buttons[focused]?.focus({ preventScroll: true });
    }
  }

  get buttons() {
    return [...this.find("section-list").querySelectorAll("button")];
  }

  onToggle() {
    this.drawList();
    this.find("section-list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  onClick({ target }) {
    const { offset } = target.closest("[data-section]")?.dataset ?? {};
    if (offset !== undefined) {
      this.find("section-menu").hidePopover();
      this.folds.goTo(Number(offset), true);
    }
  }

  onKey(event) {
    const step = listStep(event);
    const { buttons } = this;
    const index = buttons.indexOf(event.target.closest("button"));
    if (step !== undefined && index >= 0) {
      event.preventDefault();
      stepFrom(buttons, index, step).focus();
    }
  }
}

/** A part for each section that took long enough to be seen. */
function barHtml(sections, times, total) {
  const parts = sections.map(({ name, offset, errors }, index) => {
    const share = total > 0 ? times[index] / total : 0;
    if (share < LEAST_SHARE) {
      return "";
    }
    const title = escapeHtml([name, formatSectionTime(times[index])].filter(Boolean).join(", "));
    const kind = errors > 0 ? ' class="bad"' : "";
    const width = (100 * share).toFixed(2);
    return `<u${kind} data-section data-offset="${Number(offset)}" style="width:${width}%" title="${title}"></u>`;
  });
  return parts.join("");
}

function rowHtml({ name, offset, errors }, { time, longest, isCurrent }) {
  const width = ((100 * time) / longest).toFixed(1);
  const noun = errors === 1 ? "error" : "errors";
  const current = isCurrent ? ' aria-current="true"' : "";
  const bad = errors > 0 ? `<b>${formatCount(errors)} ${noun}</b>` : "";
  return (
    `<li><button type="button" data-section data-offset="${Number(offset)}"${current}>` +
    `<span class="section-name">${escapeHtml(name)}</span>` +
    `<span class="section-errors">${bad}</span>` +
    `<span class="section-time"><i style="width:${width}%"></i></span>` +
    `<span class="section-length">${formatSectionTime(time)}</span></button></li>`
  );
}
