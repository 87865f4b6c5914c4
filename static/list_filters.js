/* The filters above the list: one link per status, with the number of jobs, and the menu of
   queues. */

import { setHtml } from "./dom.js";
import { escapeHtml, formatCount, formatStatus, statusIcon } from "./format.js";
import { sumOf } from "./listed_jobs.js";
import { page } from "./page_state.js";
import { queueNames } from "./queue_words.js";

const ALWAYS_SHOWN = ["running", "failed"]; // these filters come first, even if no job matches

export class ListFilters {
  /** `find(name)` returns a node of the list by its class. */
  constructor(find) {
    this.find = find;
    find("queue").addEventListener("change", (event) => {
      page.go({ queue: event.target.value, before: "" });
    });
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(find("filters"));
  }

  close() {
    this.resized.disconnect();
  }

  draw() {
    const chosen = page.filters.status;
    const links = [filterHtml("", sumOf(page.counts), chosen)];
    for (const status of new Set([...ALWAYS_SHOWN, ...Object.keys(page.statuses)])) {
      const count = page.counts[status] ?? 0;
      if (count > 0 || status === chosen || ALWAYS_SHOWN.includes(status)) {
        links.push(filterHtml(status, count, chosen));
      }
    }
    const html = links.join("") + mineHtml();
    if (this.find("filters").shownHtml !== html) {
      setHtml(this.find("filters"), html);
      this.fit();
    }
    this.drawQueues();
  }

  /** Shows the names of the statuses if all filters then fit into one line. Otherwise the icons and
      numbers are enough, and the names appear as tooltips. */
  fit() {
    const bar = this.find("filters");
    bar.classList.remove("compact");
    const isOneLine = bar.lastElementChild?.offsetTop === bar.firstElementChild?.offsetTop;
    bar.classList.toggle("compact", !isOneLine);
  }

  drawQueues() {
    const served = (page.status.workers ?? []).flatMap((worker) => queueNames(worker.queues));
    const listed = page.jobs.map((job) => job.queue);
    const queues = new Set([...listed, ...served, ...page.pausedQueues]);
    const chosen = page.address.queue ?? "";
    queues.add(chosen).delete("");
    const options = [...queues].sort().map((queue) => {
      const selected = queue === chosen ? "selected" : "";
      const label = page.pausedQueues.has(queue) ? `${queue} (paused)` : queue;
      return `<option value="${escapeHtml(queue)}" ${selected}>${escapeHtml(label)}</option>`;
    });
    const select = this.find("queue");
    select.hidden = queues.size < 2 && !chosen;
    setHtml(select, `<option value="">queue</option>${options.join("")}`);
  }
}

/** A link to the present list with other filters. */
export function filterLinkHtml(change, inner, attributes = "") {
  const href = escapeHtml(page.link(change));
  return `<a href="${href}" data-go="filter" ${attributes}>${inner}</a>`;
}

function filterHtml(status, count, chosen) {
  const isExact = page.hasHeard && ["all", status || "none"].includes(page.counted);
  const icon = status ? iconOnly(status) : "";
  const word = `<span class="word">${formatStatus(status || "all")}</span>`;
  const attributes =
    `aria-current="${status === chosen}" title="${formatStatus(status || "all jobs")}"` +
    (status ? "" : ' class="all"');
  const label = `${icon}${word} <b>${formatFound(count, isExact)}</b>`;
  return filterLinkHtml({ status, before: "" }, label, attributes);
}

/** The icon of a status without its name for screen readers, which the filter shows itself. */
function iconOnly(status) {
  return statusIcon(status, page.statuses).replace(/<span.*<\/span>/, "");
}

/** A number of jobs; a larger one is possible unless it is exact. */
function formatFound(count, isExact) {
  if (isExact) {
    return formatCount(count);
  }
  return count > 0 ? `${formatCount(count)}+` : "–";
}

/** The filter for the visitor's own jobs, if the API knows the visitor's name. */
function mineHtml() {
  const name = page.status.me?.name;
  if (!name) {
    return "";
  }
  const isChosen = page.filters.by === name;
  const attributes = `aria-current="${isChosen}" title="Jobs that ${escapeHtml(name)} started" class="mine"`;
  return filterLinkHtml({ by: isChosen ? "" : name, before: "" }, "mine", attributes);
}
