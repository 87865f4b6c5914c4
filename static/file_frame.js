/* Frames that show what a job has written as a document. It must not act with the visitor's rights,
   nor request anything:

   - the frame's sandbox allows nothing: no script runs, the document has an origin of its own, and
     it can neither open windows nor send forms;
   - the policy allows no request; it comes before everything that the job has written;
   - the document is in `srcdoc`, so its address is about:srcdoc. The API's URL would contain the
     ticket, with which every log can be read, and a link of the document could pass it on as the
     referrer;
   - the page itself may frame no address (`forbid_frames` in guard.py), so a link cannot navigate
     the frame. */

const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:; " +
  "form-action 'none'";
// Chromium connects for some elements `link` and for frames before it applies the policy that forbids
// every request. The other elements would only fail.
const USELESS = "link, iframe, frame, object, embed, base, script, meta";

/** A frame with an HTML document. Only its links to its own sections work: a click with the middle
    button opens any other in a new tab, which neither sandbox nor policy can prevent. */
export function makeFrame(html, title) {
  const document = new DOMParser().parseFromString(html, "text/html"); // runs and loads nothing
  clean(document);
  document.head.prepend(...headNodes(document));
  const frame = window.document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.referrerPolicy = "no-referrer";
  frame.title = title;
  frame.srcdoc = `<!DOCTYPE html>${document.documentElement.outerHTML}`;
  return frame;
}

function clean(document) {
  const roots = [document];
  while (roots.length > 0) {
    const root = roots.pop();
    for (const node of root.querySelectorAll(USELESS)) {
      node.remove();
    }
    for (const link of root.querySelectorAll("a, area")) {
      removeUrl(link);
    }
    roots.push(...[...root.querySelectorAll("template")].map(({ content }) => content));
  }
}

/** Makes a text of a link that leads out of the document. Its tooltip has the URL. */
function removeUrl(link) {
  for (const name of ["href", "xlink:href"]) {
    const url = link.getAttribute(name);
    if (url !== null && !url.startsWith("#")) {
      link.removeAttribute(name);
      link.setAttribute("title", url);
    }
  }
}

function headNodes(document) {
  const base = document.createElement("base");
  base.setAttribute("href", "about:srcdoc"); // else "#section" would be a link to this page
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = POLICY;
  return [base, policy];
}

/** A frame with an SVG as an image, which can neither run scripts nor load anything. */
export async function makeSvgFrame(bytes, title) {
  const url = await dataUrl(new Blob([bytes], { type: "image/svg+xml" }));
  const style =
    "body { margin: 0; min-height: 100vh; display: grid; place-items: center } " +
    "img { max-width: 100vw; max-height: 100vh }";
  return makeFrame(`<style>${style}</style><img alt="" src="${url}">`, title);
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
