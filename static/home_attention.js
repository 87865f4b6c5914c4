/* What needs the visitor's attention: recent failures, jobs that cannot start, and schedules that
   do not run. Pure. */

import { needOf } from "./access.js";
import {
  escapeHtml,
  formatClock,
  formatCount,
  formatExit,
  formatRoughly,
  statusIcon,
} from "./format.js";
import { shortReason } from "./job_reason.js";
import { servesQueue } from "./queue_words.js";

const FIRST_FAILURES = 8; // more would push the running jobs out of sight

/** The items to show, the most urgent first. Each has a `key`; an item that can be dismissed has
    `at`, the time of its newest occurrence. */
export function attentionItems({ status, queues, failures, schedules }, seen) {
  return [
    ...waitingItems(status, queues),
    ...failureItems(failures, seen),
    ...scheduleItems(schedules, seen),
  ];
}

export function isDismissible(item) {
  return item.at !== undefined;
}

// --- Jobs that cannot start ---

function waitingItems({ workers, counts }, queues) {
  const waiting = queues.filter((queue) => queue.queued > 0);
  const paused = waiting.filter((queue) => queue.paused).map(pausedItem);
  if (workers.length === 0) {
    return [{ key: "worker", kind: "worker", count: counts.queued ?? 0 }, ...paused];
  }
  const isServed = ({ queue }) => workers.some(({ queues }) => servesQueue(queues, queue));
  const unserved = waiting.filter((queue) => !queue.paused && !isServed(queue));
  const items = unserved.map(({ queue, queued }) => {
    return { key: `unserved ${queue}`, kind: "unserved", queue, count: queued };
  });
  return [...items, ...paused];
}

function pausedItem({ queue, queued, paused }) {
  return { key: `paused ${queue}`, kind: "paused", queue, count: queued, pause: paused };
}

// --- Failures ---

/** The key of a name's failures. */
export function failureKey(name) {
  return `failure ${name}`;
}

function failureItems(failures, { since, dismissed }) {
  const items = [];
  for (const { name, count, newest } of failures) {
    const key = failureKey(name);
    const before = dismissed[key];
    const at = newest.finished_at;
    if (Date.parse(at) > Math.max(Date.parse(since), Date.parse(before?.at ?? since))) {
      items.push({ key, kind: "failure", name, at, newest, count, more: newCount(count, before) });
    }
  }
  return items;
}

/** How many of a name's failures came after those that were dismissed. */
function newCount(count, before) {
  return Math.max(1, count - (before?.count ?? 0));
}

// --- Schedules ---

/** The key of a saved command whose schedule is paused. */
export function stoppedKey(name) {
  return `stopped ${name}`;
}

function scheduleItems(schedules, { dismissed }) {
  const items = [];
  for (const { saved, paused, skipped } of schedules) {
    if (paused) {
      items.push({ key: stoppedKey(saved), kind: "stopped", name: saved, at: "" });
    } else if (skipped?.count > 0) {
      const { count, last_at: at, for_job: job } = skipped;
      items.push({ key: `skipped ${saved}`, kind: "skipped", name: saved, at, count, job });
    }
  }
  return items.filter(({ key, at }) => dismissed[key]?.at !== at);
}

// --- HTML ---

/** `context` has the statuses, the time `now`, `isDown` (is the API unreachable?), `showsAll` (or
    only FIRST_FAILURES?) and `link(change)`, which returns a link of the page. */
export function attentionHtml(items, context) {
  const failures = items.filter(({ kind }) => kind === "failure");
  const hidden = context.showsAll ? [] : failures.slice(FIRST_FAILURES);
  const shown = items.filter((item) => !hidden.includes(item));
  const rows = shown.map((item) => {
    const key = escapeHtml(item.key);
    return `<li class="home-item ${item.kind}" data-item="${key}">${HTML[item.kind](item, context)}</li>`;
  });
  return `<ul class="home-items">${rows.join("")}</ul>${showAllHtml(hidden.length)}`;
}

function showAllHtml(count) {
  if (count === 0) {
    return "";
  }
  const noun = count === 1 ? "failure" : "failures";
  const label = `Show ${formatCount(count)} more ${noun}`;
  return `<button type="button" class="home-show-all" data-act="show-all" data-key="show-all">${label}</button>`;
}

