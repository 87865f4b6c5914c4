/* The list of jobs: filters, rows and, while no log is open, the timeline. Each row is a link. A
   row is changed in place, so that focus and scroll position are kept. */

import { NO_FILTERS } from "./address.js";
import { BulkActions } from "./bulk_actions.js";
import { closeWhenRemoved, copyText, listStep, opensElsewhere, setHtml, stepFrom } from "./dom.js";
import { escapeHtml, formatCount, formatRoughly, formatStatus, statusIcon } from "./format.js";
import { foldRowHtml, foldRows, jobRowHtml, jobTooltip, usualDurations } from "./job_rows.js";
import { LogSearch } from "./log_search.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { addShortcut } from "./shortcuts.js";
import { layOutTimeline, timelineHtml } from "./timeline.js";

const ALWAYS_SHOWN = ["running", "failed"]; // these filters come first, even if no job matches
const LEAST_WIDTH = 240; // pixels
const WIDTH = 360;
const EXAMPLES = [
  "for i in 1 2 3 4 5; do echo step $i; sleep 1; done",
  "df -h",
  "python3 -m compileall -q /usr/lib/python3; echo done",
];

const KEYS = [
  "<kbd>j</kbd> <kbd>k</kbd> move",
  "<kbd>Enter</kbd> opens",
  "<kbd>c</kbd> runs a job",
  "<kbd>/</kbd> searches",
  "<kbd>?</kbd> shows all keys",
];
const GUIDE =
  '<p class="faint">Choose a job to see its log.</p>' +
  `<p class="faint keys">${KEYS.map((key) => `<span>${key}</span>`).join("")}</p>`;

