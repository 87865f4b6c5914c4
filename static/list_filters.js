/* The filters above the list: one link per status, with the number of jobs, and the menu of
   queues. */

import { setHtml } from "./dom.js";
import { escapeHtml, formatCount, formatStatus, statusIcon } from "./format.js";
import { page } from "./page_state.js";

const ALWAYS_SHOWN = ["running", "failed"]; // these filters come first, even if no job matches

export class ListFilters {
  /** `find(name)` returns a node of the list by its class. */
  constructor(find) {
    this.find = find;
    find("queue").addEventListener("change", (event) => {
      page.go({ queue: event.target.value, before: "" });
    });
    find("more-filters").addEventListener("click", () => this.scrollFilters());
  }

  draw() {
    const chosen = page.address.status ?? "";
    const all = Object.values(page.counts).reduce((sum, count) => sum + count, 0);
    const links = [filterHtml("", "all", all, chosen)];
    for (const status of new Set([...ALWAYS_SHOWN, ...Object.keys(page.statuses)])) {
      const count = page.counts[status] ?? 0;
      if (count > 0 || status === chosen || ALWAYS_SHOWN.includes(status)) {
        const label = `${statusIcon(status, page.statuses)}${formatStatus(status)}`;
        links.push(filterHtml(status, label.replace(/<span.*<\/span>/, ""), count, chosen));
      }
    }
    setHtml(this.find("filters"), links.join(""));
    this.drawQueues();
    const { scrollWidth, clientWidth } = this.find("filters");
    this.find("more-filters").hidden = scrollWidth <= clientWidth;
  }

  /** Scrolls to the filters that do not fit, and from the last back to the first. */
  scrollFilters() {
    const { scrollLeft, scrollWidth, clientWidth } = this.find("filters");
    const isAtEnd = scrollLeft + clientWidth >= scrollWidth - 1;
    this.find("filters").scrollTo({ left: isAtEnd ? 0 : scrollLeft + clientWidth / 2 });
  }

  drawQueues() {
    const served = (page.status.workers ?? []).flatMap((worker) => worker.queues);
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

/** A number of jobs; a larger one is possible unless it is exact. */
function formatFound(count, isExact) {
  if (isExact) {
    return formatCount(count);
  }
  return count > 0 ? `${formatCount(count)}+` : "–";
}

function filterHtml(status, label, count, chosen) {
  const shown = formatFound(count, [status, "all"].includes(page.counted) && page.hasHeard);
  const current = `aria-current="${status === chosen}"`;
  return filterLinkHtml({ status, before: "" }, `${label} <b>${shown}</b>`, current);
}
