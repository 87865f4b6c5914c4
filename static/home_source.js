/* Loads the sections of the home. Every change of a job changes the counts that each refresh
   brings, so a section is requested only if something that it depends on has changed. */

import { ask } from "./errands.js";
import { applyNames } from "./home_names.js";
import { page } from "./page_state.js";

const SECTIONS = ["running", "attention", "names", "schedules", "queues"];
const MAX_AGE = 60_000; // milliseconds until schedules are loaded again: others may edit them

export class HomeSource {
  /** `isShown()` returns whether the home can be seen; `since()` the time from which failures are
      requested; `onChange(names)` is called with the sections that have arrived. */
  constructor(isShown, since, onChange) {
    this.isShown = isShown;
    this.since = since;
    this.onChange = onChange;
    this.content = {}; // by section
    this.errors = {}; // by section: why it could not be loaded
    this.versions = {}; // by section
    this.loadedFor = {}; // by section: the state of the page when it was requested
    this.schedulesAt = 0; // when the schedules were last loaded
    this.isAsking = false;
  }

  get isComplete() {
    return SECTIONS.every((name) => this.content[name] || this.errors[name]);
  }

  /** Must be called whenever a section may be out of date. */
  async refresh() {
    if (this.isAsking || document.hidden || !this.isShown() || page.status.problem) {
      return;
    }
    const state = pageState();
    const sections = this.outdated(state);
    if (sections.length === 0) {
      return;
    }
    this.isAsking = true;
    const details = { sections, known: this.versions, since: this.since() };
    const answer = await ask("home", details);
    this.isAsking = false;
    if (answer.sections) {
      this.receive(sections, answer.sections, state);
    }
  }

  outdated(state) {
    const isOld = Date.now() - this.schedulesAt > MAX_AGE;
    return SECTIONS.filter(
      (name) => this.loadedFor[name] !== state || (name === "schedules" && isOld),
    );
  }

  receive(requested, found, state) {
    for (const name of requested) {
      const { error, version, content } = found[name] ?? {};
      this.errors[name] = error;
      if (content) {
        this.content[name] = name === "names" ? applyNames(this.content.names, content) : content;
        this.versions[name] = version;
      }
      // A section that failed or is incomplete is requested again at the next refresh.
      const isDone = !error && this.content[name]?.complete !== false;
      this.loadedFor[name] = isDone ? state : null;
    }
    if (requested.includes("schedules")) {
      this.schedulesAt = Date.now();
    }
    this.onChange(requested);
    this.refresh(); // something may have changed meanwhile
  }

  /** Requests a section again, after the visitor has changed what it shows. */
  forget(name) {
    this.loadedFor[name] = null;
  }
}

/** Changes if a job, a queue or a worker changes. */
function pageState() {
  const { counts, paused, workers } = page.status;
  const served = (workers ?? []).map(({ name, queues }) => [name, queues]);
  return JSON.stringify([counts, paused, served]);
}