class JobList {
  constructor(root) {
    this.root = root;
    this.unfolded = new Set();
    this.rows = this.find("rows");
    this.current = ""; // key of the row that Tab reaches
    this.logSearch = new LogSearch(
      (name) => this.find(name),
      () => this.drawNothing(),
    );
    this.handlers = {
      address: () => this.onAddress(),
      jobs: () => this.onJobs(),
      status: () => this.draw(),
      bells: () => this.draw(),
      tick: () => this.draw(),
    };
    this.bulkActions = new BulkActions((name) => this.find(name));
    page.listen(this.handlers);
    this.holdWhilePressed();
    root.addEventListener("click", (event) => this.onClick(event));
    this.rows.addEventListener("keydown", (event) => this.onRowKey(event));
    this.rows.addEventListener("focusin", (event) => this.onFocus(event));
    this.find("queue").addEventListener("change", (event) => {
      page.go({ queue: event.target.value, before: "" });
    });
    this.find("more-filters").addEventListener("click", () => this.scrollFilters());
    this.setUpDivider();
    this.addShortcuts();
    this.setView();
    this.logSearch.onAddress();
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  close() {
    page.unlisten(this.handlers);
    removeEventListener("pointerup", this.release);
    removeEventListener("pointercancel", this.release);
  }

  /** Stops drawing while a pointer is pressed: a browser drops the click if its target is
      replaced. */
  holdWhilePressed() {
    this.isPressed = false;
    this.release = () => {
      setTimeout(() => {
        this.isPressed = false;
        this.draw();
      }, 0); // after the click
    };
    this.root.addEventListener("pointerdown", () => {
      this.isPressed = true;
    });
    addEventListener("pointerup", this.release);
    addEventListener("pointercancel", this.release);
  }

  addShortcuts() {
    addShortcut("j", "next job", () => this.moveFocus(1), "List");
    addShortcut("k", "previous job", () => this.moveFocus(-1), "List");
    const toggleList = () => document.documentElement.classList.toggle("tailboard-list-hidden");
    addShortcut("z", "hide or show the list", toggleList, "List");
  }

  // --- Data from the server, and navigation ---

  update(component) {
    this.component = component;
    page.receiveList(component.data);
  }

  onJobs() {
    this.find("job-list").classList.toggle("stale", page.asksForOtherList);
    this.draw();
    this.find("job-list").inert = false; // before this, a click would have been lost
  }

  onAddress() {
    this.setView();
    this.logSearch.onAddress();
    this.draw();
    if (this.component && page.asksForOtherList) {
      this.find("job-list").classList.add("stale");
      this.component.setStateValue("filters", page.filters);
    }
  }

  /** Chooses between the list and the log if the window has room for only one of them. */
  setView() {
    document.documentElement.classList.toggle("tailboard-log-open", Boolean(page.address.job));
  }

  // --- Drawing ---

  draw() {
    if (!page.listed || !page.hasStatuses || this.isPressed) {
      return; // the statuses come with the header, which may load later
    }
    this.drawFilters();
    this.bulkActions.draw();
    this.logSearch.draw();
    this.drawRows();
    this.drawNothing();
    this.drawTimeline();
    this.drawUpdated();
    setHtml(this.find("pages"), this.logSearch.isOpen ? "" : this.pagesHtml());
    this.rows.hidden = this.logSearch.isOpen;
  }

  linkHtml(change, inner, attributes = "") {
    return `<a href="${escapeHtml(page.link(change))}" ${attributes}>${inner}</a>`;
  }

  drawFilters() {
    const chosen = page.address.status ?? "";
    const all = Object.values(page.counts).reduce((sum, count) => sum + count, 0);
    const links = [this.filterHtml("", "all", all, chosen)];
    for (const status of new Set([...ALWAYS_SHOWN, ...Object.keys(page.statuses)])) {
      const count = page.counts[status] ?? 0;
      if (count > 0 || status === chosen || ALWAYS_SHOWN.includes(status)) {
        const label = `${statusIcon(status, page.statuses)}${formatStatus(status)}`;
        links.push(this.filterHtml(status, label.replace(/<span.*<\/span>/, ""), count, chosen));
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

  filterHtml(status, label, count, chosen) {
    const shown = `${formatCount(count)}${page.countsAreMore && count > 0 ? "+" : ""}`;
    const current = `aria-current="${status === chosen}" data-go="filter"`;
    return this.linkHtml({ status, before: "" }, `${label} <b>${shown}</b>`, current);
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

  drawRows() {
    const rows = foldRows(page.jobs, this.unfolded);
    const usual = usualDurations(page.jobs);
    const old = new Map([...this.rows.children].map((item) => [item.dataset.key, item]));
    rows.forEach((row, index) => {
      const item = old.get(row.key) ?? makeItem(row.key);
      old.delete(row.key);
      if (this.rows.children[index] !== item) {
        this.rows.insertBefore(item, this.rows.children[index] ?? null);
      }
      this.drawRow(item.firstChild, row, usual, index === rows.length - 1);
    });
    for (const item of old.values()) {
      item.remove();
    }
    this.setTabStop();
  }

  drawRow(link, row, usual, last) {
    const shownJob = page.address.job;
    const [newest] = row.jobs ?? [row.job];
    const context = {
      statuses: page.statuses,
      usual: usual.get(newest.title),
      now: page.now,
      paused: page.pausedQueues,
    };
    link.classList.toggle("inside", Boolean(row.inside));
    if (row.jobs) {
      const holdsShown = !row.open && row.jobs.some((job) => job.id === shownJob);
      link.href = page.link({ job: newest.id, at: "" });
      link.dataset.go = "fold";
      link.ariaExpanded = String(row.open);
      link.ariaCurrent = String(holdsShown);
      setHtml(link, foldRowHtml(row, { ...context, more: last && Boolean(page.next) }));
      return;
    }
    const job = page.local.get(row.job.id) ?? row.job;
    link.href = page.link({ job: job.id, at: "" });
    link.dataset.go = "job";
    link.ariaCurrent = String(job.id === shownJob);
    link.title = jobTooltip(job, page.now);
    setHtml(link, jobRowHtml(job, { ...context, watched: page.bells.has(job.id) }));
  }

  pagesHtml() {
    const newer = page.address.before
      ? this.linkHtml({ before: "" }, "Newest jobs", 'data-go="filter"')
      : "";
    const older = page.next
      ? this.linkHtml({ before: page.next }, "Older jobs", 'data-go="filter"')
      : "";
    return newer + older;
  }

  drawUpdated() {
    const foot = this.find("updated");
    const seconds = formatRoughly(Date.now() - page.refreshedAt);
    const interval = page.status.interval === "off" ? ", auto-refresh is off" : "";
    foot.textContent = `updated ${seconds} ago${interval}`;
    foot.classList.toggle("late", page.isStale);
  }

  drawNothing() {
    const node = this.find("nothing");
    node.hidden = page.jobs.length > 0 || this.logSearch.isOpen;
    if (!node.hidden) {
      setHtml(node, this.nothingHtml());
    }
  }

  nothingHtml() {
    if (page.isFiltered) {
      const where = page.next ? " among the newest jobs" : "";
      return `<p>No jobs match${where}.</p><p>${this.linkHtml(NO_FILTERS, "Clear filters", 'data-go="filter" class="button"')}</p>`;
    }
    const examples = EXAMPLES.map(
      (command) =>
        `<li><button type="button" data-go="example"><code>${escapeHtml(command)}</code></button></li>`,
    );
    return `<p>No jobs yet. Try one of these:</p><ul>${examples.join("")}</ul>`;
  }

  drawTimeline() {
    const overview = this.find("overview");
    overview.hidden = Boolean(page.address.job);
    if (overview.hidden) {
      return;
    }
    const layout = layOutTimeline(page.jobs, page.now);
    const link = (job, attributes) =>
      `<a href="${escapeHtml(page.link({ job: job.id, at: "" }))}" data-go="job" ${attributes}>`;
    const html = layout ? timelineHtml(layout, page.statuses, page.now, link) : "";
    setHtml(this.find("timeline"), html);
    setHtml(this.find("guide"), this.guideHtml());
  }

  guideHtml() {
    const { workers, counts, problem } = page.status;
    const queued = counts.queued ?? 0;
    if (workers.length === 0 && !problem) {
      const waiting = queued > 0 ? `Queued jobs: ${formatCount(queued)}. ` : "";
      return (
        `<p>${waiting}No worker is running. Start one:</p><p><code>python worker.py</code> ` +
        '<button type="button" data-go="copy-worker">Copy</button></p>'
      );
    }
    return page.jobs.length > 0 ? GUIDE : "";
  }

  // --- Clicks and keys ---

  onClick(event) {
    this.isPressed = false; // it is drawn in this frame
    const target = event.target.closest("[data-go]");
    if (!target || opensElsewhere(event)) {
      return;
    }
    event.preventDefault();
    const act = {
      job: () => page.followLink(target),
      filter: () => page.followLink(target),
      fold: () => this.toggleFold(target.parentNode.dataset.key),
      example: () => page.editForm(target.textContent),
      "copy-worker": () => copyWithAnswer(target, "python worker.py"),
    };
    act[target.dataset.go]();
  }

  toggleFold(key) {
    if (!this.unfolded.delete(key)) {
      this.unfolded.add(key);
    }
    this.draw();
  }

  get links() {
    const shown = this.logSearch.isOpen ? this.find("results") : this.rows;
    return [...shown.querySelectorAll("a")];
  }

  onRowKey(event) {
    const step = listStep(event);
    if (step !== undefined) {
      event.preventDefault();
      this.moveFocus(step);
    }
  }

  moveFocus(step) {
    const { links } = this;
    if (links.length === 0) {
      return;
    }
    const focused = links.indexOf(this.root.getRootNode().activeElement);
    const next = focused >= 0 ? stepFrom(links, focused, step) : links[this.tabStop(links)];
    next.focus();
  }

  onFocus(event) {
    this.current = event.target.closest("li").dataset.key;
    this.setTabStop();
  }

  /** Makes the list one Tab stop: the row last focused, else the job shown, else the first row. */
  setTabStop() {
    const links = [...this.rows.querySelectorAll("a")];
    const stop = this.tabStop(links);
    links.forEach((link, index) => {
      link.tabIndex = index === stop ? 0 : -1;
    });
  }

  tabStop(links) {
    const focused = links.findIndex((link) => link.parentNode.dataset.key === this.current);
    const shown = links.findIndex((link) => link.ariaCurrent === "true");
    return Math.max(0, focused >= 0 ? focused : shown);
  }

  // --- The divider ---

  setUpDivider() {
    const divider = this.find("divider");
    this.setWidth(readSetting("list-width", WIDTH));
    divider.addEventListener("pointerdown", (event) => {
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) {
        this.setWidth(event.clientX);
      }
    });
    divider.addEventListener("pointerup", () => writeSetting("list-width", this.width));
    divider.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -20, ArrowRight: 20 };
      if (event.key in steps) {
        this.setWidth(this.width + steps[event.key]);
        writeSetting("list-width", this.width);
      }
    });
  }

  setWidth(wanted) {
    const most = Math.max(LEAST_WIDTH, innerWidth / 2);
    this.width = Math.round(Math.min(most, Math.max(LEAST_WIDTH, wanted)));
    const divider = this.find("divider");
    divider.ariaValueNow = String(this.width);
    divider.ariaValueMin = String(LEAST_WIDTH);
    divider.ariaValueMax = String(Math.round(most));
    document.documentElement.style.setProperty("--tailboard-list-width", `${this.width}px`);
  }
}

function makeItem(key) {
  const item = document.createElement("li");
  item.dataset.key = key;
  item.append(document.createElement("a"));
  return item;
}

async function copyWithAnswer(button, text) {
  const done = await copyText(text);
  button.textContent = done ? "Copied" : "Cannot copy here";
}

export default function mountJobList(component) {
  const root = component.parentElement;
  root.jobList ??= new JobList(root);
  root.jobList.update(component);
  return closeWhenRemoved(root, root.jobList);
}
