/* The state that the parts of the page share: the address, the jobs, the URL of the API, the
   visitor's settings. It is one object, because every part imports this same module. It draws
   nothing.

   Events: "address" (another job, filter or search), "jobs" (a list has arrived), "status" (a
   refresh has arrived), "tick" (each second), "bells" (the set of jobs to notify about has
   changed). */

import { setRole } from "./access.js";
import { addressLink, EMPTY_ADDRESS, filtersOf, readAddress } from "./address.js";
import { progressOf } from "./job_reason.js";
import { applyChanges } from "./job_rows.js";
import { ListedJobs, sumOf } from "./listed_jobs.js";
import { VisitorActions } from "./visitor_actions.js";

export const DEFAULT_QUEUE = "default";
const TICK = 1000; // milliseconds
const STALE = 15_000; // milliseconds without a refresh until the page says so

class PageState extends EventTarget {
  constructor() {
    super();
    this.address = readAddress(location.search);
    this.statuses = {};
    this.list = new ListedJobs();
    this.jobs = []; // that the list shows
    this.sentList = null; // the list as the server sent it: { number, rows }
    this.changes = null; // how the list has changed since
    this.next = null; // the `before` of older jobs; null if there are none
    this.searched = 0; // jobs that were searched for those in the list, from the newest on
    this.skipped = 0; // jobs that are newer than the list
    this.counts = {}; // number of matching jobs by status
    this.counted = "all"; // the status whose number in `counts` is exact; "" if none is known to be
    this.listed = null; // the filters of `jobs`; null before the first list
    this.status = {
      counts: {},
      workers: [],
      slots: null,
      problem: "",
      api: "",
      ticket: "",
      noticed: null,
      paused: [],
      me: { name: "", role: "read", signed_in: false, by_proxy: false, named: false },
    };
    this.refreshedAt = Date.now();
    this.heardAt = Date.now(); // when the page's server last sent anything
    this.hasHeard = false; // has the API answered since the page was opened?
    this.local = new Map(); // jobs that the stream has reported as further than the list shows
    this.cancels = new Map(); // job ID -> when the API accepted this visitor's cancel
    this.actions = new VisitorActions();
    this.presetFind = null; // sets the text to find in the next log; set by the log pane
    this.openForm = () => {}; // opens the run form with some values; set by the header
    this.toast = () => {}; // shows a short message for a while; set by the header
    this.bells = new Set(readSetting("bells", []));
    addEventListener("popstate", () => this.setAddress(readAddress(location.search)));
    setInterval(() => this.emit("tick"), TICK);
    setRole("read"); // until the server has reported the visitor's role
  }

  emit(name) {
    this.dispatchEvent(new Event(name));
  }

  on(name, act) {
    this.addEventListener(name, act);
  }

  /** Listens to several events: { name: act }. */
  listen(handlers) {
    for (const [name, act] of Object.entries(handlers)) {
      this.addEventListener(name, act);
    }
  }

  unlisten(handlers) {
    for (const [name, act] of Object.entries(handlers)) {
      this.removeEventListener(name, act);
    }
  }

  /** The address with some changes, as a link. A comparison and a file belong to the job. */
  link(change) {
    const isOtherJob = change.job !== undefined && change.job !== this.address.job;
    const kept = isOtherJob ? { ...this.address, compare: "", file: "" } : this.address;
    return addressLink({ ...kept, ...change });
  }

  /** Goes to another address; with `replace`, without a step in the browser's history. */
  go(change, { replace = false } = {}) {
    const url = this.link(change);
    if (replace) {
      history.replaceState(history.state, "", url);
    } else if (url !== location.search) {
      history.pushState({}, "", url);
    }
    this.setAddress(readAddress(location.search));
  }

  /** Goes to the address of a link in the page. */
  followLink(link) {
    this.go({ ...EMPTY_ADDRESS, ...readAddress(link.search) });
  }

  setAddress(address) {
    this.address = address;
    if (this.listed) {
      this.showList();
    }
    this.emit("address");
  }

  /** Shows a job's log, at its end. */
  show(id) {
    this.go({ job: id, at: "" });
  }

  get filters() {
    return filtersOf(this.address);
  }

  /** A list and the changes since arrive separately, in any order. They are joined once both are
      available. */
  receiveList(sentList) {
    this.sentList = sentList;
    this.joinList();
  }

  receiveChanges(changes) {
    this.changes = changes;
    this.joinList();
  }

  joinList() {
    const { sentList, changes } = this;
    if (!sentList || !changes || sentList.number !== changes.since) {
      return;
    }
    this.listed = changes.filters;
    this.list.receive(applyChanges(sentList.rows, changes), changes, changes.filters);
    this.showList();
    for (const job of this.jobs) {
      const local = this.local.get(job.id);
      if (local && progressOf(job) >= progressOf(local)) {
        this.local.delete(job.id);
      }
    }
    this.emit("jobs");
  }

