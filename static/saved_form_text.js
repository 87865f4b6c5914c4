/* The params and the schedule in the form of a saved command: what it suggests, and its HTML.
   Pure. */

import { escapeHtml } from "./format.js";
import { findVariables } from "./shell_variables.js";

export const HIDDEN = "•••"; // replaces a value that the server did not send, and keeps it
const PARAM = /^(?!JOB_|TAILBOARD_)[A-Z][A-Z0-9_]{0,63}$/; // as the API allows it
// Variables that the shell or the system sets.
const SYSTEM =
  /^(HOME|PATH|PWD|OLDPWD|USER|LOGNAME|SHELL|SHLVL|LANG|LC_\w+|TERM|TMPDIR|HOSTNAME|IFS|PS[0-4]|RANDOM|SECONDS|LINENO|PPID|E?UID|OPTARG|OPTIND|REPLY|BASH\w*|FUNCNAME|PIPESTATUS)$/;

export function isParamName(name) {
  return PARAM.test(name);
}

/** The environment in the form's text, as a map. */
export function readEnvironment(text) {
  const lines = text.split("\n").filter((line) => line.includes("="));
  const pairs = lines.map((line) => {
    const name = line.slice(0, line.indexOf("="));
    return [name, line.slice(name.length + 1)];
  });
  return new Map(pairs);
}

/** The text of an environment with the values that it hides. */
export function revealEnvironment(text, values) {
  const lines = text.split("\n").map((line) => {
    const name = line.slice(0, Math.max(0, line.indexOf("=")));
    return line === `${name}=${HIDDEN}` && name in values ? `${name}=${values[name]}` : line;
  });
  return lines.join("\n");
}

// --- Params ---

/** The params of a saved command as the form shows them. `ticked`: it is a param; `kept`: the row
    stays even if the command does not use it. */
export function givenParams(params) {
  return params.map(({ name, label, default: value, choices, secret = false }) => ({
    name,
    ticked: true,
    kept: true,
    label: label ?? "",
    default: value ?? "",
    required: value === null,
    choices: (choices ?? []).join("\n"),
    secret,
  }));
}

/** The rows of params for a command and an environment: those of `rows`, without suggestions that
    no longer apply, and with new ones. With `ticks`, a variable that the command uses and that
    nothing defines is ticked. */
export function suggestParams(rows, command, environment, { ticks = true, except = "" } = {}) {
  const used = new Map(findVariables(command).map((variable) => [variable.name, variable]));
  const names = [...used.keys(), ...environment.keys()].filter(
    (name) => PARAM.test(name) && !SYSTEM.test(name) && name !== except,
  );
  const suggested = new Set(names);
  const remaining = rows.filter((row) => row.kept || suggested.has(row.name));
  const known = new Set(remaining.map((row) => row.name));
  const added = [...suggested].filter((name) => !known.has(name));
  const isDefined = (name) => environment.has(name) || used.get(name)?.assigned;
  return [
    ...remaining,
    ...added.map((name) => {
      const value = environment.get(name) ?? used.get(name)?.fallback ?? null;
      return newParam(name, value, ticks && !isDefined(name), false);
    }),
  ];
}

/** A row for a new param; without a default, each run must set it. */
export function newParam(name, value = null, ticked = true, kept = true) {
  const required = value === null;
  const text = value ?? "";
  return { name, ticked, kept, label: "", default: text, required, choices: "", secret: false };
}

/** The params without a default, and the secret ones: they prevent a schedule. */
export function unscheduledParams(rows) {
  const wrong = rows.filter((row) => row.ticked && (row.required || row.secret));
  return Object.fromEntries(
    wrong.map(({ name, secret }) => [
      `param ${name}`,
      secret
        ? `${name} is secret, so this cannot run on a schedule.`
        : `${name} needs a default before this can run on a schedule.`,
    ]),
  );
}

/** `opened`: the names of the rows whose label and choices are shown; `hiddenHint`: what is said
    about a default that the form hides. */
export function paramRowsHtml(rows, opened, hiddenHint) {
  const first = rows.find((row) => row.ticked);
  const items = rows.map((row) => {
    const context = { isFirst: row === first, isOpen: opened.has(row.name), hiddenHint };
    return paramRowHtml(row, context);
  });
  return items.join("");
}

