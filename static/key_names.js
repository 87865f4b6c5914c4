/* How keys are written for the visitor: with ⌘ on a Mac, and not at all on a touch screen. */

const isMac = /^(Mac|iP)/.test(navigator.userAgentData?.platform ?? navigator.platform);
const NAMES = { Escape: "Esc", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→" };

/** Is a finger the visitor's main pointer? Then there is probably no keyboard. */
export const isTouch = matchMedia("(pointer: coarse)").matches;

/** A key of shortcuts.js as text: "Mod+k" is "Ctrl+K", or "⌘K" on a Mac. */
export function formatKey(key) {
  const [name, modifier] = key.split("+").reverse();
  if (!modifier) {
    return NAMES[name] ?? name;
  }
  const shown = name.length === 1 ? name.toUpperCase() : name;
  const prefix = modifier === "Mod" && isMac ? "⌘" : `${modifier.replace("Mod", "Ctrl")}+`;
  return `${prefix}${shown}`;
}

/** Adapts the key hints in the HTML of a component to a Mac or a touch screen: elements with the
    class `key-hint`, and placeholders that end with a key after two spaces. */
export function adaptKeyHints(root) {
  for (const node of root.querySelectorAll(".key-hint")) {
    node.textContent = node.textContent.replace(/Ctrl\+(\w+)/, (_, name) =>
      formatKey(`Mod+${name}`),
    );
  }
  for (const field of isTouch ? root.querySelectorAll("[placeholder]") : []) {
    field.placeholder = field.placeholder.replace(/ {2}\S$/, "");
  }
}
