/* Run again, cancel or delete all jobs that match the filters. The page first asks, with the number
   of jobs. Then the server changes as many as it can per second, and a bar shows the progress. If
   the page is closed, the change stops; if it is started again, it continues with the remaining
   jobs. */

import {
  ACTIONS,
  actionButton,
  actionTitle,
  bulkNothing,
  bulkProgress,
  bulkQuestion,
  bulkResult,
  isPossible,
  keepButton,
} from "./bulk_words.js";
import { changeJobs } from "./bulk_work.js";
import { makeButton, setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { page } from "./page_state.js";

export class BulkActions {
  /** `find(name)` returns a node of the list by its class. */
  constructor(find) {
    this.find = find;
    this.isRunning = false;
    this.isStopped = false;
    this.asked = null; // the filters that the question on screen is about
    find("bulk-menu").addEventListener("click", (event) => this.onMenu(event));
  }

  get filters() {
    const { status = "", queue = "", by = "", q = "" } = page.address;
    return { status, queue, by, q };
  }

  draw() {
    const { status, queue, by, q } = this.filters;
    const isChosen = Boolean(status || queue || by || q) && !page.address.logs;
    const actions = ACTIONS.filter((action) => isPossible(action, status) && hasJobsFor(action));
    this.find("open-bulk").hidden = !isChosen || actions.length === 0;
    const buttons = actions.map(
      (action) => `<button type="button" data-action="${action}">${actionTitle(action)}…</button>`,
    );
    setHtml(this.find("bulk-menu"), buttons.join(""));
    const isOther = this.asked && JSON.stringify(this.asked) !== JSON.stringify(this.filters);
    if (isOther && !this.isRunning) {
      this.hide(); // the question was about other jobs
    }
  }

  onMenu(event) {
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (action) {
      this.find("bulk-menu").hidePopover();
      this.choose(action);
    }
  }

  // --- The question ---

  async choose(action) {
    if (this.isRunning) {
      return;
    }
    const { filters } = this;
    this.asked = filters;
    this.show("Counting…");
    const chosen = await ask("choose", { to: action, ...filters });
    if (this.asked !== filters) {
      return;
    }
    if (chosen.error) {
      this.showEnd(chosen.error);
    } else if (chosen.ids.length === 0) {
      this.showEnd(bulkNothing(action, chosen.left_out));
    } else {
      const run = () => this.run(action, chosen);
      const buttons = [
        [actionButton(action, chosen.ids.length), run, "primary"],
        [keepButton(action), () => this.hide()],
      ];
      this.show(bulkQuestion(action, filters, chosen), buttons);
      this.find("bulk-buttons").lastChild.focus(); // it changes nothing
    }
  }

  // --- The work ---

  async run(action, { ids, bulk }) {
    this.isRunning = true;
    this.isStopped = false;
    const done = { action, count: ids.length, tried: 0, declined: [], bulk };
    this.showProgress(done);
    await changeJobs(done, ids, {
      progress: (error) => this.showProgress(done, error),
      isStopped: () => this.isStopped,
    });
    this.isRunning = false;
    this.asked = null;
    this.showEnd(bulkResult(action, { ...done, isStopped: done.tried < ids.length }));
    page.refresh();
  }

  showProgress({ action, tried, count }, problem = "") {
    const text = bulkProgress(action, { tried, count });
    this.show(problem ? `${text} ${problem}` : text, [["Stop", () => this.stop()]]);
    const bar = this.find("bulk-progress");
    bar.hidden = false;
    bar.max = count;
    bar.value = tried;
  }

  stop() {
    this.isStopped = true;
    this.find("bulk-buttons").replaceChildren(); // the request that is under way still finishes
  }

  // --- The line ---

  showEnd(text) {
    this.show(text, [["OK", () => this.hide()]]);
  }

  show(text, buttons = []) {
    this.find("bulk-line").hidden = false;
    this.find("bulk-progress").hidden = true;
    this.find("bulk-text").textContent = text;
    const labels = JSON.stringify(buttons.map(([label]) => label));
    if (labels !== this.labels || !this.find("bulk-buttons").hasChildNodes()) {
      this.find("bulk-buttons").replaceChildren(...buttons.map((each) => makeButton(...each)));
      this.labels = labels; // the same buttons stay, so that the focused one keeps the focus
    }
  }

  hide() {
    this.asked = null;
    this.labels = "";
    this.find("bulk-line").hidden = true;
  }
}

/** Does any job match to which the action applies? True if the page does not know. */
function hasJobsFor(action) {
  if (page.counted === "") {
    return true;
  }
  const { status } = page.filters;
  const counts = Object.entries(page.counts);
  return counts.some(
    ([name, count]) => count > 0 && isPossible(action, name) && (!status || name === status),
  );
}