function paramRowHtml(row, { isFirst, isOpen, hiddenHint }) {
  const name = escapeHtml(row.name);
  const tick =
    `<label class="param-tick"><input type="checkbox" data-set="ticked" ${checked(row.ticked)}>` +
    `<code>${name}</code></label>`;
  if (!row.ticked) {
    return `<li data-name="${name}">${tick}</li>`;
  }
  const { value, hint } = defaultOf(row, hiddenHint);
  const fixed = row.secret ? "disabled" : "";
  return (
    `<li data-name="${name}" class="asked">${tick}` +
    `<input name="param ${name}" data-set="default" value="${escapeHtml(value)}" autocomplete="off" ` +
    `spellcheck="false" placeholder="${hint}" ${fixed} ` +
    `aria-label="Default of ${name}" aria-describedby="param-wrong-${name}">` +
    `<label class="save-check"><input type="checkbox" data-set="required" ${fixed} ` +
    `aria-label="${name} is required" ${checked(row.required || row.secret)}>required</label>` +
    `<button type="button" class="param-more" aria-expanded="${isOpen}" ` +
    `title="Label and choices" aria-label="Label and choices of ${name}">⋯</button>` +
    `<p class="wrong" id="param-wrong-${name}" data-field="param ${name}" role="alert"></p>` +
    `${extraHtml(row, name, isFirst, isOpen)}</li>`
  );
}

/** The default as the form shows it, and the hint in an empty field. */
function defaultOf(row, hiddenHint) {
  if (row.secret) {
    return { value: "", hint: "secret" };
  }
  if (row.required) {
    return { value: "", hint: "no default" };
  }
  const isHidden = row.default === HIDDEN;
  return { value: isHidden ? "" : row.default, hint: isHidden ? hiddenHint : "empty" };
}

function extraHtml(row, name, isFirst, isOpen) {
  const choices =
    '<label>Choices, one per line<textarea data-set="choices" rows="3" spellcheck="false" ' +
    `aria-label="Choices of ${name}" placeholder="any text">${escapeHtml(row.choices)}</textarea></label>`;
  return (
    `<div class="param-extra" ${isOpen ? "" : "hidden"}>` +
    `<label>Label<input data-set="label" value="${escapeHtml(row.label)}" maxlength="200" ` +
    `autocomplete="off" aria-label="Label of ${name}" placeholder="${name}"></label>` +
    `${row.secret ? "" : choices}` +
    '<label class="save-check" title="Typed for each run, and shown nowhere">' +
    `<input type="checkbox" data-set="secret" aria-label="${name} is secret" ${checked(row.secret)}>` +
    "Secret, typed for each run</label>" +
    `<button type="button" class="param-up" aria-label="Move ${name} up" ` +
    `${isFirst ? "disabled" : ""}>Move up</button></div>`
  );
}

function checked(on) {
  return on ? "checked" : "";
}

// --- The command that follows ---

/** The names of the other saved commands, for a datalist. */
export function commandNamesHtml(commands, own) {
  const others = commands.filter((command) => command.saved !== own);
  return others.map((command) => `<option value="${escapeHtml(command.saved)}">`).join("");
}

// --- The schedule ---

/** The next times of a schedule: in the visitor's zone, and in the schedule's if that differs. */
export function previewHtml(times, zone, ownZone) {
  if (times.length === 0) {
    return "<p>No further times.</p>";
  }
  const items = times.map((text) => {
    const time = new Date(text);
    const there = zone === ownZone ? "" : formatInZone(time, zone);
    const other = there ? ` <span class="faint">${escapeHtml(there)}</span>` : "";
    return `<li><time datetime="${escapeHtml(text)}">${formatInZone(time, ownZone)}</time>${other}</li>`;
  });
  return `<p>${headingOf(times.length, zone, ownZone)}</p><ol>${items.join("")}</ol>`;
}

function headingOf(count, zone, ownZone) {
  const what = count === 1 ? "Next time" : "Next times";
  return zone === ownZone ? what : `${what}, here and in ${escapeHtml(zone)}`;
}

function formatInZone(time, zone) {
  const options = {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  };
  try {
    return new Intl.DateTimeFormat([], { ...options, timeZone: zone }).format(time);
  } catch {
    return ""; // a zone that the API knows and this browser does not
  }
}
