/* The head above a log: the job, its command, why it ended, and the buttons that act on it. */

import { copyByButton, opensElsewhere, setHtml } from "./dom.js";
import {
  elapsed,
  escapeHtml,
  formatAttempt,
  formatElapsed,
  formatExit,
  formatUsual,
  isEnded,
  statusIcon,
} from "./format.js";
import { JobActions } from "./job_actions.js";
import { detailsHtml } from "./job_details.js";
import { linkIds } from "./job_links.js";
import { orderHtml } from "./job_order.js";
import { describeRetry, endLine, endReason, ownReason, waitReason } from "./job_reason.js";
import { isLate, lateText, signText, usualTime } from "./job_signs.js";
import { logUrl } from "./log_stream.js";
import { DEFAULT_QUEUE, page } from "./page_state.js";
import { askToNotify, canNotify } from "./page_title.js";
import { onSavedLink } from "./saved_state.js";

export class LogHead {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.find = find;
    this.actions = new JobActions(find, pane.shownJob, () => this.close());
    const clicks = {
      back: () => this.close(),
      close: () => this.close(),
      command: () => this.toggleCommand(),
      "copy-command": (button) => copyByButton(button, this.job.command_text),
      "copy-link": (button) => copyByButton(button, location.origin + page.link({ at: "" })),
      "show-details": () => this.toggleDetails(),
      bell: () => this.toggleBell(),
      "to-hint": () => this.pane.toHint(),
    };
    for (const [name, act] of Object.entries(clicks)) {
      find(name).addEventListener("click", (event) => act(event.currentTarget));
    }
    for (const name of ["details-panel", "head-facts", "context", "blank"]) {
      find(name).addEventListener("click", (event) => this.onDetail(event));
      find(name).addEventListener("click", onSavedLink);
    }
  }

  /** Clears what belongs to the previous job. */
  reset() {
    this.job = undefined;
    this.actions.reset();
    this.find("command").classList.remove("whole");
    this.find("command").ariaExpanded = "false";
    this.find("command").querySelector("code").textContent = "";
    for (const name of ["head-title", "head-facts", "head-past", "context", "run-values"]) {
      setHtml(this.find(name), "");
    }
    this.find("run-values").hidden = true;
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
    setHtml(this.find("head-facts"), factsHtml(job));
    this.drawPast(job, past);
    this.find("bell").hidden = isEnded(job) || !canNotify();
    this.find("bell").ariaPressed = String(page.bells.has(job.id));
    this.find("download").href = logUrl(job.id, { download: 1 });
    this.drawCommand(job);
    this.drawValues(job);
    this.drawWhy(job);
    this.actions.draw(job);
    if (job.env_names && !this.find("details-panel").hidden) {
      setHtml(this.find("details-panel"), detailsHtml(job, revealed, page.now, page.list.known));
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
      job.queue === DEFAULT_QUEUE ? "" : escapeHtml(`queue ${job.queue}`),
      job.retries > 0 ? escapeHtml(`attempt ${formatAttempt(job)}`) : "",
      page.status.workers.length > 1 && job.worker ? escapeHtml(`worker ${job.worker}`) : "",
      ...orderHtml(job, titleOf),
    ];
    setHtml(this.find("context"), context.filter(Boolean).join(" · "));
  }

  /** The values that a run of a saved command was given. */
  drawValues({ values = {} }) {
    const pairs = Object.entries(values).map(
      ([name, value]) => `<span>${escapeHtml(name)}=<b>${escapeHtml(value)}</b></span>`,
    );
    setHtml(this.find("run-values"), pairs.join(" "));
    this.find("run-values").hidden = pairs.length === 0;
  }

  /** Why the job, or its last attempt, ended badly; or that it is late or silent. */
  drawWhy(job) {
    const reason = endReason(job) || describeRetry(job, page.now);
    const html = escapeHtml(reason) || this.signsHtml(job);
    const line = endLine(job);
    this.find("why").hidden = !html;
    setHtml(this.find("why-reason"), html);
    this.find("to-hint").hidden = !line;
    setHtml(this.find("hint-label"), escapeHtml(line?.label));
    setHtml(this.find("hint-text"), escapeHtml(line?.text));
    this.find("to-hint").title = line?.text ?? "";
  }

  /** That the job is late or silent, as exactly as it is known. */
  signsHtml(job) {
    const silence = this.pane.insights?.silence.html(job);
    if (!silence) {
      return escapeHtml(signText(job, page.now));
    }
    const late = isLate(job, page.now) ? escapeHtml(lateText(job, page.now)) : "";
    return [late, silence].filter(Boolean).join("; ");
  }

  /** The usual duration of this job, and a bar for each earlier run. */
  drawPast(job, past) {
    const usual = usualTime(job);
    const text = usual === undefined ? "" : `usually ${formatUsual(usual)}`;
    const times = past.map((earlier) => elapsed(earlier, 0));
    const longest = Math.max(1, ...times);
    const bars = times.map(
      (time) => `<u style="height:${Math.round((100 * time) / longest)}%"></u>`,
    );
    const shown = `<span class="bars" aria-hidden="true">${bars.join("")}</span>`;
    setHtml(this.find("head-past"), text + (bars.length > 0 ? shown : ""));
  }

  // --- Clicks ---

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
    if (!panel.hidden) {
      this.pane.shownJob.reload();
    }
  }

  /** Shows a hidden value, or the job that a link names. */
  onDetail(event) {
    const name = event.target.closest(".reveal")?.dataset.name;
    const link = event.target.closest("[data-job]");
    if (name !== undefined) {
      this.pane.component.setTriggerValue("reveal", name);
    } else if (link && !opensElsewhere(event)) {
      event.preventDefault();
      page.show(link.dataset.job);
    }
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

/** How long the job ran, who ran it, and its reason unless that is shown as the cause of a bad
    end. */
function factsHtml(job) {
  const isExplained = Boolean(endReason(job));
  const facts = [
    formatElapsed(job, page.now),
    isExplained ? "" : formatExit(job),
    job.submitted_by ? `by ${job.submitted_by}` : "",
  ];
  const reason = job.status === "queued" ? waitReason(job) : ownReason(job);
  const shown = isExplained ? "" : linkIds(reason, titleOf);
  return [...facts.map(escapeHtml), shown].filter(Boolean).join("  ·  ");
}

function titleOf(id) {
  return page.titleOf(id);
}
