/* The jobs that the page knows, and which of them the list shows: the newest page, which the server
   keeps up to date; older jobs, which the browser has requested since; and, until the server has
   answered, a guess at the jobs that match other filters. Pure. */

const MOST_KNOWN = 10_000; // jobs
const MOST_KEPT = 10; // lists with other filters, to which the visitor may return
const SEARCHES = ["queue", "by", "q"]; // filters for which the server has to read the jobs

export class ListedJobs {
  constructor() {
    this.known = new Map(); // ID -> the job as last received
    this.filters = null; // of the newest page; null before the first list
    this.newest = []; // the jobs of the newest page
    this.page = null; // { next, counts, more, skipped, searched } of the newest page
    this.exact = null; // counts of all matching jobs, by status: { counts, complete }
    this.kept = new Map(); // key of the filters -> { newest, older, end, exact }
    this.forgetOlder();
  }

  forgetOlder() {
    this.older = []; // the jobs below the newest page
    // { next, searched } of the last part; `isOld` if the visitor has returned to these filters;
    // null: none were loaded
    this.end = null;
  }

  /** Takes the newest page. Jobs that newer ones have pushed out of it join the older jobs, if those
      were loaded; otherwise there would be a gap. */
  receive(jobs, page, filters) {
    if (!isSame(filters, this.filters)) {
      this.exchange(filters);
    }
    if (this.end) {
      this.moveBoundary(page.next);
    }
    this.newest = jobs;
    this.page = page;
    this.remember(jobs);
  }

  /** Keeps the list with the last filters and returns to one with others, if the page knows it. Its
      older jobs may be out of date. */
  exchange(filters) {
    const { newest, older, end, exact } = this;
    this.kept.set(keyOf(this.filters), { newest, older, end, exact });
    if (this.kept.size > MOST_KEPT) {
      this.kept.delete(this.kept.keys().next().value);
    }
    const none = { newest: [], older: [], end: null, exact: null };
    Object.assign(this, none, this.kept.get(keyOf(filters)));
    this.end &&= { ...this.end, isOld: true };
    this.filters = filters;
  }

  moveBoundary(next) {
    const isGap = next !== null && this.newest.length > 0 && this.newest[0].id < next;
    if (next === null || isGap) {
      this.forgetOlder();
      return;
    }
    const pushedOut = this.newest.filter((job) => job.id < next);
    this.older = [...pushedOut, ...this.older.filter((job) => job.id < next)];
  }

  /** Takes the jobs that follow those that are listed. */
  addOlder({ rows, next, searched }) {
    this.older = [...this.older, ...rows];
    this.end = { next, searched };
    this.remember(rows);
  }

  /** Takes newly loaded jobs instead of the older ones. */
  replaceOlder(rows, end) {
    this.older = rows;
    this.end = end;
    this.remember(rows);
  }

  remember(jobs) {
    if (this.known.size > MOST_KNOWN) {
      this.known.clear();
    }
    for (const job of jobs) {
      this.known.set(job.id, job);
    }
  }

  /** What the list shows: its jobs, newest first, and what is known about the rest. */
  shown() {
    const { page, newest, older, end } = this;
    return {
      jobs: end ? [...newest, ...older] : newest,
      next: end ? end.next : page.next,
      searched: end ? end.searched : page.searched,
      skipped: page.skipped,
      ...this.countMatches(end ? [...newest, ...older] : newest),
    };
  }

  /** The number of matching jobs by status; in `counted`, the statuses whose number is exact, or
      "all". */
  countMatches(jobs) {
    const { filters, page, exact, end } = this;
    if (!isSearch(filters) || !page.more) {
      return { counts: page.counts, counted: "all" };
    }
    const found = atLeast(page.counts, countStatuses(jobs));
    const counts = exact ? atLeast(exact.counts, found) : found;
    if (exact?.complete) {
      return { counts, counted: "all" };
    }
    const isWhole = end?.next === null && !filters.before;
    return { counts, counted: isWhole ? filters.status || "all" : "" };
  }

  /** The jobs that the list showed when it last had these filters, without those that are known not
      to match any longer; undefined if it never had. */
  lastShown(filters) {
    const kept = this.kept.get(keyOf(filters));
    const jobs =
      kept && [...kept.newest, ...kept.older].map((job) => this.known.get(job.id) ?? job);
    return jobs?.filter((job) => isListed(job, filters));
  }

  /** A guess at what other filters select, from the jobs that the page knows. `totals` are the
      numbers of all jobs, by status. */
  guess(filters, totals) {
    const known = [...this.known.values()].filter((job) => matchesSearch(job, filters));
    const jobs = this.lastShown(filters) ?? known.filter((job) => isListed(job, filters));
    const counts = isSearch(filters) ? countStatuses(known) : totals;
    return {
      jobs: jobs.sort((one, other) => (one.id < other.id ? 1 : -1)),
      next: null,
      searched: 0,
      skipped: 0,
      counts,
      counted: isSearch(filters) ? "" : "all",
    };
  }
}

function keyOf(filters) {
  return JSON.stringify(Object.entries(filters ?? {}).sort());
}

/** Does a job that matches the search also have the chosen status, and is it old enough? */
function isListed(job, { status, before }) {
  return (!status || job.status === status) && (!before || job.id < before);
}

/** Does the server have to read jobs, rather than only list them, to find those that match? */
export function isSearch(filters) {
  return SEARCHES.some((name) => filters[name]);
}

export function isSame(filters, others) {
  return others !== null && Object.keys(filters).every((name) => filters[name] === others[name]);
}

/** The server also searches the command, of which the browser knows only the first line. */
function matchesSearch(job, { queue, by, q }) {
  const text = (q ?? "").toLowerCase();
  return (
    (!queue || job.queue === queue) &&
    (!by || job.submitted_by === by) &&
    (!text || job.title.toLowerCase().includes(text) || job.id.includes(text))
  );
}

function countStatuses(jobs) {
  const counts = {};
  for (const { status } of jobs) {
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

/** For each status the larger of two counts: new jobs may have joined since `exact` was counted. */
function atLeast(exact, newest) {
  const statuses = new Set([...Object.keys(exact), ...Object.keys(newest)]);
  const pairs = [...statuses].map((name) => [name, Math.max(exact[name] ?? 0, newest[name] ?? 0)]);
  return Object.fromEntries(pairs);
}

/** The sum of all counts. */
export function sumOf(counts) {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
