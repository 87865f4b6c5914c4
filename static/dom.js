/* What several parts of the page do with nodes, events and the clipboard. It knows nothing of jobs. */

const COPIED = 1500; // milliseconds that a button says so
const LIST_STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** Sets a node's HTML only if it has changed: what has the focus, or is selected, stays. */
export function setHtml(node, html) {
  if (node.shownHtml !== html) {
    node.innerHTML = html;
    node.shownHtml = html;
  }
}

/** A button that calls `act` when it is clicked; `kind` is its class. */
export function makeButton(label, act, kind = "") {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.className = kind;
  button.addEventListener("click", act);
  return button;
}

/** Closes a part once Streamlit has taken it out of the page; it also says so at each update. */
export function closeWhenRemoved(root, part) {
  return () => {
    setTimeout(() => {
      if (!root.isConnected) {
        part.close();
      }
    }, 0);
  };
}

/** Does a click on a link ask the browser for another tab or window? */
export function opensElsewhere(event) {
  return event.ctrlKey || event.metaKey || event.shiftKey;
}

/** How far a key moves within a list: 1 or -1, to an end (Infinity), or undefined. */
export function listStep(event) {
  return LIST_STEPS[event.key];
}

/** The item of a list that is so many steps after the one at an index, or the first or last one. */
export function stepFrom(items, index, step) {
  return items[Math.min(items.length - 1, Math.max(0, index + step))];
}

/** Ctrl+Enter, or Cmd+Enter, sends a form from any of its fields. */
export function submitByKey(event, form) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
}

/** Shows sentences below the fields of a form, by the field's name; "" is for what no field is to
    blame for. */
export function showWrong(form, wrong) {
  for (const node of form.querySelectorAll(".wrong")) {
    const { field } = node.dataset;
    node.textContent = wrong[field] ?? "";
    form.elements[field]?.setAttribute("aria-invalid", String(field in wrong));
  }
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Copies a text; the button that was pressed says for a moment whether that was allowed. */
export async function copyByButton(button, text) {
  button.dataset.label ??= button.textContent;
  button.textContent = (await copyText(text)) ? "Copied" : "Cannot copy here";
  setTimeout(() => {
    button.textContent = button.dataset.label;
  }, COPIED);
}
