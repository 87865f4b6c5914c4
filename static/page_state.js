/* What the parts of the page share: the address, the jobs, the way to the API, what a visitor has
   set. One object, because every part imports this same module. It draws nothing.

   Events: "address" (another job, filter or search), "jobs" (a list has come), "status" (a refresh
   has come), "tick" (each second), "bells" (another set of jobs whose end is to be told). */

import { applyChanges } from "./job_rows.js";

const ADDRESS = ["status", "queue", "q", "logs", "before", "job", "at"]; // in this order in the URL
const FILTERS = ["status", "queue", "q", "before"];
const TICK = 1000; // milliseconds
const STALE = 15_000; // milliseconds without a refresh until the page says so

class PageState extends EventTarget {
  constructor() {
    super();
    this.address = readAddress();
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
    addEventListener("popstate", () => this.setAddress(readAddress()));
    setInterval(() => this.emit("tick"), TICK);
  }

  emit(name) {
    this.dispatchEvent(new Event(name));
  }

  on(name, act) {
    this.addEventListener(name, act);
  }

  /** The address with some changes, as a link. */
  link(change) {
    const address = { ...this.address, ...change };
    const pairs = ADDRESS.filter((name) => address[name]).map((name) => [name, address[name]]);
    return `?${new URLSearchParams(pairs)}`;
  }

  /** Go to another address; `replace` leaves no step in the browser's history. */
  go(change, { replace = false } = {}) {
    const url = this.link(change);
    if (replace) {
      history.replaceState(history.state, "", url);
    } else if (url !== location.search) {
      history.pushState({}, "", url);
    }
    this.setAddress(readAddress());
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
    return Object.fromEntries(FILTERS.map((name) => [name, this.address[name] ?? ""]));
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

  /** Has the list come that the address asks for? */
  get isListed() {
    const { filters, listed } = this;
    return listed !== null && FILTERS.every((name) => (listed[name] ?? "") === filters[name]);
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

  /** Refresh the header and the list, after another part has set something: of all that is set in
      one task, Streamlit reruns one fragment only. */
  refreshLater() {
    setTimeout(() => this.act("refresh", Date.now()));
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

function readAddress() {
  const given = new URLSearchParams(location.search);
  const pairs = ADDRESS.filter((name) => given.get(name)).map((name) => [name, given.get(name)]);
  return Object.fromEntries(pairs);
}

/** What this browser has kept under a name; `fallback` where nothing is or may be kept. */
export function readSetting(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`tailboard.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function writeSetting(name, value) {
  try {
    localStorage.setItem(`tailboard.${name}`, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing forgets it with the tab.
  }
}

/** Set a node's HTML where it is another: what has the focus, or is selected, stays. */
export function setHtml(node, html) {
  if (node.shownHtml !== html) {
    node.innerHTML = html;
    node.shownHtml = html;
  }
}

/** Close a part once Streamlit has taken it out of the page; it also says so at each update. */
export function closeWhenRemoved(root, part) {
  return () => {
    setTimeout(() => {
      if (!root.isConnected) {
        part.close();
      }
    }, 0);
  };
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

export const page = new PageState();
