/* How far a running job is, estimated from its last success: a sentence above the log. */

import { setHtml } from "./dom.js";
import { forecastHtml } from "./insight_words.js";
import { page } from "./page_state.js";

export class LogForecast {
  constructor(find) {
    this.node = find("forecast");
  }

  reset() {
    this.node.hidden = true;
  }

  draw({ forecast }, job) {
    const isShown = Boolean(forecast) && job.status === "running";
    this.node.hidden = !isShown;
    if (isShown) {
      const html = forecastHtml(forecast, job.id, (change) => page.link(change));
      setHtml(this.node, html);
    }
  }
}
