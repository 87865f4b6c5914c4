/* The samples of the job that is shown: GET /jobs/ID/usage. All are requested once, then the newest
   ones while the job runs, and all once more when it has ended. It draws nothing. */

import { isEnded } from "./format.js";
import { fetchUsage } from "./log_stream.js";
import { joinSamples } from "./usage_shape.js";
import { readSamples } from "./usage_words.js";

const RUNNING = 5000; // milliseconds between requests while the job runs
const RETRY = 10_000; // after a failure
const NEWEST = 24; // samples: those of two minutes
const MOST = 2000; // that are kept

export class UsageSamples {
  /** `changed()` is called when `samples` has others. */
  constructor(source, changed) {
    this.source = source;
    this.changed = changed;
    this.setJob();
  }

  /** Forgets the previous job. */
  setJob() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.samples = [];
    this.isFinal = false; // can nothing change any more?
    this.wasRunning = false; // at the last request
    this.nextAt = 0;
    this.isLoading = false;
  }

  /** Requests samples if that is due. `job`: what is known of it. */
  update(job) {
    const { isLoaded, isServed } = this.source;
    const hasJustEnded = this.wasRunning && isEnded(job);
    const isDue = hasJustEnded || Date.now() >= this.nextAt;
    const canLoad = isLoaded && !isServed && !this.isLoading && !this.isFinal && !document.hidden;
    if (job.started_at && isDue && canLoad) {
      this.load(job);
    }
  }

  async load(job) {
    const { aborter, samples } = this;
    const hasEnded = isEnded(job);
    const isWhole = hasEnded || samples.length === 0 || samples.length > MOST;
    this.wasRunning = !hasEnded;
    this.isLoading = true;
    const answer = await fetchUsage(job.id, isWhole ? {} : { limit: NEWEST }, aborter.signal);
    if (aborter.signal.aborted) {
      return; // another job is shown
    }
    this.isLoading = false;
    this.nextAt = Date.now() + (answer ? RUNNING : RETRY);
    this.isFinal = hasEnded && answer !== null;
    if (answer) {
      this.take(readSamples(answer), isWhole);
    }
  }

  take(received, isWhole) {
    const joined = isWhole ? received : joinSamples(this.samples, received, NEWEST);
    const isOther = joined?.at(-1)?.at !== this.samples.at(-1)?.at;
    this.samples = joined ?? []; // if some are missing, the next request is for all
    if (joined && (isOther || this.isFinal)) {
      this.changed();
    }
  }
}
