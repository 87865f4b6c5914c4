/* The list of jobs. Each row is a link. A row is changed in place, so that focus and scroll position
   are kept. */

import { BulkActions } from "./bulk_actions.js";
import { markDrawn } from "./cold_frame.js";
import { closeWhenRemoved, listStep, opensElsewhere, setHtml, stepFrom } from "./dom.js";
import { formatRoughly } from "./format.js";
import { Home } from "./home.js";
import { HoveredUsage } from "./hovered_usage.js";
import { foldRowHtml, foldRows, jobRowHtml, jobTooltip } from "./job_rows.js";
import { ListDivider } from "./list_divider.js";
import { ListFilters } from "./list_filters.js";
import { ListKeys } from "./list_keys.js";
import { nothingHtml, pagesHtml } from "./list_words.js";
import { isSame } from "./listed_jobs.js";
import { LogSearch } from "./log_search.js";
import { OlderJobs } from "./older_jobs.js";
import { page } from "./page_state.js";
import { Press } from "./press.js";

const TYPING_PAUSE = 200; // milliseconds after the last key

class JobList {
  constructor(root) {
    this.root = root;
    this.unfolded = new Set();
    this.rows = this.find("rows");
    this.requested = null; // the filters that were sent last; null: those of the first address
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
      tick: () => this.onTick(),
    };
    this.usage = new HoveredUsage(this.rows, runningIn, () => this.draw());
    this.filters = new ListFilters((name) => this.find(name));
    this.older = new OlderJobs((name) => this.find(name));
    this.bulkActions = new BulkActions((name) => this.find(name));
    this.home = new Home(this.find("home"));
    this.divider = new ListDivider(this.find("divider"));
    page.listen(this.handlers);
    this.press = new Press(root, () => this.draw());
    root.addEventListener("click", (event) => this.onClick(event));
    this.rows.addEventListener("keydown", (event) => this.onRowKey(event));
    this.rows.addEventListener("focusin", (event) => this.onFocus(event));
    this.keys = new ListKeys(this);
    this.setView();
    this.logSearch.onAddress();
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  close() {
    page.unlisten(this.handlers);
    this.filters.close();
    this.home.close();
    this.press.close();
  }

  // --- Data from the server, and navigation ---

  update(component) {
    this.component = component;
    page.receiveList(component.data);
  }

  onJobs() {
    this.markStale();
    this.older.update();
    this.draw();
    markDrawn("list");
    this.find("job-list").inert = false; // before this, a click would have been lost
  }

  onTick() {
    this.draw();
    this.usage.update();
  }

  onAddress() {
    this.setView();
    this.logSearch.onAddress();
    this.older.update();
    this.draw();
    this.markStale();
    this.requestList();
  }

  /** Dims the rows while they are a guess. */
  markStale() {
    this.find("job-list").classList.toggle("stale", page.asksForOtherList);
    this.rows.ariaBusy = String(page.asksForOtherList);
  }

  /** Asks the server for the list that the address describes; while the visitor types a search, only
      after a pause. */
  requestList() {
    clearTimeout(this.requestTimer);
    const { filters } = page;
    const isRequested = this.requested ? isSame(filters, this.requested) : !page.asksForOtherList;
    if (!this.component || isRequested) {
      return;
    }
    const send = () => {
      this.requested = filters;
      this.component.setStateValue("filters", filters);
    };
    if (filters.q !== (this.requested ?? page.listed)?.q) {
      this.requestTimer = setTimeout(send, TYPING_PAUSE);
    } else {
      send();
    }
  }

  /** Chooses between the list and the log if the window has room for only one of them. */
  setView() {
    document.documentElement.classList.toggle("tailboard-log-open", Boolean(page.address.job));
  }

  // --- Drawing ---

