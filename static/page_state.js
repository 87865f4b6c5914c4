/* What the parts of the page share: the address, the jobs, the way to the API, what a visitor has
   set. One object, because every part imports this same module. It draws nothing.

   Events: "address" (another job, filter or search), "jobs" (a list has come), "status" (a refresh
   has come), "tick" (each second), "bells" (another set of jobs whose end is to be told). */

import { addressLink, EMPTY_ADDRESS, filtersOf, readAddress } from "./address.js";
import { applyChanges } from "./job_rows.js";

export const DEFAULT_QUEUE = "default";
const TICK = 1000; // milliseconds
const STALE = 15_000; // milliseconds without a refresh until the page says so

class PageState extends EventTarget {
  constructor() {
    super();
    this.address = readAddress(location.search);
    this.statuses = {};
    this.jobs = [];
    this.sentList = null; // the list that the server has sent: { number, rows }
    this.changes = null; // what has changed in it since
    this.next = null; // the ID that older jobs come before
    this.counts = {}; // jobs by status, of those that are searched
    this.countsAreMore = false; // are there more than were counted?
    this.listed = null; // the filters that `jobs` answers; null before the first list
    this.status = {
      counts: {},
      workers: [],
      slots: null,
      problem: "",
      api: "",
      ticket: "",
      paused: [],
    };
    this.heardAt = Date.now();
    this.local = new Map(); // jobs that the stream has told the end of, before the list did
    this.actions = null; // how the header tells the server what a visitor wants
    this.editForm = null; // how the header opens the form with a command
    this.bells = new Set(readSetting("bells", []));
    addEventListener("popstate", () => this.setAddress(readAddress(location.search)));
    setInterval(() => this.emit("tick"), TICK);
  }

  emit(name) {
    this.dispatchEvent(new Event(name));
  }

  on(name, act) {
    this.addEventListener(name, act);
  }

  /** Several events, as { name: act }. */
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

  /** The address with some changes, as a link. */
  link(change) {
    return addressLink({ ...this.address, ...change });
  }

  /** Go to another address; `replace` leaves no step in the browser's history. */
  go(change, { replace = false } = {}) {
    const url = this.link(change);
    if (replace) {
      history.replaceState(history.state, "", url);
    } else if (url !== location.search) {
      history.pushState({}, "", url);
    }
    this.setAddress(readAddress(location.search));
  }

  /** Go to the address that a link of the page has. */
  followLink(link) {
    this.go({ ...EMPTY_ADDRESS, ...readAddress(link.search) });
  }

  setAddress(address) {
    this.address = address;
    this.emit("address");
  }

  /** Show a job's log, from its end. */
  show(id) {
    this.go({ job: id, at: "" });
  }

  get filters() {
    return filtersOf(this.address);
  }

  /** A list and what has changed since it was sent come apart, in any order: each is taken once
      the other is there. */
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
    this.jobs = applyChanges(sentList.rows, changes);
    this.next = changes.next;
    this.counts = changes.counts;
    this.countsAreMore = changes.more;
    this.listed = changes.filters;
    for (const job of this.jobs) {
      if (job.finished_at) {
        this.local.delete(job.id);
      }
    }
    this.emit("jobs");
  }

  receiveStatus(status) {
    this.status = status;
    this.statuses = status.statuses;
    if (!status.problem) {
      this.heardAt = Date.now();
    }
    this.emit("status");
  }

  /** A job as it is known here, without its details; undefined where it is on no list. */
  find(id) {
    return this.local.get(id) ?? this.jobs.find((job) => job.id === id);
  }

  /** Clocks stand still while nobody tells how things are. */
  get now() {
    return this.status.problem ? this.heardAt : Date.now();
  }

  get isFiltered() {
    return Object.values(this.filters).some(Boolean);
  }

  /** Does the address ask for another list than the one that came last? Until one has come, the
      address is compared with the list of all jobs. */
  get asksForOtherList() {
    const { filters, listed } = this;
    return Object.keys(filters).some((name) => filters[name] !== (listed?.[name] ?? ""));
  }

  /** Has the list come that the address asks for? */
  get isListed() {
    return this.listed !== null && !this.asksForOtherList;
  }

  /** Have the statuses come, with the icon and the colour of each? */
  get hasStatuses() {
    return Boolean(this.statuses.lost);
  }

  get pausedQueues() {
    return new Set(this.status.paused.map((pause) => pause.queue));
  }

  get isStale() {
    return Date.now() - this.heardAt > STALE;
  }

  /** Tell the server what a visitor wants; the header's component carries it. */
  act(name, value) {
    this.actions?.setTriggerValue(name, value);
  }

  /** Has the server bring the header and the list again. */
  refresh() {
    this.act("refresh", Date.now());
  }

  /** The same, but after this task: of all that is set in one task, Streamlit reruns one fragment
      only. */
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

/** What this browser keeps under a name; `fallback` if nothing is or may be kept. `storage` is
    "localStorage", or "sessionStorage" for what only this tab keeps. */
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
    // A browser that keeps nothing forgets it with the page.
  }
}

export const page = new PageState();