const HTML = {
  worker: (item) =>
    textHtml("No worker is running. Start one:", waitingText(item.count)) +
    commandHtml("tailboard worker"),
  unserved: (item) =>
    textHtml(`No worker serves the queue ${item.queue}. Start one:`, waitingText(item.count)) +
    commandHtml(`tailboard worker --queues ${item.queue}`),
  paused: (item, context) =>
    textHtml(describePause(item), waitingText(item.count)) +
    buttonsHtml(item, [["resume", "Resume", "queues", `Resume the queue ${item.queue}`]], context),
  failure: failureHtml,
  skipped: skippedHtml,
  stopped: (item, context) =>
    textHtml(`The schedule of ${item.name} is paused.`, "Scheduled runs are skipped.") +
    buttonsHtml(item, [["unpause", "Resume schedule", "save"], DISMISS], context),
};

const DISMISS = ["dismiss", "Dismiss", ""]; // only for this browser, so everybody may

function textHtml(text, more) {
  const rest = more ? `<span class="home-why">${escapeHtml(more)}</span>` : "";
  return `<span class="home-text"><b>${escapeHtml(text)}</b>${rest}</span>`;
}

function waitingText(count) {
  if (!count) {
    return "";
  }
  return count === 1 ? "1 job is waiting." : `${formatCount(count)} jobs are waiting.`;
}

function describePause({ queue, pause }) {
  const by = pause.by ? ` by ${pause.by}` : "";
  return `The queue ${queue} is paused${by}${pause.why ? `: ${pause.why}` : "."}`;
}

export function commandHtml(command) {
  const text = escapeHtml(command);
  return (
    `<span class="home-command"><code>${text}</code> ` +
    `<button type="button" data-act="copy" data-text="${text}">Copy</button></span>`
  );
}

function failureHtml(item, context) {
  const { newest, name, more } = item;
  const count = more > 1 ? `<span class="home-count">×${formatCount(more)}</span>` : "";
  const ago = `${formatRoughly(context.now - Date.parse(item.at))} ago`;
  const href = escapeHtml(context.link({ job: newest.id, at: "" }));
  return (
    `<span class="home-text"><a class="home-name" href="${href}" data-act="go" data-key="${escapeHtml(item.key)}">` +
    `${statusIcon(newest.status, context.statuses)}<b>${escapeHtml(name)}</b></a>${count}` +
    `<span class="home-ago">${escapeHtml(ago)}</span>` +
    `<span class="home-why">${escapeHtml(explain(newest))}</span></span>` +
    buttonsHtml(item, [["rerun", "Run again", needOf("rerun", newest)], DISMISS], context)
  );
}

/** Why a job failed, as its row in the list says it; its exit code if nothing else is known. */
export function explain(job) {
  return shortReason(job) || formatExit(job);
}

function skippedHtml(item, context) {
  const runs = item.count === 1 ? "1 run" : `${formatCount(item.count)} runs`;
  const at = formatClock(Date.parse(item.at), context.now);
  const why = `${runs} skipped because an earlier run or a job with the same key was still active, last at ${at}`;
  const href = escapeHtml(context.link({ job: item.job, at: "" }));
  const link = item.job ? ` <a href="${href}" data-act="go">Show that run</a>` : "";
  return (
    `<span class="home-text"><b>${escapeHtml(item.name)} missed scheduled runs.</b>` +
    `<span class="home-why">${escapeHtml(why)}${link}</span></span>` +
    buttonsHtml(item, [DISMISS], context)
  );
}

/** `buttons`: for each one what it does, its label, and the action of access.js that it needs. */
function buttonsHtml(item, buttons, { isDown }) {
  const subject = escapeHtml(item.name ?? item.queue);
  const all = buttons.map(([act, label, needs, spoken = `${label} ${subject}`]) => {
    const disabled = isDown && act !== "dismiss" ? "disabled" : "";
    const key = escapeHtml(`${act} ${item.key}`);
    return `<button type="button" data-needs="${needs}" data-act="${act}" data-key="${key}" aria-label="${escapeHtml(spoken)}" ${disabled}>${label}</button>`;
  });
  return `<span class="home-buttons">${all.join("")}</span>`;
}
