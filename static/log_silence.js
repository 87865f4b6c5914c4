/* Why a silent job may hang: for how long it has written nothing, the line after which an earlier
   run has paused for longest, and whether its processes are busy. It replaces the shorter text of
   job_signs.js. */

import { silenceHtml } from "./insight_words.js";
import { page } from "./page_state.js";
import { activityText } from "./usage_words.js";

export class LogSilence {
  constructor(pane) {
    this.pane = pane;
    this.reset();
  }

  reset() {
    this.silence = null;
    this.drawnAt = 0;
  }

  draw({ silence }) {
    this.silence = silence ?? null;
    this.drawnAt = Date.now();
    this.pane.drawHead();
  }

  /** The sentence as HTML; "" if the job is not silent for longer than ever. */
  html(job) {
    const hasWritten = this.pane.source.writtenAt > this.drawnAt;
    if (!this.silence || job.status !== "running" || hasWritten) {
      return "";
    }
    const more = (Date.now() - this.drawnAt) / 1000;
    const sentence = silenceHtml(this.silence, more, (change) => page.link(change));
    const activity = activityText(this.pane.insights.usage.cores);
    return [sentence, activity].filter(Boolean).join("; ");
  }
}
