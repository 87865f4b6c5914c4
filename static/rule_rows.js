/* The rules in the form of a saved command: their HTML, and what is wrong with them. Pure. */

import { escapeHtml } from "./format.js";
import { EVENT_GROUPS, eventWord } from "./notice_words.js";

const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/; // as in tailboard/notify_rules.py

const URL_FORM = /^[a-z][a-z0-9+.-]*:\/\/\S+$/i;
const WRONG_TARGET =
  "Choose a name, or enter a URL, such as mailto://user:password@example.org or ntfys://ntfy.sh/topic.";

/** A row for a rule. `isUrl`: its URL is typed, not chosen by name. */
export function newRule({ on, to }) {
  return { on, to, isUrl: !NAME.test(to) };
}

/** The errors of the rows, by the name of the row's field. */
export function wrongRules(rows) {
  if (rows.length === 0) {
    return { notify: "Add a rule, or choose “Nobody”." };
  }
  const wrong = rows.map(({ on, to }, index) => [`rule ${index}`, wrongRule(on, to.trim())]);
  return Object.fromEntries(wrong.filter(([, sentence]) => sentence));
}

function wrongRule(on, to) {
  if (on.length === 0) {
    return "Choose at least one event.";
  }
  return NAME.test(to) || URL_FORM.test(to) ? "" : WRONG_TARGET;
}

/** `names`: of the URLs that rules can name. */
export function ruleRowsHtml(rows, names) {
  return rows.map((row, index) => ruleRowHtml(row, index, names)).join("");
}

function ruleRowHtml(row, index, names) {
  const number = index + 1;
  return (
    `<li data-rule="${index}"><fieldset><legend class="unseen">Rule ${number}</legend>` +
    `${Object.entries(EVENT_GROUPS)
      .map(([group, events]) => eventsHtml(group, events, row))
      .join("")}` +
    `<div class="rule-to"><span class="rule-label" aria-hidden="true">To</span>${nameHtml(row, index, names)}${urlHtml(row, index)}` +
    `<button type="button" class="rule-test" aria-label="Test rule ${number}">Test</button>` +
    `<button type="button" class="rule-remove" aria-label="Remove rule ${number}">Remove</button></div>` +
    `<p class="wrong" id="rule-wrong-${index}" data-field="rule ${index}" role="alert"></p>` +
    `<p class="rule-answer" role="status"></p></fieldset></li>`
  );
}

function eventsHtml(group, events, { on }) {
  const boxes = Object.entries(events).map(([event, meaning]) => {
    const checked = on.includes(event) ? "checked" : "";
    return (
      `<label title="${escapeHtml(meaning)}">` +
      `<input type="checkbox" data-event="${event}" ${checked}>${eventWord(event)}</label>`
    );
  });
  return `<div class="rule-events" role="group" aria-label="${group}"><span class="rule-label" aria-hidden="true">${group}</span>${boxes.join("")}</div>`;
}

/** The choice of a name; that of the rule is offered even if no URL has it now. */
function nameHtml({ to, isUrl }, index, names) {
  const offered = isUrl || to === "" || names.includes(to) ? names : [...names, to];
  const options = offered.map((name) => {
    const selected = !isUrl && name === to ? "selected" : "";
    return `<option value="${escapeHtml(name)}" ${selected}>${escapeHtml(name)}</option>`;
  });
  const field = isUrl ? "" : fieldAttributes(index);
  return (
    `<select class="rule-name" ${field} aria-label="To">` +
    `${options.join("")}<option value="" ${isUrl ? "selected" : ""}>URL…</option></select>`
  );
}

function urlHtml({ to, isUrl }, index) {
  if (!isUrl) {
    return "";
  }
  return (
    `<input class="rule-url" ${fieldAttributes(index)} value="${escapeHtml(to)}" aria-label="URL" ` +
    'placeholder="mailto://user:password@example.org" autocomplete="off" spellcheck="false">'
  );
}

function fieldAttributes(index) {
  return `name="rule ${index}" aria-describedby="rule-wrong-${index}"`;
}

/** How to name a URL; "" if some have names, or if that is not known. */
export function namesNoteHtml(names) {
  if (names === null || names.length > 0) {
    return "";
  }
  return (
    "No URL has a name yet. With a name, no command contains a token: " +
    "<code>tailboard notify set NAME URL</code>"
  );
}
