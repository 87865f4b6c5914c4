/* Texts and HTML of saved commands: links, rows, fields. Pure. */

import { EMPTY_ADDRESS } from "./address.js";
import { escapeHtml, formatClock, formatNext, formatStatus, statusIcon } from "./format.js";
import { barsHtml } from "./job_rows.js";

// --- Links ---

/** The saved command in an address, and the values of its params; null if the address has none. */
export function readSavedLink(search) {
  const given = new URLSearchParams(search);
  const name = given.get("saved");
  if (!name) {
    return null;
  }
  const pairs = [...given].filter(([key]) => key !== "saved" && !(key in EMPTY_ADDRESS));
  return { name, values: Object.fromEntries(pairs) };
}

export function savedLink(name, values = {}) {
  return `?${new URLSearchParams({ saved: name, ...values })}`;
}

/** A sentence about the first value of a link that does not fit the params; "" if all fit. */
export function linkProblem(command, values) {
  const known = new Map(command.params.map((param) => [param.name, param]));
  for (const [name, value] of Object.entries(values)) {
    const param = known.get(name);
    if (!param) {
      const names = [...known.keys()].join(", ");
      const takes = names ? `takes only ${names}` : "takes no parameters";
      return `This link sets ${name}, but ${command.saved} ${takes}.`;
    }
    if (param.secret) {
      return `This link sets ${name}, which is secret. A link must not contain it: type it here.`;
    }
    if (param.choices && !param.choices.includes(value)) {
      return `This link sets ${name} to “${value}”, which is not one of its choices.`;
    }
  }
  return "";
}

// --- Saving ---

/** A valid name for a saved command, made from a job's title without its variables; "" if nothing
    remains of it. */
export function suggestName(title) {
  const words = title.replace(/\$(\{[^}]*\}?|\w+)/g, " ");
  const plain = words.toLowerCase().replace(/[^a-z0-9_.]+/g, "-");
  return plain
    .replace(/^[^a-z0-9]+/, "")
    .slice(0, 40)
    .replace(/[-._]+$/, "");
}

// --- The list ---

/** The saved commands whose name or command contains all words of the text. */
export function matchCommands(commands, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return commands.filter((command) => {
    const searched = `${command.saved} ${command.command_text}`.toLowerCase();
    return words.every((word) => searched.includes(word));
  });
}

function nextText(command, now) {
  if (command.cron && command.paused) {
    return "paused";
  }
  return command.next_run ? `next ${formatNext(Date.parse(command.next_run), now)}` : "";
}

/** The content of a row: name, last runs, next run, and the command on one line. */
export function savedRowHtml(command, { statuses, now }) {
  const [last] = command.runs;
  const spoken = last ? `<span class="unseen">last run: ${formatStatus(last.status)}</span>` : "";
  const line = command.command_text.replace(/\s+/g, " ");
  return (
    `<b class="name">${escapeHtml(command.saved)}</b>${barsHtml(command.runs, statuses)}${spoken}` +
    `<span class="when">${escapeHtml(nextText(command, now))}</span>` +
    `<code>${escapeHtml(line)}</code>`
  );
}

// --- One saved command ---

/** The schedule, on one or two lines; "" if there is none. */
export function timesHtml(command, now) {
  if (!command.cron) {
    return "";
  }
  const next = command.paused
    ? "<b>Paused</b>: scheduled runs are skipped."
    : escapeHtml(nextText(command, now));
  return `<code>${escapeHtml(command.cron)}</code> ${escapeHtml(command.zone)} · ${next}${skippedHtml(command, now)}`;
}

function skippedHtml({ skipped }, now) {
  if (!skipped?.count) {
    return "";
  }
  const runs = skipped.count === 1 ? "1 run" : `${skipped.count} runs`;
  const at = formatClock(Date.parse(skipped.last_at), now);
  return `<br>${runs} skipped because an earlier run or a job with the same key was still active, last at ${escapeHtml(at)}`;
}

/** Links to the last runs, newest first. */
export function runsHtml(runs, statuses, now) {
  const links = runs.map((run) => {
    const at = formatClock(Date.parse(run.submitted_at), now);
    return (
      `<a href="?job=${escapeHtml(run.id)}" data-job="${escapeHtml(run.id)}">` +
      `${statusIcon(run.status, statuses)}${escapeHtml(at)}</a>`
    );
  });
  return links.length > 0 ? `<span class="faint">Last runs</span>${links.join("")}` : "";
}

/** A field for each param, filled with its value or else its default. The one of a secret param is
    always empty. */
export function fieldsHtml(params, values) {
  return params.map((param) => fieldHtml(param, values[param.name] ?? param.default)).join("");
}

function fieldHtml(param, value) {
  const name = escapeHtml(param.name);
  const label = escapeHtml(param.label || param.name);
  const shown = param.label ? `${label} <code class="faint">${name}</code>` : label;
  const attributes = `id="param-${name}" name="${name}" aria-describedby="wrong-${name}"`;
  const text = `<input ${attributes} value="${escapeHtml(value)}" autocomplete="off" spellcheck="false">`;
  const choice = () => `<select ${attributes}>${optionsHtml(param, value)}</select>`;
  const secret = `<input type="password" ${attributes} autocomplete="off" placeholder="secret: needed for each run">`;
  const other = param.choices ? choice() : text;
  const field = param.secret ? secret : other;
  return (
    `<label for="param-${name}">${shown}</label>${field}` +
    `<p class="wrong" id="wrong-${name}" data-field="${name}"></p>`
  );
}

function optionsHtml(param, value) {
  const chosen = param.choices.includes(value) ? value : param.default;
  const options = param.choices.map((choice) => {
    const selected = choice === chosen ? "selected" : "";
    return `<option value="${escapeHtml(choice)}" ${selected}>${escapeHtml(choice)}</option>`;
  });
  const none = param.default === null ? '<option value="">Choose…</option>' : "";
  return none + options.join("");
}

/** The values that a link may contain. */
export function publicValues(params, values) {
  const secret = new Set(params.filter((param) => param.secret).map(({ name }) => name));
  return Object.fromEntries(Object.entries(values).filter(([name]) => !secret.has(name)));
}

/** Empties the fields of secret params: a page keeps their values no longer than it needs them. */
export function clearSecrets(form) {
  for (const field of form.querySelectorAll('input[type="password"]')) {
    field.value = "";
  }
}

/** The values for a run, from the typed texts. An empty field is left out, unless the param has a
    default, which the empty text then replaces. */
export function givenValues(params, typed) {
  const given = params.filter((param) => typed[param.name] !== "" || param.default !== null);
  return Object.fromEntries(given.map(({ name }) => [name, typed[name]]));
}
