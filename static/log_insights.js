/* What the log pane shows of an explanation, and the files. Each part has a module of its own; this
   one only knows which parts exist. */

import { opensElsewhere } from "./dom.js";
import { LogCompare } from "./log_compare.js";
import { LogExplanation } from "./log_explanation.js";
import { LogFiles } from "./log_files.js";
import { LogForecast } from "./log_forecast.js";
import { LogPauses } from "./log_pauses.js";
import { LogResults } from "./log_results.js";
import { LogSeen } from "./log_seen.js";
import { LogSilence } from "./log_silence.js";
import { LogUsage } from "./log_usage.js";
import { page } from "./page_state.js";

const LINKED = ["why", "seen", "forecast", "compare"]; // nodes with links to jobs and lines

export class LogInsights {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.explanation = new LogExplanation(pane.source, () => this.draw());
    this.silence = new LogSilence(pane);
    this.usage = new LogUsage(pane, find);
    this.compare = new LogCompare(pane, find);
    // Each has reset(), which clears what belongs to the previous job, draw(explanation, job) and
    // perhaps drawn(), which is called when other lines are in the view.
    this.parts = [
      pane.progress,
      new LogResults(find),
      pane.newLines,
      this.silence,
      this.usage,
      this.compare,
      new LogSeen(pane, find),
      new LogForecast(find),
      new LogPauses(pane, find),
    ];
    this.files = new LogFiles(pane, find);
    this.find = find;
    for (const name of LINKED) {
      find(name).addEventListener("click", (event) => this.onLink(event));
    }
  }

  /** Another job is shown. */
  setJob() {
    this.explanation.setJob();
    for (const part of this.parts) {
      part.reset();
    }
    this.files.setJob();
  }

  /** The address has changed, or the API's URL has arrived. */
  onAddress() {
    this.compare.update();
    this.files.onAddress();
  }

  /** Called every second, and when something about the job has changed. */
  update() {
    const { job } = this.pane;
    if (job) {
      this.explanation.update(job);
      this.files.update(job);
      this.usage.update(job);
    }
  }

  /** The lines in the view have changed. */
  drawn() {
    for (const part of this.parts) {
      part.drawn?.();
    }
  }

  /** Follows a link to a job or to a line within the page. */
  onLink(event) {
    const link = event.target.closest("a[data-job]");
    if (!link || opensElsewhere(event)) {
      return;
    }
    event.preventDefault();
    const { job, at = "" } = link.dataset;
    if (job === this.pane.jobId && at && !page.address.compare) {
      this.pane.places.select(Number(at), Number(at));
    } else {
      page.go({ job, at, compare: "" });
    }
  }

  draw() {
    const { job } = this.pane;
    const { current } = this.explanation;
    if (job && current?.id === job.id) {
      for (const part of this.parts) {
        part.draw(current, job);
      }
    }
  }
}
