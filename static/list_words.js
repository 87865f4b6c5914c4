/* What the list says below its rows and if it has none. */

import { NO_FILTERS } from "./address.js";
import { escapeHtml, formatCount, formatStatus } from "./format.js";
import { filterLinkHtml } from "./list_filters.js";
import { isSearch } from "./listed_jobs.js";
import { page } from "./page_state.js";

/** Links to newer and older jobs, and which part of all jobs the list shows. */
export function pagesHtml() {
  const newer = page.filters.before ? filterLinkHtml({ before: "" }, "Newest jobs") : "";
  const older = page.next ? filterLinkHtml({ before: page.next }, "Older jobs") : "";
  return newer + (newer || older ? `<span>${describePart()}</span>` : "") + older;
}

/** "201–400 of 5,023". Empty for a search, whose matches are not all known. */
function describePart() {
  if (page.asksForOtherList || isSearch(page.filters) || page.jobs.length === 0) {
    return "";
  }
  const first = formatCount(page.skipped + 1);
  const last = formatCount(page.skipped + page.jobs.length);
  return `${first}–${last} of ${formatCount(page.total)}`;
}

/** What the list shows instead of rows. */
export function nothingHtml() {
  if (!page.isFiltered) {
    return "<p>No jobs yet.</p>";
  }
  const text = page.next
    ? `No match in the newest ${formatCount(page.searched)} jobs.`
    : describeNothing(page.filters);
  const clear = filterLinkHtml(NO_FILTERS, "Clear filters", 'class="button"');
  return `<p>${escapeHtml(text)}</p><p>${clear}</p>`;
}

/** "No failed jobs in queue deploy match “train”." */
export function describeNothing({ status, queue, by, q }) {
  const kind = status ? `${formatStatus(status)} ` : "";
  const where = queue ? ` in queue ${queue}` : "";
  const whose = by ? ` of ${by}` : "";
  const jobs = `No ${kind}jobs${whose}${where}`;
  return q ? `${jobs} match “${q}”.` : `${jobs}.`;
}
