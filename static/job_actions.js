/* The buttons that act on the open job. Each asks first if its effect cannot be undone. While the API does not answer they are
   disabled, because nothing would be sent and nothing is repeated later. */

import { needOf } from "./access.js";
import { ask } from "./errands.js";
import { isEnded } from "./format.js";
import { hasCancelled } from "./job_order.js";
import { page } from "./page_state.js";
import { Question } from "./question.js";
import { saved } from "./saved_state.js";

const NOT_SENT = "Not sent: the API isn't answering. Try again when it does.";
const NEEDS_API = [
  ...["cancel", "run-again", "edit", "save-command", "delete", "resume-queue"],
  ...["set-urgent", "rerun-after"],
];

export class JobActions {
  /** `find(name)` returns a node of the log pane by its class; `shownJob` is its LogJob; `close()`
      closes the pane. */
  constructor(find, shownJob, close) {
    this.find = find;
    this.shownJob = shownJob;
    this.close = close;
    this.question = new Question(find("confirm"));
    const clicks = {
      cancel: (button) => this.askToCancel(button),
      "run-again": (button) => this.askToRunAgain(button),
      edit: () => this.edit(),
      "save-command": () => this.save(),
      delete: () => this.askToDelete(),
      "resume-queue": (button) => this.askToResume(button),
      "set-urgent": () => this.setUrgent(),
      "run-after": () => this.runAfter(),
      "rerun-after": () => this.askToRerunAfter(),
    };
    for (const [name, act] of Object.entries(clicks)) {
      find(name).addEventListener("click", ({ currentTarget }) => {
        const isDisabled = currentTarget.ariaDisabled === "true";
        isDisabled ? page.toast(currentTarget.title) : act(currentTarget);
      });
    }
  }

  /** Clears what belongs to the previous job. */
  reset() {
    this.question.hide();
    this.lastOpen = ""; // ID of the shown job once it was seen before its end
  }

  draw(job) {
    this.job = job;
    if (!isEnded(job)) {
      this.lastOpen = job.id;
    }
    // The button of a job that has just ended keeps its place, or another one would slide under the
    // pointer.
    this.find("cancel").hidden = isEnded(job) && this.lastOpen !== job.id;
    this.find("cancel").dataset.needs = needOf("cancel", job);
    this.find("run-again").dataset.needs = needOf("rerun", job);
    this.find("rerun-after").dataset.needs = needOf("rerun", job);
    this.find("delete").hidden = !isEnded(job);
    this.find("save-command").hidden = !job.env_names; // until its details are loaded
    this.find("resume-queue").hidden = job.status !== "queued" || !page.pausedQueues.has(job.queue);
    this.find("set-urgent").hidden = job.status !== "queued";
    this.find("set-urgent").textContent = job.urgent ? "Do not start first" : "Move to the front";
    this.find("rerun-after").hidden = !isEnded(job) || !hasCancelled(job, page.list.known.values());
    for (const name of NEEDS_API) {
      disable(this.find(name), page.status.problem ? NOT_SENT : "");
    }
    if (!page.status.problem) {
      disable(this.find("cancel"), this.whyNoCancel(job));
    }
    if (this.question.about === "cancel" && isEnded(job)) {
      this.question.hide();
    }
  }

  whyNoCancel(job) {
    if (isEnded(job)) {
      return "The job has ended.";
    }
    return page.isCancelling(job) ? "This job is being cancelled." : "";
  }

  edit() {
    this.question.hide();
    page.act("edit", this.job.id);
  }

  save() {
    this.find("log-menu").hidePopover();
    saved.openSave(this.job);
  }

  askToRunAgain(near) {
    const { id, title } = this.job;
    this.question.ask({
      about: "run-again",
      near,
      text: `Run “${title}” again?`,
      yes: "Run again",
      act: () => send("rerun", id),
    });
  }

  /** Opens the run form for a job that waits for this one. */
  runAfter() {
    this.find("log-menu").hidePopover();
    page.openForm({ after: this.job.id });
  }

  askToRerunAfter() {
    const { id, title } = this.job;
    this.find("log-menu").hidePopover();
    this.question.ask({
      about: "rerun-after",
      near: this.find("open-log-menu"),
      text: `Run “${title}” again, and the jobs that were cancelled because of it?`,
      yes: "Run again",
      act: () => send("rerun_after", id),
    });
  }

  askToCancel(near) {
    const { id, status } = this.job;
    const isQueued = status === "queued";
    this.question.ask({
      about: "cancel",
      near,
      text: isQueued
        ? "Cancel this job before it starts?"
        : "Cancel this job? It gets SIGTERM, then SIGKILL after 10 s.",
      yes: "Cancel job",
      no: isQueued ? "Keep it" : "Keep running",
      act: () => send("cancel", id),
      isDangerous: true,
    });
  }

  /** Lets the job start before all others, or no longer. */
  async setUrgent() {
    const { id, urgent } = this.job;
    const answer = await ask("urgent", { job: id, urgent: !urgent });
    if (answer.error) {
      page.toast(answer.error);
    } else {
      this.shownJob.change(id, { urgent: answer.urgent });
    }
    page.refresh();
  }

  askToDelete() {
    const { id } = this.job;
    this.find("log-menu").hidePopover();
    this.question.ask({
      about: "delete",
      near: this.find("open-log-menu"),
      text: "Delete this job and its log? This can't be undone.",
      yes: "Delete",
      act: () => send("delete", id) && this.close(),
      isDangerous: true,
    });
  }

  askToResume(near) {
    const { queue } = this.job;
    this.question.ask({
      about: "resume",
      near,
      text: `Resume the queue “${queue}”? Its waiting jobs start.`,
      yes: "Resume queue",
      no: "Keep paused",
      act: () => resume(queue),
    });
  }
}

/** Sends an action, unless the API has stopped answering since the question. */
function send(name, id) {
  if (page.status.problem) {
    page.toast(NOT_SENT);
    return false;
  }
  page.act(name, id);
  return true;
}

async function resume(queue) {
  const answer = await ask("resume", { queue });
  if (answer.error) {
    page.toast(answer.error);
  }
  page.refresh();
}

/** A disabled button stays reachable by keyboard, so that its tooltip can say why. */
function disable(button, why) {
  button.ariaDisabled = why ? "true" : null;
  button.title = why;
}
