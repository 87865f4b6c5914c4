/* What a running job uses, for the tooltip of its row. The newest sample is requested only while the
   pointer or the focus is on the row: the samples of all running jobs would make each refresh of
   the list larger. */

import { fetchUsage } from "./log_stream.js";
import { readSamples } from "./usage_words.js";

const DELAY = 100; // milliseconds that the pointer must stay on a row
const FRESH = 5000; // milliseconds; there is a sample every 5 s at most

export class HoveredUsage {
  /** `jobOf(node)` returns the ID of the running job in whose row a node is, else undefined;
      `changed()` is called when a sample has arrived. */
  constructor(root, jobOf, changed) {
    this.changed = changed;
    this.id = undefined; // of the job in the row
    this.sample = undefined; // of this job
    for (const name of ["pointerover", "focusin"]) {
      root.addEventListener(name, ({ target }) => this.choose(jobOf(target)));
    }
    root.addEventListener("pointerleave", () => this.choose(undefined));
  }

  /** The sample of a job; undefined if it is not known. */
  of(id) {
    return id === this.id ? this.sample : undefined;
  }

  choose(id) {
    if (id !== this.id) {
      this.id = id;
      this.sample = undefined;
      this.nextAt = Date.now() + DELAY;
      this.aborter?.abort();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.update(), DELAY);
    }
  }

  /** Requests the newest sample if that is due. Called every second. */
  async update() {
    const { id } = this;
    if (id === undefined || Date.now() < this.nextAt || document.hidden) {
      return;
    }
    this.nextAt = Date.now() + FRESH;
    this.aborter = new AbortController();
    const { signal } = this.aborter;
    const answer = await fetchUsage(id, { limit: 1 }, signal);
    if (!signal.aborted && answer) {
      this.sample = readSamples(answer).at(-1);
      this.changed();
    }
  }
}
