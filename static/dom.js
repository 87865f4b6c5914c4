/* Helpers for nodes, events and the clipboard, which several parts of the page share. Must not know
   about jobs. */

const COPIED = 1500; // milliseconds that a button shows the result
const LIST_STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** Sets a node's HTML only if it has changed, so that focus and selection are kept. */
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

/** Returns a cleanup function for Streamlit, which calls it at each update and when it removes the
    component. It closes the part only in the second case. */
export function closeWhenRemoved(root, part) {
  return () => {
    setTimeout(() => {
      if (!root.isConnected) {
        part.close();
      }
    }, 0);
  };
}

/** Does this click open the link in another tab or window? */
export function opensElsewhere(event) {
  return event.ctrlKey || event.metaKey || event.shiftKey;
}

/** How far a key moves within a list: 1 or -1, to an end (Infinity), or undefined. */
export function listStep(event) {
  return LIST_STEPS[event.key];
}

/** The item that is `step` places after the one at `index`; beyond an end, the first or last
    one. */
export function stepFrom(items, index, step) {
  return items[Math.min(items.length - 1, Math.max(0, index + step))];
}

/** The value of a form's field as text. That of a checkbox is its `value`, or "" if it is not
    ticked. */
export function fieldText(field) {
  return field.type === "checkbox" && !field.checked ? "" : field.value;
}

export function setFieldText(field, text) {
  if (field.type === "checkbox") {
    field.checked = text !== "";
  } else {
    field.value = text;
  }
}

/** Ctrl+Enter or Cmd+Enter submits a form from any of its fields. */
export function submitByKey(event, form) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
}

/** Shows errors below the fields of a form, or only of the named `fields`. `wrong` maps a field's
    name to a sentence; the name is "" if the error belongs to no field. */
export function showWrong(form, wrong, fields = null) {
  for (const node of form.querySelectorAll(".wrong")) {
    const { field } = node.dataset;
    if (fields && !fields.includes(field)) {
      continue;
    }
    node.textContent = wrong[field] ?? "";
    form.elements[field]?.setAttribute("aria-invalid", String(field in wrong));
  }
}

/** Removes the error below one field. */
export function clearWrong(form, field) {
  const node = form.querySelector(`.wrong[data-field="${CSS.escape(field)}"]`);
  if (node) {
    node.textContent = "";
    form.elements[field]?.setAttribute("aria-invalid", "false");
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

/** Copies a text. The button briefly shows whether the browser allowed it. */
export async function copyByButton(button, text) {
  button.dataset.label ??= button.textContent;
  button.textContent = (await copyText(text)) ? "Copied" : "Cannot copy here";
  setTimeout(() => {
    button.textContent = button.dataset.label;
  }, COPIED);
}