  /** Shows what the server has sent, or a guess until it has applied other filters. */
  showList() {
    const shown = this.asksForOtherList
      ? this.list.guess(this.filters, this.status.counts)
      : this.list.shown();
    Object.assign(this, shown);
  }

  /** Takes a part of the older jobs, see ListedJobs. */
  addOlder(part) {
    this.list.addOlder(part);
    this.showList();
    this.emit("jobs");
  }

  replaceOlder(rows, end) {
    this.list.replaceOlder(rows, end);
    this.showList();
    this.emit("jobs");
  }

  /** Takes the number of all jobs that match, by status: { counts, complete }. */
  takeCounts(exact) {
    this.list.exact = exact;
    this.showList();
    this.emit("jobs");
  }

  receiveStatus(status) {
    const { me } = this.status;
    if (me.by_proxy && me.name !== status.me.name) {
      location.reload(); // somebody else has signed in at the proxy: keep nothing of the last visitor
    }
    this.heardAt = Date.now();
    this.status = status;
    this.statuses = status.statuses;
    setRole(status.me.role);
    if (!status.problem) {
      this.hasHeard = true;
      this.refreshedAt = Date.now();
    }
    this.emit("status");
  }

  /** Takes a problem that the browser has noticed by itself; empty if it has passed. */
  receiveProblem(problem) {
    if (problem !== this.status.problem) {
      this.status = { ...this.status, problem };
      this.emit("status");
    }
  }

  /** A job without its details, as far as the browser knows it; undefined if it is not listed. */
  find(id) {
    return this.local.get(id) ?? this.jobs.find((job) => job.id === id);
  }

  /** The title of a job; undefined if the page has not received the job. */
  titleOf(id) {
    return (this.local.get(id) ?? this.list.known.get(id))?.title;
  }

  /** The current time. It stops while the server cannot reach the API. */
  get now() {
    return this.status.problem ? this.refreshedAt : Date.now();
  }

  /** Was a cancel of the job accepted that has not ended it yet? */
  isCancelling(job) {
    return job.status === "running" && (this.cancels.has(job.id) || Boolean(job.cancel_requested));
  }

  get isFiltered() {
    return Object.values(this.filters).some(Boolean);
  }

  /** Does the address ask for a list other than the last one? Before the first list arrives, the
      address is compared with the list of all jobs. */
  get asksForOtherList() {
    const { filters, listed } = this;
    return Object.keys(filters).some((name) => filters[name] !== (listed?.[name] ?? ""));
  }

  /** Has the list arrived that the address asks for? */
  get isListed() {
    return this.listed !== null && !this.asksForOtherList;
  }

  /** Have the statuses arrived, with the icon and the colour of each? */
  get hasStatuses() {
    return Boolean(this.statuses.lost);
  }

  /** The number of jobs with the chosen status, or of all. */
  get total() {
    const { counts } = this.status;
    return this.filters.status ? (counts[this.filters.status] ?? 0) : sumOf(counts);
  }

  get pausedQueues() {
    return new Set(this.status.paused.map((pause) => pause.queue));
  }

  /** Is no worker running, as far as the page knows? */
  get lacksWorker() {
    return this.hasHeard && this.status.slots?.all === 0;
  }

  get isStale() {
    return Date.now() - this.refreshedAt > STALE;
  }

  /** Sends an action of the visitor to the server, through the header's component. */
  act(name, value) {
    this.actions.send(name, value);
  }

  /** Asks the server for the header and the list. The request is a state, not a trigger: Streamlit
      keeps only the last trigger of a component that it has not handled yet, and a refresh would
      replace a click. */
  refresh() {
    this.actions.component?.setStateValue("refresh", Date.now());
  }

  /** The same, but after this task: if several values are set in one task, Streamlit reruns only
      one fragment. */
  refreshLater() {
    setTimeout(() => this.refresh());
  }

  toggleBell(id, on) {
    if (on) {
      this.bells.add(id);
    } else {
      this.bells.delete(id);
    }
    writeSetting("bells", [...this.bells]);
    this.emit("bells");
  }
}

/** A value that this browser has stored; `fallback` if there is none or storage is blocked.
    `storage` is "localStorage", or "sessionStorage" for values of this tab only. */
export function readSetting(name, fallback, storage = "localStorage") {
  try {
    return JSON.parse(window[storage].getItem(`tailboard.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function writeSetting(name, value, storage = "localStorage") {
  try {
    window[storage].setItem(`tailboard.${name}`, JSON.stringify(value));
  } catch {
    // If storage is blocked, the value lasts until the page is closed.
  }
}

export const page = new PageState();
