/* The script of each component. tailboard/page/components.py puts three constants before it: NAME,
   of the component and of its .js and .html files; FILES, all files that are imported; VERSION,
   which changes if any file in static/ changes. The script is short and fetches everything else,
   because Streamlit sends it again with each change of the component's data.

   The server sends no Cache-Control header, so a browser may cache a file for days. If VERSION is
   new, the script therefore fetches all files again before it imports any: old and new files must
   not mix. */

const VERSION_KEY = "tailboard.version";
const STYLES = [
  "theme.css",
  "dashboard.css",
  "page_header.css",
  "notices.css",
  "run_form.css",
  "saved_commands.css",
  "saved_editor.css",
  "saved_rules.css",
  "job_list.css",
  "job_progress.css",
  "log_search.css",
  "home.css",
  "home_names.css",
  "log_pane.css",
  "log_head.css",
  "log_lines.css",
  "log_sections.css",
  "log_find.css",
  "log_results.css",
  "log_files.css",
  "file_view.css",
  "log_usage.css",
  "log_new_lines.css",
  "log_insights.css",
  "log_compare.css",
  "key_sheet.css",
  "palette.css",
  "sign_in.css",
  "forced_colours.css",
  "touch.css", // overrides the others
];
const base = new URL("app/static/", document.baseURI);

function readVersion() {
  try {
    return localStorage.getItem(VERSION_KEY);
  } catch {
    return null; // a browser that stores nothing fetches the files each time
  }
}

function writeVersion() {
  try {
    localStorage.setItem(VERSION_KEY, VERSION);
  } catch {
    // As above.
  }
}

async function refetchAll() {
  await Promise.all(FILES.map((name) => fetch(new URL(name, base), { cache: "reload" })));
  writeVersion();
}

async function fetchText(name) {
  const answer = await fetch(new URL(`${name}?v=${VERSION}`, base));
  return answer.text();
}

/** Awaited before anything is shown: unstyled content would jump, and would take keys while
    hidden. */
async function fetchStyle() {
  const texts = await Promise.all(STYLES.map(fetchText));
  return new CSSStyleSheet().replace(texts.join("\n"));
}

// A page that stayed open during an upgrade holds the old modules. No import can replace them.
window.tailboardVersion ??= VERSION;
if (window.tailboardVersion !== VERSION) {
  location.reload();
}
// Only once for all components, each of which has a copy of this script.
window.tailboardIsNew ??= readVersion() !== VERSION;
window.tailboardFetched ??= window.tailboardIsNew ? refetchAll() : Promise.resolve();
window.tailboardStyle ??= fetchStyle();
const html = fetch(new URL(`${NAME}.html`, base), {
  cache: window.tailboardIsNew ? "reload" : "default",
});
await window.tailboardFetched;
const [module, style, answer] = await Promise.all([
  import(new URL(`${NAME}.js`, base)),
  window.tailboardStyle,
  html,
]);
const template = document.createElement("template");
template.innerHTML = await answer.text();

export default function mount(component) {
  const root = component.parentElement;
  const [data] = component.data; // see `make_component` in components.py
  if (data.revision < root.revision) {
    return () => {}; // Streamlit has delivered this update after a newer one
  }
  root.revision = data.revision;
  if (!root.isFilled) {
    root.getRootNode().adoptedStyleSheets.push(style);
    root.append(template.content.cloneNode(true));
    root.isFilled = true;
  }
  return module.default({ ...component, data });
}
