/* The keys of the job that is open and of its log. A key presses the button that does the same, so
   it does nothing while that button is hidden or disabled. */

import { copyText } from "./dom.js";
import { page } from "./page_state.js";
import { addKeyNote, addShortcut } from "./shortcuts.js";

/** `find(name)` returns a node of the log pane by its class. */
export function addJobKeys(find) {
  const press = (name) => () => pressButton(find(name));
  const needs = (name, action) => () => (page.address.job ? find(name).dataset.needs : action);
  const [rerun, cancel] = [needs("run-again", "rerun-saved"), needs("cancel", "cancel-saved")];
  addShortcut("r", "run the job again", press("run-again"), "Job", rerun);
  addShortcut("x", "cancel the job", press("cancel"), "Job", cancel);
  addShortcut("l", "copy a link to the job", copyLink, "Job");
  addShortcut("d", "show or hide details", press("show-details"), "Job");
  addShortcut(
    "Escape",
    "close the innermost panel, then the log",
    () => closeInnermost(find),
    "Job",
  );
  addShortcut("s", "find in the log", () => focusFind(find), "Log");
  addShortcut("Mod+f", "find in the log", () => focusFind(find), "Log");
  addKeyNote("Enter", "next match (in the find field)", "Log");
  addKeyNote("Shift+Enter", "previous match", "Log");
  addKeyNote("ArrowRight", "next file (in an open file)", "Log");
  addKeyNote("ArrowLeft", "previous file", "Log");
  addShortcut("w", "wrap long lines", press("wrap"), "Log");
}

function pressButton(button) {
  if (!page.address.job || button.closest("[hidden]") || button.disabled) {
    return false;
  }
  button.click();
}

async function copyLink() {
  if (page.address.job) {
    const isCopied = await copyText(location.origin + location.pathname + page.link({ at: "" }));
    page.toast(isCopied ? "Link copied" : "The browser does not allow copying here.");
  }
}

/** Returns false, which leaves Ctrl+F to the browser, if no log is open or the field already has
    the focus. */
function focusFind(find) {
  const field = find("find-field");
  if (!page.address.job || field.getRootNode().activeElement === field) {
    return false;
  }
  field.focus();
  field.select();
}

/** Closes a question, else the comparison, else the file, else the text to find, else the selection
    of lines, else the details, else the log. */
function closeInnermost(find) {
  const field = find("find-field");
  if (!find("confirm").hidden) {
    [...find("confirm").querySelectorAll("button")].at(-1).click(); // the answer that changes nothing
    find("view").focus();
  } else if (!find("compare").hidden) {
    pressButton(find("close-compare"));
  } else if (!find("file-view").hidden) {
    find("close-file").click(); // or the button that a narrow window shows instead
  } else if (page.address.job && field.value) {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
  } else if (!find("selection").hidden) {
    pressButton(find("unselect"));
  } else if (!find("details-panel").hidden) {
    pressButton(find("show-details"));
  } else {
    pressButton(find("close"));
  }
}
