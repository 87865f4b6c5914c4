/* The head above a log: the job, its command, and the buttons that act on it. */

import { copyByButton, makeButton, setHtml } from "./dom.js";
import {
  elapsed,
  escapeHtml,
  formatAttempt,
  formatElapsed,
  formatExit,
  isEnded,
  median,
  statusIcon,
} from "./format.js";
import { detailsHtml } from "./job_details.js";
import { formatUsual } from "./job_rows.js";
import { logUrl } from "./log_stream.js";
import { DEFAULT_QUEUE, page } from "./page_state.js";
import { askToNotify, canNotify } from "./page_title.js";
import { onSavedLink, saved } from "./saved_state.js";

export class LogHead {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.find = find;
    const clicks = {
      back: () => this.close(),
      close: () => this.close(),
      command: () => this.toggleCommand(),
      "copy-command": (button) => copyByButton(button, this.job.command_text),
      "copy-link": (button) => copyByButton(button, location.origin + page.link({ at: "" })),
      cancel: () => this.askToCancel(),
      "run-again": () => this.askToRunAgain(),
      edit: () => this.edit(),
      "show-details": () => this.toggleDetails(),
      "save-command": () => this.save(),
      delete: () => this.askToDelete(),
      bell: () => this.toggleBell(),
      "to-hint": () => this.pane.toHint(),
    };
    for (const [name, act] of Object.entries(clicks)) {
      find(name).addEventListener("click", (event) => act(event.currentTarget));
    }
    find("details-panel").addEventListener("click", (event) => this.reveal(event));
    find("details-panel").addEventListener("click", onSavedLink);
  }

  /** Clears what belongs to the previous job. */
  reset() {
    this.hideConfirm();
    this.find("command").classList.remove("whole");
    this.find("command").ariaExpanded = "false";
    this.find("command").querySelector("code").textContent = "";
    this.find("context").textContent = "";
    this.find("head-past").textContent = "";
    this.find("why").hidden = true;
    this.find("details-panel").hidden = true;
    this.find("show-details").ariaExpanded = "false";
  }

  // --- Drawing ---

  /** `job` holds what is known of the job, perhaps only its row in the list. */
  draw(job, past, revealed) {
    this.job = job;
    const title = `${statusIcon(job.status, page.statuses)}<span>${escapeHtml(job.title)}</span>`;
    setHtml(this.find("head-title"), title);
    const facts = [formatElapsed(job, page.now), formatExit(job), job.reason ?? ""];
    this.find("head-facts").textContent = facts.filter(Boolean).join("  ·  ");
    this.drawPast(past);
    this.find("cancel").hidden = isEnded(job);
    this.find("delete").hidden = !isEnded(job);
    this.find("bell").hidden = isEnded(job) || !canNotify();
    this.find("bell").ariaPressed = String(page.bells.has(job.id));
    this.find("download").href = logUrl(job.id, { download: 1 });
    this.drawCommand(job);
    this.find("why").hidden = !job.hint;
    this.find("hint-text").textContent = job.hint ?? "";
    this.find("to-hint").title = job.hint ?? "";
    this.find("save-command").hidden = !job.env_names; // until its details are loaded
    if (job.env_names && !this.find("details-panel").hidden) {
      setHtml(this.find("details-panel"), detailsHtml(job, revealed));
    }
  }

  drawCommand(job) {
    const known = job.command_text !== undefined;
    this.find("command-bar").hidden = !known;
    if (!known) {
      return;
    }
    const code = this.find("command").querySelector("code");
    if (code.textContent !== job.command_text) {
      code.textContent = job.command_text;
    }
    const context = [
      job.queue === DEFAULT_QUEUE ? "" : `queue ${job.queue}`,
      job.retries > 0 ? `attempt ${formatAttempt(job)}` : "",
      page.status.workers.length > 1 && job.worker ? `worker ${job.worker}` : "",
    ];
    this.find("context").textContent = context.filter(Boolean).join(" · ");
  }

  /** The usual duration of this job, and a bar for each earlier run. */
  drawPast(past) {
    const times = past.map((job) => elapsed(job, 0));
    const usual = median(times);
    if (usual === null) {
      setHtml(this.find("head-past"), "");
      return;
    }
    const longest = Math.max(1, ...times);
    const bars = times.map(
      (time) => `<u style="height:${Math.round((100 * time) / longest)}%"></u>`,
    );
    const html = `usually ${formatUsual(usual)}<span class="bars" aria-hidden="true">${bars.join("")}</span>`;
    setHtml(this.find("head-past"), html);
  }

  // --- Actions ---

  close() {
    page.go({ job: "", at: "" });
  }

  toggleCommand() {
    const whole = this.find("command").classList.toggle("whole");
    this.find("command").ariaExpanded = String(whole);
  }

  toggleDetails() {
    const panel = this.find("details-panel");
    panel.hidden = !panel.hidden;
    this.find("show-details").ariaExpanded = String(!panel.hidden);
    this.pane.drawHead();
  }

  reveal(event) {
    const name = event.target.closest(".reveal")?.dataset.name;
    if (name !== undefined) {
      this.pane.component.setTriggerValue("reveal", name);
    }
  }

  edit() {
    this.hideConfirm();
    page.act("edit", this.job.id);
  }

  save() {
    this.find("log-menu").hidePopover();
    saved.openSave(this.job);
  }

  askToRunAgain() {
    this.confirm(`Run ${this.job.title} again?`, [
      ["Run", () => page.act("rerun", this.job.id)],
      ["Edit…", () => this.edit()],
    ]);
  }

  askToCancel() {
    const what =
      this.job.status === "queued"
        ? "Cancel this job before it starts?"
        : "Cancel this job? All its processes get SIGTERM, then SIGKILL after 10 s.";
    this.confirm(what, [["Yes, cancel it", () => page.act("cancel", this.job.id)]]);
  }

  askToDelete() {
    this.find("log-menu").hidePopover();
    const remove = () => {
      page.act("delete", this.job.id);
      this.close();
    };
    this.confirm("Delete this job and its log?", [["Yes, delete it", remove]]);
  }

  /** Shows a question beside the buttons, with its answers and "No". */
  confirm(question, answers) {
    const node = this.find("confirm");
    const text = document.createElement("span");
    text.textContent = question;
    const buttons = [...answers, ["No", () => {}]].map(([label, act], index) => {
      const hideAndAct = () => {
        this.hideConfirm();
        act();
      };
      return makeButton(label, hideAndAct, index === 0 ? "primary" : "");
    });
    node.replaceChildren(text, ...buttons);
    node.hidden = false;
    buttons[0].focus();
  }

  hideConfirm() {
    this.find("confirm").hidden = true;
  }

  async toggleBell() {
    const { id } = this.job;
    const on = !page.bells.has(id);
    if (on && !(await askToNotify())) {
      this.find("bell").querySelector("span").textContent = "Blocked by the browser";
      return;
    }
    page.toggleBell(id, on);
    this.pane.drawHead();
  }
}
