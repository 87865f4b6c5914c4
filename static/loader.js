/* The script of each component. tailboard/page/components.py puts three constants before it: NAME,
   the component's, after which its module and its HTML are called; FILES, all that is imported;
   VERSION, which is another when any file here is. It is short, and fetches all else, because
   Streamlit sends a component's own texts with each change of its data.

   The server sends no Cache-Control, so that a browser may keep a file for days. On a new version
   each is fetched anew before any is imported, or old and new ones would meet in one page. */

const VERSION_KEY = "tailboard.version";
const STYLES = [
  "dashboard.css",
  "page_header.css",
  "saved_commands.css",
  "job_list.css",
  "log_pane.css",
  "touch.css", // overrides the others
];
const base = new URL("app/static/", document.baseURI);

function readVersion() {
  try {
    return localStorage.getItem(VERSION_KEY);
  } catch {
    return null; // a browser that keeps nothing fetches each time
  }
}

function writeVersion() {
  try {
    localStorage.setItem(VERSION_KEY, VERSION);
  } catch {
    // As above.
  }
}

async function fetchAnew() {
  await Promise.all(FILES.map((name) => fetch(new URL(name, base), { cache: "reload" })));
  writeVersion();
}

async function fetchText(name) {
  const answer = await fetch(new URL(`${name}?v=${VERSION}`, base));
  return answer.text();
}

/** Awaited before anything is shown: what has no style yet would jump, and take keys unseen. */
async function fetchStyle() {
  const texts = await Promise.all(STYLES.map(fetchText));
  return new CSSStyleSheet().replace(texts.join("\n"));
}

// A page that stayed open through an upgrade holds the old modules, and no import replaces them.
window.tailboardVersion ??= VERSION;
if (window.tailboardVersion !== VERSION) {
  location.reload();
}
// Once for all components: each has a copy of this script.
window.tailboardIsNew ??= readVersion() !== VERSION;
window.tailboardFetched ??= window.tailboardIsNew ? fetchAnew() : Promise.resolve();
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
  if (!root.isFilled) {
    root.getRootNode().adoptedStyleSheets.push(style);
    root.append(template.content.cloneNode(true));
    root.isFilled = true;
  }
  return module.default(component);
}
