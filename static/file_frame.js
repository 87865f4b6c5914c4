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
// Browsers connect for some links although the policy forbids every request. A refresh, a base or
// a script would only fail.
const USELESS = "link, base, script, meta[http-equiv]";

/** A frame with an HTML document. Its links to its own sections work, all others do nothing. */
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
    for (const link of root.querySelectorAll("a[href], area[href]")) {
      if (!link.getAttribute("href").startsWith("#")) {
        link.target = "_blank"; // which the sandbox forbids
      }
    }
    roots.push(...[...root.querySelectorAll("template")].map(({ content }) => content));
  }
}

function headNodes(document) {
  const base = document.createElement("base");
  base.setAttribute("href", "about:srcdoc"); // else "#section" would be a link to this page
  const policies = { "Content-Security-Policy": POLICY, "x-dns-prefetch-control": "off" };
  const metas = Object.entries(policies).map(([name, content]) => {
    const meta = document.createElement("meta");
    meta.httpEquiv = name;
    meta.content = content;
    return meta;
  });
  return [base, ...metas];
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
