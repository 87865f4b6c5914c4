/* The home of a Tailboard that has no jobs yet. Pure. */

import { escapeHtml } from "./format.js";
import { commandHtml } from "./home_attention.js";

export const EXAMPLES = [
  {
    name: "count to ten",
    command: 'for n in $(seq 10); do echo "step $n of 10"; sleep 1; done',
    what: "writes a line each second, so you can watch its log live",
  },
  { name: "disk space", command: "df -h", what: "ends at once" },
  {
    name: "a failure",
    command: "echo Reading the configuration…; cat /no/such/file.yml",
    what: "fails, to show you how Tailboard reports why",
  },
];

/** `slots` as in the header's data; `problem`: why the last example could not be started. */
export function welcomeHtml({ workers, slots, isDown, problem, canSubmit }) {
  const examples = EXAMPLES.map(
    ({ name, command, what }, index) =>
      `<li><button type="button" data-act="example" data-index="${index}" data-key="example ${index}" ${isDown ? "disabled" : ""}>` +
      `<b>Run “${escapeHtml(name)}”</b> <span>${escapeHtml(what)}</span><code>${escapeHtml(command)}</code></button></li>`,
  );
  const wrong = problem ? `<p class="home-error" role="alert">${escapeHtml(problem)}</p>` : "";
  return (
    `<p class="home-lead">Tailboard runs your team's scripts as jobs and shows their logs live.</p>` +
    (canSubmit
      ? `<h2>No jobs yet. Try one:</h2><ul class="home-examples">${examples.join("")}</ul>${wrong}` +
        `${workerHtml(workers, slots)}<p>Press <kbd>c</kbd> or choose “+ Run” to write your own.</p>`
      : `<h2>No jobs yet.</h2>${workerHtml(workers, slots)}`)
  );
}

function workerHtml(workers, slots) {
  if (workers.length === 0) {
    return `<p class="home-worker"><b>No worker is running.</b> Start one: ${commandHtml("tailboard worker")}</p>`;
  }
  const what = workers.length === 1 ? "A worker is" : `${workers.length} workers are`;
  const room = slots.all === 1 ? "1 slot" : `${slots.all} slots`;
  return `<p class="home-worker">✓ ${what} running, with ${room}.</p>`;
}
