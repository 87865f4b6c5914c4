/* Keyboard shortcuts. Each part of the page adds its own; a table shows them all. */

const shortcuts = new Map(); // key -> { does, act }

/** `act` is called when the key is pressed outside of any field. */
export function addShortcut(key, does, act) {
  shortcuts.set(key, { does, act });
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

export function shortcutRowsHtml() {
  const rows = [...shortcuts].map(
    ([key, { does }]) => `<tr><th scope="row"><kbd>${key}</kbd></th><td>${does}</td></tr>`,
  );
  return `<tbody>${rows.join("")}</tbody>`;
}

addEventListener("keydown", onKey, { capture: true });
