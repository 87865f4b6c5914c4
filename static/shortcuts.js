/* Keyboard shortcuts. Each part of the page adds its own; key_sheet.js and the palette show them.

   A key is named as in KeyboardEvent.key; "Mod+" before it stands for Ctrl, or ⌘ on a Mac. A key
   without it works outside of fields and dialogs only. The visitor can switch off all keys that
   type a character, because speech input types them by mistake (WCAG 2.1.4). */

import { can } from "./access.js";
import { readSetting, writeSetting } from "./page_state.js";

const GROUPS = ["Page", "List", "Job", "Log"]; // in the order of the sheet
const OF_A_JOB = ["Job", "Log"]; // these groups need an open job
const SINGLE_KEYS = "single-keys"; // a setting
const shortcuts = new Map(); // key -> { key, does, act, group }
const notes = []; // keys of the sheet that other code handles

/** Calls `act` when the key is pressed; the key is left to the browser if `act` returns false.
    `does` is what the sheet shows, and `group` is one of GROUPS. `needs()` returns the action of
    access.js that the visitor must be allowed to do; "" if everybody may use the key. */
export function addShortcut(key, does, act, group, needs = () => "") {
  shortcuts.set(key, { key, does, act, group, needs });
}

/** Shows a key in the sheet that other code handles. */
export function addKeyNote(key, does, group, needs = () => "") {
  if (!notes.some((note) => note.key === key && note.does === does)) {
    notes.push({ key, does, group, needs });
  }
}

function isAllowed({ needs }) {
  return needs() === "" || can(needs());
}

export function areSingleKeysOn() {
  return readSetting(SINGLE_KEYS, true);
}

export function setSingleKeys(on) {
  writeSetting(SINGLE_KEYS, on);
}

/** All keys of the sheet by group, as [name, members]. */
export function shortcutGroups() {
  const all = [...shortcuts.values(), ...notes].filter(isAllowed);
  return GROUPS.map((name) => [name, all.filter(({ group }) => group === name)]);
}

/** What the keys do, for the palette; without the actions on a job unless one is open. */
export function shortcutActions(hasJob) {
  const allowed = [...shortcuts.values()].filter(isAllowed);
  return allowed.filter(({ group }) => hasJob || !OF_A_JOB.includes(group));
}

function isTyping(event) {
  const [target] = event.composedPath();
  return target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select") ?? false;
}

/** Is the focus in a dialog or popover? One that has just closed keeps the focus for a frame. */
function isInDialog(event) {
  return event.composedPath().some((node) => node.matches?.("dialog[open], :popover-open"));
}

/** Is any dialog or popover open, wherever the focus is? The browser closes it on Escape. */
function hasOpenDialog() {
  const roots = [...document.querySelectorAll("*")].map((node) => node.shadowRoot);
  return roots.some((root) => root?.querySelector("dialog[open], :popover-open"));
}

/** The name of the key that was pressed; "" if it cannot be a shortcut here. */
function pressedKey(event) {
  if (event.ctrlKey || event.metaKey) {
    return event.altKey || event.shiftKey ? "" : `Mod+${event.key.toLowerCase()}`;
  }
  const isCharacter = event.key.length === 1;
  const isOff = isCharacter && !areSingleKeysOn();
  return event.altKey || isOff || isTyping(event) ? "" : event.key;
}

function onKey(event) {
  const shortcut = shortcuts.get(pressedKey(event));
  if (!shortcut || event.key === "Escape" || event.isComposing || isInDialog(event)) {
    return;
  }
  if (!isAllowed(shortcut)) {
    return;
  }
  if (shortcut.act() !== false) {
    event.preventDefault();
    event.stopImmediatePropagation(); // Streamlit has shortcuts of its own
  }
}

/** Escape comes last: fields, dialogs and popovers handle it first. An empty field only loses the
    focus. */
function onEscape(event) {
  if (event.key !== "Escape" || event.defaultPrevented || isInDialog(event) || hasOpenDialog()) {
    return;
  }
  const [target] = event.composedPath();
  if (!isTyping(event)) {
    shortcuts.get("Escape")?.act();
  } else if (!target.value) {
    target.blur();
  }
}

addEventListener("keydown", onKey, { capture: true });
addEventListener("keydown", onEscape);
