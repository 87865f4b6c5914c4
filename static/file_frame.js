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

import { FileProblem } from "./file_source.js";

const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:; " +
  "form-action 'none'";
// The base keeps "#section" from being a link to this page.
const HEAD =
  '<!DOCTYPE html><base href="about:srcdoc">' +
  `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
const OF_HEAD = 2; // elements
// Chromium connects for some elements `link` and for frames before it applies the policy that forbids
// every request. An animation can change where a link leads. The other elements would only fail.
const USELESS = "link, iframe, frame, object, embed, base, script, meta, set, animate";
const LINKS = ":not(base, image, feImage)[*|href]"; // an SVG's images are subject to the policy
const MOST_ROUNDS = 5;
const PIECE = 1 << 14; // characters that are parsed at a time
const SLICE = 30; // milliseconds until the page can do something else
const MOST_TIME = 5000; // milliseconds for a document: 100,000 tags that nothing closes take longer

/** A frame with an HTML document. Only its links to its own sections work: a click with the middle
    button opens any other in a new tab, which neither sandbox nor policy can prevent. FileProblem if
    the document takes too long, or changes each time that it is parsed. */
export async function makeFrame(html, title) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "");
  frame.referrerPolicy = "no-referrer";
  frame.title = title;
  frame.srcdoc = HEAD + (await cleanHtml(html));
  return frame;
}

/** The document without what is useless. The text of a cleaned document can have other elements when
    it is parsed again (`<form>` within `<form>` does), so only a text is returned whose document has
    nothing to clean: the frame parses the same text in the same way. */
async function cleanHtml(html) {
  let text = html;
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const root = await parse(HEAD + text);
    if (!clean(root)) {
      return text;
    }
    for (const node of [...root.querySelectorAll(USELESS)].slice(0, OF_HEAD)) {
      node.remove();
    }
    text = root.outerHTML;
  }
  throw new FileProblem("The page cannot make this document safe. Download it to see it.");
}

/** The element `html` of a document in which nothing runs or is loaded. */
async function parse(text) {
  const parsed = document.implementation.createHTMLDocument("");
  let began = performance.now();
  let time = 0;
  parsed.open();
  for (let place = 0; place < text.length; place += PIECE) {
    parsed.write(text.slice(place, place + PIECE));
    const took = performance.now() - began;
    if (time + took > MOST_TIME) {
      throw new FileProblem("This document takes too long to show. Download it to see it.");
    }
    if (took > SLICE) {
      time += took;
      await new Promise((resolve) => setTimeout(resolve));
      began = performance.now();
    }
  }
  parsed.close();
  // Elements can replace the properties of a document that have their names, such as `head`.
  return document.createTreeWalker(parsed, NodeFilter.SHOW_ELEMENT).nextNode();
}

/** Returns whether anything had to be removed. The first elements are those of HEAD. */
function clean(root) {
  const parts = [root];
  let isChanged = false;
  while (parts.length > 0) {
    const part = parts.pop();
    const useless = [...part.querySelectorAll(USELESS)].slice(part === root ? OF_HEAD : 0);
    for (const node of useless) {
      node.remove();
    }
    const links = [...part.querySelectorAll(LINKS)].filter(removeUrl);
    isChanged ||= useless.length + links.length > 0;
    for (const { content } of part.querySelectorAll("template")) {
      if (content) {
        parts.push(content); // an SVG's "template" has none
      }
    }
  }
  return isChanged;
}

/** Makes a text of a link that leads out of the document, and returns whether it was one. Its tooltip
    has the URL. */
function removeUrl(link) {
  const urls = [...link.attributes].filter(
    ({ localName, value }) => localName === "href" && !value.startsWith("#"),
  );
  for (const url of urls) {
    link.removeAttributeNode(url);
    link.setAttribute("title", url.value);
  }
  return urls.length > 0;
}

/** A frame with an SVG as an image, which can neither run scripts nor load anything. */
export async function makeSvgFrame(bytes, title) {
  const url = await dataUrl(new Blob([bytes], { type: "image/svg+xml" }));
  const style =
    "body { margin: 0; min-height: 100vh; display: grid; place-items: center } " +
    "img { max-width: 100vw; max-height: 100vh }";
  return await makeFrame(`<style>${style}</style><img alt="" src="${url}">`, title);
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
