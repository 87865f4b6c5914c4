/* Finds a regular expression in lines, in a thread of its own: an expression that backtracks can
   take hours, and the page ends the thread then. */

import { makePattern, matchSpans } from "./find_text.js";

addEventListener("message", ({ data: { query, texts } }) => {
  const pattern = makePattern(query);
  postMessage(texts.map((text) => (pattern ? matchSpans(text, pattern) : [])));
});
