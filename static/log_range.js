/* A place of a log as the address names it: the offset of a line, or those of the first and the last
   of several lines. Offsets stay true for a log that loses its beginning, line numbers do not.
   Pure. */

import { formatCount } from "./format.js";

const PLACE = /^(\d{1,15})(?:-(\d{1,15}))?$/;

/** { from, to } of "120" or "120-240"; null for anything else. */
export function parseRange(text) {
  const found = PLACE.exec(text ?? "");
  return found ? orderRange(Number(found[1]), Number(found[2] ?? found[1])) : null;
}

export function orderRange(one, other) {
  return { from: Math.min(one, other), to: Math.max(one, other) };
}

export function formatRange(range) {
  if (!range) {
    return "";
  }
  return range.from === range.to ? String(range.from) : `${range.from}-${range.to}`;
}

/** "Line 12", "Lines 10–20"; the numbers are NaN if not known. */
export function describeLines(first, last) {
  if (Number.isNaN(first) || Number.isNaN(last)) {
    return "Selected lines";
  }
  return first === last
    ? `Line ${formatCount(first)}`
    : `Lines ${formatCount(first)}–${formatCount(last)}`;
}
