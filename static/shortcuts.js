/* Keyboard shortcuts. Each part of the page adds its own; a sheet shows them all, by group. */

const GROUPS = ["Page", "List", "Job", "Log"]; // in the order of the sheet
const shortcuts = new Map(); // key -> { does, act, group }

/** `act` is called when the key is pressed outside of any field. `does` says what it does, and
    `group` is one of GROUPS. */
export function addShortcut(key, does, act, group) {
  shortcuts.set(key, { does, act, group });
}

function isTyping(event) {
  const [target] = event.composedPath();
  return target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select") ?? false;
}

function isInDialog(event) {
  return event.composedPath().some((node) => node.matches?.("dialog, [popover]"));
}

function onKey(event) {
  const shortcut = shortcuts.get(event.key);
  const modified = event.ctrlKey || event.metaKey || event.altKey;
  if (!shortcut || modified || isTyping(event) || isInDialog(event)) {
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation(); // Streamlit has shortcuts of its own
  shortcut.act();
}

function rowHtml([key, { does }]) {
  return `<tr><th scope="row"><kbd>${key}</kbd></th><td>${does}</td></tr>`;
}

/** The groups of the sheet, each as the body of a table with its name as heading. */
export function shortcutRowsHtml() {
  const bodies = GROUPS.map((name) => {
    const rows = [...shortcuts].filter(([, { group }]) => group === name).map(rowHtml);
    const heading = `<tr><th scope="rowgroup" colspan="2">${name}</th></tr>`;
    return rows.length > 0 ? `<tbody>${heading}${rows.join("")}</tbody>` : "";
  });
  return bodies.join("");
}

addEventListener("keydown", onKey, { capture: true });
