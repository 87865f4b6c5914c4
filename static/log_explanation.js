/* What the API derives from the log that is shown and from earlier runs: GET /jobs/ID/explain. It is
   requested again while it is partial, while the job runs, and once it has ended. It draws nothing. */

import { isEnded } from "./format.js";
import { fetchExplanation } from "./log_stream.js";

const CONTINUE = 300; // milliseconds until a partial explanation is requested again
const RUNNING = 3000; // the same while the job runs
const RETRY = 5000; // after a failure

export class LogExplanation {
  /** `changed()` is called when `current` is another one. */
  constructor(source, changed) {
    this.source = source;
    this.changed = changed;
    this.setJob();
  }

  /** Forgets the previous job. */
  setJob() {
    this.aborter?.abort();
    this.aborter = new AbortController();
    this.current = null; // the API's response; null until the first has arrived
    this.isFinal = false; // can nothing change any more?
    this.nextAt = 0;
    this.isLoading = false;
  }

  /** Requests it if that is due. `job`: what is known of it. */
  update(job) {
    const { isLoaded, isServed } = this.source;
    const hasJustEnded = this.current && isEnded(job) && !isEnded(this.current);
    const isDue = hasJustEnded || Date.now() >= this.nextAt;
    if (isLoaded && !isServed && isDue && !this.isLoading && !this.isFinal && !document.hidden) {
      this.load();
    }
  }

  async load() {
    const { aborter } = this;
    this.isLoading = true;
    const explanation = await fetchExplanation(this.source.jobId, aborter.signal);
    if (aborter.signal.aborted) {
      return; // another job is shown
    }
    this.isLoading = false;
    if (explanation === null) {
      this.nextAt = Date.now() + RETRY;
      return;
    }
    this.nextAt = Date.now() + (explanation.partial ? CONTINUE : RUNNING);
    this.isFinal = isEnded(explanation) && !explanation.partial;
    if (JSON.stringify(explanation) !== JSON.stringify(this.current)) {
      this.current = explanation;
      this.changed();
    }
    if (explanation.partial) {
      setTimeout(() => this.resume(aborter.signal), CONTINUE);
    }
  }

  /** Requests the rest, unless `update` has already done so. */
  resume({ aborted }) {
    if (!aborted && !this.isLoading) {
      this.load();
    }
  }
}
