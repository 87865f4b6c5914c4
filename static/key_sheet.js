/* The sheet of all keyboard shortcuts, by group. */

import { setHtml } from "./dom.js";
import { formatKey } from "./key_names.js";
import { areSingleKeysOn, shortcutGroups } from "./shortcuts.js";

const MOST_KEYS = 3; // of one row; of more, only the first and the last are shown

/** Fills and opens the dialog of the sheet. */
export function showKeySheet(dialog) {
  fill(dialog);
  dialog.showModal();
}

/** Fills it again if it is open: parts of the page that have been loaded since, and a change of the
    visitor's role, add and remove keys. */
export function updateKeySheet(dialog) {
  if (dialog.open) {
    fill(dialog);
  }
}

function fill(dialog) {
  const groups = shortcutGroups().map(([name, members]) => groupHtml(name, members));
  setHtml(dialog.querySelector(".key-groups"), groups.join(""));
  dialog.querySelector(".keys-off").hidden = areSingleKeysOn();
}

function groupHtml(name, members) {
  const keysOf = new Map(); // what they do -> keys
  for (const { key, does } of members) {
    keysOf.set(does, [...(keysOf.get(does) ?? []), key]);
  }
  const rows = [...keysOf].map(
    ([does, keys]) => `<tr><th scope="row">${keysHtml(keys)}</th><td>${does}</td></tr>`,
  );
  return `<section><h3>${name}</h3><table>${rows.join("")}</table></section>`;
}

function keysHtml(keys) {
  const shown = keys.map((key) => `<kbd>${formatKey(key)}</kbd>`);
  return shown.length > MOST_KEYS ? `${shown[0]} … ${shown.at(-1)}` : shown.join(" ");
}
