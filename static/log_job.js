/* The job whose log the pane shows: what the list, the server and the log's stream have said about
   it, and the requests to the server for more. It draws nothing. */

import { isEnded } from "./format.js";
import { progressOf } from "./job_reason.js";
import { page } from "./page_state.js";

// What the end of an attempt changes, as far as rows of the list show it.
const END = [
  ...["status", "started_at", "finished_at", "exit_code", "reason", "hint", "attempt"],
  "not_before",
];

export class LogJob {
  /** `source` is the LogSource that loads the job's lines. */
  constructor(source) {
    this.source = source;
    this.component = null; // of Streamlit; null before the first update
    this.details = new Map(); // job ID -> the job as the server sent it
    this.data = { every: null, error: "", past: [], revealed: {}, tail: null };
    this.hasWritten = false; // was the list refreshed because this queued job wrote something?
  }

  get id() {
    return this.source.jobId;
  }

  choose(id) {
    this.source.setJob(id);
    this.hasWritten = false;
  }

  /** Takes what the server has sent: the job's details, and its tail if it was requested. */
  update(component) {
    const { data } = component;
    this.component = component;
    this.data = data;
    const known = data.job && this.details.get(data.job.id);
    if (data.job && !(known && progressOf(known) > progressOf(data.job))) {
      this.details.clear(); // only the last job is kept; the list has the others
      this.details.set(data.job.id, data.job);
    }
  }

  takeServerTail() {
    const { tail } = this.data;
    if (tail && this.isSent) {
      this.source.takeServerTail(tail, this.shown ? isEnded(this.shown) : false);
    }
  }

  /** Is the data about this job? At first it is about the previous one. */
  get isSent() {
    return this.data.id === this.id;
  }

  /** Why the server cannot show this job; "" if it can. */
  get error() {
    return this.isSent && !this.shown ? (this.data.error ?? "") : "";
  }

  /** The newest that is known of the job; undefined if nothing is. */
  get shown() {
    const listed = page.find(this.id);
    const detailed = this.details.get(this.id);
    if (!listed || !detailed) {
      return listed ?? detailed;
    }
    const isOlder = progressOf(listed) < progressOf(detailed);
    return { ...listed, ...detailed, ...(isOlder ? {} : listed) };
  }

  /** Asks the server for the job's details and, if the browser cannot reach the API, for its
      tail. */
  request() {
    if (!this.component) {
      return; // the first update calls this again
    }
    const { jobId, isServed, stamped } = this.source;
    const wanted = { job: jobId, tail: isServed, stamped: isServed && stamped };
    const text = JSON.stringify(wanted);
    if (text !== (this.lastRequest ?? JSON.stringify(this.data.wanted))) {
      this.component.setStateValue("wanted", wanted);
    }
    this.lastRequest = text;
  }

  /** Asks the server again for a job that has ended: Tailboard sends messages after the end. */
  reload() {
    if (this.shown && isEnded(this.shown)) {
      this.component?.setTriggerValue("ended", this.id);
    }
  }

  onWritten() {
    if (this.shown?.status === "queued" && !this.hasWritten) {
      this.hasWritten = true;
      page.refresh(); // the list still shows the job as queued
    }
  }

  /** Takes what an action of the visitor has changed in a job. */
  change(id, change) {
    for (const jobs of [this.details, page.local]) {
      if (jobs.has(id)) {
        jobs.set(id, { ...jobs.get(id), ...change });
      }
    }
  }

  /** The stream has reported the start of an attempt, or the end of one that another will follow,
      before the list has. */
  onMove(job) {
    const known = this.shown ?? {};
    const change = Object.fromEntries(END.map((name) => [name, job[name]]));
    page.local.set(job.id, { ...known, ...change });
    if (this.details.has(job.id)) {
      const detailed = { ...this.details.get(job.id), ...change, attempts: job.attempts };
      this.details.set(job.id, detailed);
    }
    page.refreshLater();
  }

  /** The stream has reported the job's end, before the list has. */
  onEnd(job) {
    this.onMove(job);
    this.component.setTriggerValue("ended", job.id);
  }
}
