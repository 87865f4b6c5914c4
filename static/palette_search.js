/* Searches all jobs for the text in the palette, part after part, newest first. */

import { ask } from "./errands.js";

const DELAY = 150; // milliseconds after the last key
const LEAST_TEXT = 2; // characters
const ENOUGH = 40; // jobs to find
const MOST_PARTS = 30; // of the list of all jobs

export class PaletteSearch {
  /** `changed()` is called whenever `jobs` or `say` has changed; `request` sends an errand. */
  constructor(changed, request = ask) {
    this.changed = changed;
    this.request = request;
    this.run = 0; // number of the current search; answers to earlier ones are ignored
    this.reset();
  }

  reset() {
    clearTimeout(this.timer);
    this.run += 1;
    this.jobs = []; // that were found
    this.say = ""; // what the search is doing, for the visitor
  }

  start(q) {
    this.reset();
    if (q.length >= LEAST_TEXT) {
      this.say = "Searching all jobs…";
      this.timer = setTimeout(() => this.search(q, this.run), DELAY);
    }
  }

  async search(q, run) {
    let before = "";
    for (
      let part = 0;
      part < MOST_PARTS && before !== null && this.jobs.length < ENOUGH;
      part += 1
    ) {
      const { jobs = [], next = null, error } = await this.request("jobs", { q, before });
      if (run !== this.run) {
        return;
      }
      this.jobs = [...this.jobs, ...jobs];
      before = next;
      if (error) {
        this.say = error;
        this.changed();
        return;
      }
      this.changed();
    }
    this.say = before === null ? "" : `The newest ${this.jobs.length} matches of all jobs.`;
    this.changed();
  }
}
