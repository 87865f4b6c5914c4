/* What the visitor may do, by role. The API refuses everything else anyway: the page only hides it.

   An element that acts names its action in `data-needs`. A rule in the style sheet that all
   components share hides those that the role does not allow, wherever and whenever they are drawn.
   Shortcuts and the palette ask `can`. */

const ROLES = ["read", "run", "all"]; // each includes the ones before it, as in access_role.py
const SUFFIX = "-saved"; // of an action on a job that came from a saved command
const LEAST_ROLE = {
  "run-saved": "run",
  "cancel-saved": "run",
  "rerun-saved": "run",
  cancel: "all",
  rerun: "all",
  submit: "all",
  urgent: "all",
  delete: "all",
  bulk: "all",
  save: "all", // also: delete a saved command, pause its schedule, test its notifications
  queues: "all",
};

let role = "read";
let rule = ""; // as the shared style sheet has it

export function can(action) {
  return ROLES.indexOf(role) >= ROLES.indexOf(LEAST_ROLE[action] ?? "all");
}

/** What `data-needs` contains for "cancel" or "rerun" of this job. */
export function needOf(action, job) {
  return job.saved ? action + SUFFIX : action;
}

/** The role in words, for the menu; "" if it allows everything. */
export function roleText() {
  return { read: "read only", run: "may run saved commands" }[role] ?? "";
}

/** Takes the role of the last refresh. An unknown one, of a newer API, allows only reading. */
export async function setRole(name) {
  role = ROLES.includes(name) ? name : "read";
  const denied = Object.keys(LEAST_ROLE).filter((action) => !can(action));
  const selectors = denied.map((action) => `[data-needs="${action}"]`);
  const wanted = selectors.length > 0 ? `${selectors.join(",")} { display: none !important; }` : "";
  const sheet = await window.tailboardStyle; // see loader.js
  if (wanted === rule) {
    return;
  }
  if (rule) {
    sheet.deleteRule(sheet.cssRules.length - 1);
  }
  rule = wanted;
  if (rule) {
    sheet.insertRule(rule, sheet.cssRules.length);
  }
}
