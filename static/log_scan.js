/* Reads a log in the background to find the lines that report an error. */

import { splitBytes } from "./log_lines.js";
import { reportsError } from "./log_marker_line.js";
import { parseMarker } from "./log_markers.js";
import { fetchPart } from "./log_stream.js";
import { pause } from "./pause.js";

export const SCAN_BYTES = 8 << 20; // at most, from the end of the log
const READ_BYTES = 1 << 20; // per request
const SLICE = 8; // milliseconds of work before other code of the page can run

/** The offsets of the error lines, in order, and whether the whole log was read. `start` is the
    offset of the first byte that is kept, `size` the end of the log as last known. */
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

/** The lines of a part, without a first line that begins before it and a last line that continues
    after it. The next part includes the last line again. A part's only line is always kept. */
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
    if (reportsError(text, parseMarker(text), patterns)) {
      offsets.push(offset);
    }
  }
  return offsets;
}
