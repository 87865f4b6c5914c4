/* The new lines of a log as rows for log_filter.js, which asks for them as it does for matches. */

import { splitBytes } from "./log_lines.js";
import { fetchPart, PART_BYTES } from "./log_stream.js";

export const MOST_ROWS = 2000; // log_filter.js keeps no more

export class NewLineRows {
  /** `ranges` are those of the explanation: the offsets, the number of the first line. */
  constructor(jobId, ranges) {
    this.jobId = jobId;
    this.ranges = ranges;
    this.read = 0; // rows so far
  }

  /** The filter shows the new lines from the first one on, so there is nothing before. */
  async backwards() {
    return [];
  }

  /** The new lines that begin at an offset or later. */
  async forwards(after, limit) {
    const rows = [];
    const most = Math.min(limit, MOST_ROWS - this.read);
    let from = after;
    while (rows.length < most) {
      const more = await this.readFrom(from);
      if (!more) {
        break;
      }
      rows.push(...more.rows);
      from = more.next;
    }
    rows.splice(most);
    this.read += rows.length;
    return rows;
  }

  /** The first new lines from an offset on, as many as one request returns, and the offset after
      them; null if there are no more. */
  async readFrom(offset) {
    const ranges = this.ranges.filter(({ end }) => end > offset);
    if (ranges.length === 0) {
      return null;
    }
    const begin = Math.max(offset, ranges[0].offset);
    const { end } = ranges.findLast((range) => range.end <= begin + PART_BYTES) ?? ranges[0];
    const limit = Math.max(1, Math.min(PART_BYTES, end - begin));
    const part = await fetchPart(this.jobId, { offset: begin, limit_bytes: limit });
    const lines = splitBytes(part.bytes, part.offset, part.line ?? this.numberAt(begin));
    if (part.offset !== begin || lines.length === 0) {
      return null; // the log has been truncated
    }
    if (lines.length > 1 && !lines.at(-1).ended && part.next < end) {
      lines.pop(); // the next request begins with it
    }
    const last = lines.at(-1);
    const isWhole = last.ended || lines.length > 1;
    return {
      rows: lines.filter((line) => isWithinAny(line.offset, ranges)).map(toRow),
      next: isWhole ? last.end : ranges[0].end, // a line that is longer than a part: skip its rest
    };
  }

  /** The number of the line at an offset, if a range begins there. */
  numberAt(offset) {
    return this.ranges.find((range) => range.offset === offset)?.line ?? null;
  }
}

function toRow({ offset, number, text }) {
  return { offset, line: number, text };
}

/** Is an offset in one of the ranges, which are in order? */
export function isWithinAny(offset, ranges) {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle].end <= offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < ranges.length && ranges[low].offset <= offset;
}