  draw() {
    if (!page.listed || !page.hasStatuses || this.press.isHeld) {
      return; // the statuses come with the header, which may load later
    }
    this.filters.draw();
    this.bulkActions.draw();
    this.logSearch.draw();
    this.drawRows();
    this.drawNothing();
    this.older.draw();
    this.drawUpdated();
    setHtml(this.find("pages"), this.logSearch.isOpen ? "" : pagesHtml());
    this.rows.hidden = this.logSearch.isOpen;
  }

  /** Folds the jobs into rows, unless neither the jobs nor what is unfolded has changed. */
  fold() {
    const unfolded = [...this.unfolded].join();
    if (this.folded?.jobs !== page.jobs || this.folded.unfolded !== unfolded) {
      this.folded = { jobs: page.jobs, unfolded, rows: foldRows(page.jobs, this.unfolded) };
    }
  }

  drawRows() {
    this.fold();
    const { rows } = this.folded;
    const old = new Map([...this.rows.children].map((item) => [item.dataset.key, item]));
    rows.forEach((row, index) => {
      const item = old.get(row.key) ?? makeItem(row.key);
      old.delete(row.key);
      if (this.rows.children[index] !== item) {
        this.rows.insertBefore(item, this.rows.children[index] ?? null);
      }
      this.drawRow(item.firstChild, row, index === rows.length - 1);
    });
    for (const item of old.values()) {
      item.remove();
    }
    this.setTabStop();
  }

  drawRow(link, row, last) {
    const shownJob = page.address.job;
    const [newest] = row.jobs ?? [row.job];
    const context = {
      statuses: page.statuses,
      now: page.now,
      paused: page.pausedQueues,
      named: page.status.me?.named,
      titleOf: (id) => page.titleOf(id),
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
    link.title = jobTooltip(job, page.now, this.usage.of(job.id));
    setHtml(link, jobRowHtml(job, { ...context, watched: page.bells.has(job.id) }));
  }

  /** Shows how old the data is, if a refresh is late or switched off. */
  drawUpdated() {
    const foot = this.find("updated");
    const isOff = page.status.interval === "off";
    const isShown = page.hasHeard && (page.isStale || isOff);
    const seconds = formatRoughly(Date.now() - page.refreshedAt);
    foot.textContent = isShown
      ? `updated ${seconds} ago${isOff ? ", auto-refresh is off" : ""}`
      : "";
    foot.classList.toggle("late", page.isStale && !isOff);
  }

  drawNothing() {
    const node = this.find("nothing");
    node.hidden = page.jobs.length > 0 || this.logSearch.isOpen || !page.hasHeard;
    if (!node.hidden) {
      const isSearching = page.asksForOtherList || this.older.isLoading;
      setHtml(node, isSearching ? '<p class="faint">Searching…</p>' : nothingHtml());
    }
  }

  // --- Clicks and keys ---

  onClick(event) {
    this.press.isHeld = false; // it is drawn in this frame
    const target = event.target.closest("[data-go]");
    if (!target || opensElsewhere(event)) {
      return;
    }
    event.preventDefault();
    const act = {
      job: () => this.openJob(target),
      hits: () => this.logSearch.toggle(target.dataset.job),
      filter: () => page.followLink(target),
      fold: () => this.toggleFold(target.parentNode.dataset.key),
    };
    act[target.dataset.go]();
  }

  /** Opens a job. From the results of a search, the text is also marked in the job's log. */
  openJob(link) {
    if (this.logSearch.isOpen) {
      page.presetFind?.(page.address.logs);
    }
    page.followLink(link);
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
}

/** The ID of the running job in whose row a node is. */
function runningIn(node) {
  const id = node.closest("li")?.dataset.key;
  return page.find(id)?.status === "running" ? id : undefined;
}

function makeItem(key) {
  const item = document.createElement("li");
  item.dataset.key = key;
  item.append(document.createElement("a"));
  return item;
}

export default function mountJobList(component) {
  const root = component.parentElement;
  root.jobList ??= new JobList(root);
  root.jobList.update(component);
  return closeWhenRemoved(root, root.jobList);
}
