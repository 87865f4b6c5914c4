/* Removes the frame that the document shows while the page loads (cold_frame.html). */

const PARTS = ["header", "list"];
const drawn = new Set();

/** A part of the page is drawn, and the frame goes once all are. */
export function markDrawn(part) {
  drawn.add(part);
  if (PARTS.every((name) => drawn.has(name))) {
    removeFrame();
  }
}

export function removeFrame() {
  document.getElementById("cold-frame")?.remove();
}
