/* What the palette offers. Each item has `act`, which is called when it is chosen. An item with
   `form` opens a form instead. */

import { can } from "./access.js";
import { EMPTY_ADDRESS } from "./address.js";
import { ask } from "./errands.js";
import { formatClock, formatStatus, statusIcon } from "./format.js";
import { formatKey } from "./key_names.js";
import { DEFAULT_QUEUE, page } from "./page_state.js";
import { queueNames } from "./queue_words.js";
import { saved } from "./saved_state.js";
import { shortcutActions } from "./shortcuts.js";
import { setTheme, THEMES } from "./theme.js";

const RECENT = 5; // jobs that are offered before anything is typed
const FIRST_SAVED = 8; // saved commands, as well
const NOT_OFFERED = ["j", "k", "Mod+k", "Escape"]; // keys that make no sense here
const DIGIT = /^\d$/; // each status has an item of its own

/** The items for a text; `found` are the jobs that the API has found for it. */
export function paletteItems(wanted, found) {
  return [...jobItems(wanted, found), ...savedItems(wanted), ...actionItems(), ...queueItems()];
}

// --- Jobs ---

function jobItems(wanted, found) {
  const known = new Set(page.jobs.map((job) => job.id));
  const others = found.filter((job) => !known.has(job.id));
  const listed = wanted ? page.jobs : newestOfEachTitle(page.jobs).slice(0, RECENT);
  return [...listed.map((job) => jobItem(job, false)), ...others.map((job) => jobItem(job, true))];
}

function newestOfEachTitle(jobs) {
  const byTitle = new Map();
  for (const job of jobs) {
    byTitle.set(job.title, byTitle.get(job.title) ?? job);
  }
  return [...byTitle.values()];
}

function jobItem(job, isFound) {
  const at = formatClock(Date.parse(job.started_at ?? job.submitted_at), page.now);
  return {
    key: `job ${job.id}`,
    group: "Jobs",
    text: job.title,
    also: job.id,
    detail: `${formatStatus(job.status)}, ${at}`,
    icon: statusIcon(job.status, page.statuses),
    isFound,
    act: () => page.show(job.id),
  };
}

// --- Saved commands ---

function savedItems(wanted) {
  const commands = can("run-saved") ? (saved.commands ?? []) : [];
  return (wanted ? commands : commands.slice(0, FIRST_SAVED)).map((command) => ({
    key: `saved ${command.saved}`,
    group: "Saved commands",
    text: `Run ${command.saved}`,
    detail: command.command_text.replace(/\s+/g, " "),
    form: { title: `Run ${command.saved}`, command },
  }));
}

// --- Actions ---

function actionItems() {
  return [
    action("Open the last failure", openLastFailure),
    action("Go home", () => page.go(EMPTY_ADDRESS)),
    ...keyItems(),
    ...filterItems(),
    ...Object.entries(THEMES).map(([theme, label]) =>
      action(`Theme: ${label.toLowerCase()}`, () => setTheme(theme)),
    ),
  ];
}

function action(text, act, keys = "") {
  return { key: text, group: "Actions", text, keys, act };
}

async function openLastFailure() {
  const { job, error } = await ask("last_failure");
  if (job) {
    page.show(job.id);
  } else {
    page.toast(error ?? "No job has failed.");
  }
}

/** The actions that have a key. */
function keyItems() {
  const offered = shortcutActions(Boolean(page.address.job)).filter(
    ({ key }) => !NOT_OFFERED.includes(key) && !DIGIT.test(key),
  );
  const byText = new Map(); // several keys can do the same
  for (const { key, does, act } of offered) {
    const text = does[0].toUpperCase() + does.slice(1);
    byText.set(text, byText.get(text) ?? action(text, act, formatKey(key)));
  }
  return [...byText.values()];
}

function filterItems() {
  const { me } = page.status;
  const show = (change) => () => page.go({ before: "", ...change });
  const mine = me?.named && me.name ? [action("Show only my jobs", show({ by: me.name }))] : [];
  const statuses = Object.keys(page.statuses).map((status) =>
    action(`Show ${formatStatus(status)} jobs`, show({ status })),
  );
  return [
    action("Show all jobs", show({ status: "", queue: "", q: "", by: "" })),
    ...mine,
    ...statuses,
  ];
}

// --- Queues ---

function queueItems() {
  const served = page.status.workers.flatMap((worker) => queueNames(worker.queues));
  const listed = page.jobs.map((job) => job.queue);
  const names = new Set([DEFAULT_QUEUE, ...served, ...listed, ...page.pausedQueues]);
  const items = (queue) =>
    can("queues") ? [switchItem(queue), showItem(queue)] : [showItem(queue)];
  return [...names].toSorted().flatMap(items);
}

function showItem(queue) {
  const act = () => page.go({ queue, before: "" });
  return { key: `queue ${queue}`, group: "Queues", text: `Show jobs of queue ${queue}`, act };
}

function switchItem(queue) {
  const isPaused = page.pausedQueues.has(queue);
  const text = `${isPaused ? "Resume" : "Pause"} queue ${queue}`;
  const item = { key: `switch ${queue}`, group: "Queues", text };
  if (isPaused) {
    return { ...item, act: () => changeQueue("resume", { queue }) };
  }
  return { ...item, form: { title: text, queue } };
}

/** Pauses or resumes a queue; resolves to an error, which is "" if it worked. */
export async function changeQueue(errand, details) {
  const { error = "" } = await ask(errand, details);
  if (error && errand === "resume") {
    page.toast(error);
  }
  page.refresh();
  return error;
}
