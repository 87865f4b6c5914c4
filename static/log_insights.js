/* What the log pane shows of an explanation. Each part has a module of its own; this one only knows
   which parts exist. */

import { LogExplanation } from "./log_explanation.js";
import { LogResults } from "./log_results.js";

export class LogInsights {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.explanation = new LogExplanation(pane.source, () => this.draw());
    // Each has reset(), which clears what belongs to the previous job, draw(explanation, job) and
    // perhaps drawn(), which is called when other lines are in the view.
    this.parts = [pane.progress, new LogResults(find), pane.newLines];
    this.find = find;
  }

  /** Another job is shown. */
  setJob() {
    this.explanation.setJob();
    for (const part of this.parts) {
      part.reset();
    }
  }

  /** Called every second, and when something about the job has changed. */
  update() {
    const { job } = this.pane;
    if (job) {
      this.explanation.update(job);
    }
  }

  /** The lines in the view have changed. */
  drawn() {
    for (const part of this.parts) {
      part.drawn?.();
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
