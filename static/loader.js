/* The script of each component. dashboard.py puts three constants before it: MODULE, the file that
   is the component's; FILES, all files here; VERSION, which is another when one of them is.

   The server sends no Cache-Control, so that a browser may keep a file for days. On a new version
   each is fetched anew before any is imported, or old and new ones would meet in one page. */

const VERSION_KEY = "tailboard.version";
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
  const options = { cache: "reload" };
  await Promise.all(FILES.map((name) => fetch(new URL(name, base), options)));
  writeVersion();
}

// A page that stayed open through an upgrade holds the old modules, and no import replaces them.
window.tailboardVersion ??= VERSION;
if (window.tailboardVersion !== VERSION) {
  location.reload();
}
if (readVersion() !== VERSION) {
  await fetchAnew();
}
const module = await import(new URL(MODULE, base));

export default module.default;
