/* Reads a log in the background, for the lines in it that tell of an error. */

import { fetchPart } from "./log_stream.js";
import { isErrorLine, lastOverwrite, splitBytes } from "./log_text.js";
import { pause } from "./pause.js";

export const SCAN_BYTES = 8 << 20; // at most, from the end of the log
const READ_BYTES = 1 << 20; // of one request
const SLICE = 8; // milliseconds of work before the page has its turn

/** The offsets of these lines, in order, and whether they are those of the whole log. `start` is
    the first byte that is kept, `size` the end, as far as that is known. */
export async function scanLog({ jobId, start, size, patterns, signal }) {
  const from = Math.max(start, size - SCAN_BYTES);
  const offsets = [];
  let at = from;
  let end = size;
  do {
    const part = await fetchPart(jobId, { offset: at, limit_bytes: READ_BYTES }, signal);
    const lines = takeWholeLines(part, at > start && at === from);
    if (lines.length === 0) {
      break; // an empty log, or one that was truncated
    }
    offsets.push(...(await findErrorLines(lines, patterns, signal)));
    at = lines.at(-1).end;
    end = part.size;
  } while (at < end);
  return { offsets, isWhole: from === start };
}

/** The lines of a part but for one that began before it, and one that goes on behind it: that is
    read with the next part, unless it is all there is. */
function takeWholeLines(part, beginsInside) {
  const lines = splitBytes(part.bytes, part.offset, null);
  if (beginsInside && lines.length > 1) {
    lines.shift();
  }
  if (part.next < part.size && lines.length > 1 && !lines.at(-1).ended) {
    lines.pop();
  }
  return lines;
}

async function findErrorLines(lines, patterns, signal) {
  const offsets = [];
  let until = performance.now() + SLICE;
  for (const { text, offset } of lines) {
    if (performance.now() > until) {
      await pause(0);
      signal.throwIfAborted();
      until = performance.now() + SLICE;
    }
    if (isErrorLine(lastOverwrite(text), patterns)) {
      offsets.push(offset);
    }
  }
  return offsets;
}
