/* Splits the bytes and the pieces of a log into lines, each with its offset and its number. Pure. */

import { lastOverwrite } from "./log_text.js";

export const MOST_LINES = 2000; // to put into the view at a time

const STAMP = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) /; // the API puts it before lines
const REST_LIMIT = 100_000; // characters to keep of an unfinished line
const NEWLINE = 10;
const ASCII = /^[\0-\x7f]*$/;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function byteLength(text) {
  return ASCII.test(text) ? text.length : encoder.encode(text).length;
}

/** Splits a line into the time that the API put before it, or "", and its text. */
export function splitStamp(line) {
  const stamp = STAMP.exec(line);
  return stamp ? [stamp[1], line.slice(stamp[0].length)] : ["", line];
}

export function countNewlines(text) {
  return text.split("\n").length - 1;
}

/** The number of lines in a text, with an unfinished last line. */
export function countLines(text) {
  const ended = countNewlines(text);
  return text === "" || text.endsWith("\n") ? ended : ended + 1;
}

/** The lines in some bytes of a log, each with the offsets where it begins and ends and its number
    (null if not known). `ended` is false if the last line is unfinished. */
export function splitBytes(bytes, offset, number) {
  const lines = [];
  let begin = 0;
  while (begin < bytes.length) {
    const newline = bytes.indexOf(NEWLINE, begin);
    const end = newline < 0 ? bytes.length : newline;
    lines.push({
      text: decoder.decode(bytes.subarray(begin, end)),
      offset: offset + begin,
      end: offset + (newline < 0 ? end : end + 1),
      number: number === null ? null : number + lines.length,
      ended: newline >= 0,
    });
    begin = end + 1;
  }
  return lines;
}

/** `splitBytes` for lines with the API's times before them. Offsets do not count the times. */
export function splitStamped(bytes, offset, number) {
  let stamps = 0;
  return splitBytes(bytes, offset, number).map((line) => {
    const [stamp, text] = splitStamp(line.text);
    const begin = line.offset - stamps;
    stamps += stamp ? stamp.length + 1 : 0;
    return { ...line, stamp, text, offset: begin, end: line.end - stamps };
  });
}

/** Counts the lines of a whole log, with an unfinished last line, while more is written to it. */
export class LineCounter {
  constructor() {
    this.lines = null; // null if not known
    this.at = 0; // offset of the byte after those that are counted
    this.isMidLine = false; // do the counted bytes end within a line?
    this.isUncertain = false; // must the last counted byte be seen again to know `isMidLine`?
  }

  /** The first `at` bytes have this many lines; null if the API does not know, which keeps a number
      that is still true. */
  set(lines, at, isMidLine) {
    this.lines = lines ?? (this.at === at ? this.lines : null);
    this.at = at;
    this.isMidLine = isMidLine;
    this.isUncertain = false;
  }

  /** The same if nobody has seen the last byte, so `isMidLine` is not known: the next text has to
      begin with that byte. */
  setBlindly(lines, at) {
    this.set(lines, at, at > 0);
    this.isUncertain = at > 0;
  }

  /** The offset at which the next text has to begin. */
  get next() {
    return this.at - (this.isUncertain ? 1 : 0);
  }

  /** Counts a text that begins at `next` and ends at `end`. Returns the number of lines that ended
      in it. */
  add(text, end) {
    const known = this.isUncertain ? text.slice(0, 1) : "";
    if (this.lines !== null) {
      this.lines += countLines(text) - (this.isMidLine ? 1 : 0);
    }
    this.isMidLine = text === "" ? this.isMidLine : !text.endsWith("\n");
    this.isUncertain = false;
    this.at = end;
    return countNewlines(text) - countNewlines(known);
  }
}

/** Joins the pieces of text of a stream into lines. */
export class LineJoiner {
  constructor(offset, number, stamped = false) {
    this.offset = offset; // where the unfinished line begins
    this.number = number; // of that line; null if not known
    this.stamped = stamped; // does the API put a time before each line?
    this.rest = ""; // the unfinished line so far
    this.restBytes = 0; // its length in the log
  }

  /** The lines that a piece of text completes. `end` is the offset in the log after the piece. */
  add(piece, end) {
    const parts = (this.rest + piece).split("\n");
    const isNew = parts.length > 1 || this.rest === "";
    const last = parts.pop();
    const lines = parts.map((part) => this.take(part));
    this.restBytes = isNew ? byteLength(this.split(last)[1]) : this.restBytes + byteLength(piece);
    this.rest = shortenRest(last);
    this.correctOffset(lines, end - this.restBytes);
    return lines;
  }

  split(part) {
    return this.stamped ? splitStamp(part) : ["", part];
  }

  take(part) {
    const [stamp, text] = this.split(part);
    const end = this.offset + byteLength(text) + 1;
    const line = { text, stamp, offset: this.offset, end, number: this.number };
    this.offset = end;
    this.number = this.number === null ? null : this.number + 1;
    return line;
  }

  /** An invalid byte is one byte in the log, but its replacement character has three. If there are
      any, only the offset at the end of the piece is certain. */
  correctOffset(lines, begin) {
    if (this.offset === begin) {
      return;
    }
    for (const line of lines) {
      line.offset = null;
      line.end = null;
    }
    if (lines.length > 0) {
      lines.at(-1).end = begin;
    }
    this.offset = begin;
  }

  /** The unfinished line; null if there is none. */
  unfinished() {
    if (this.rest === "") {
      return null;
    }
    const [stamp, text] = this.split(this.rest);
    return { text, stamp, offset: this.offset, end: null, number: this.number };
  }
}

/** Shortens the unfinished line of a progress bar, which can be endless, to its visible part. */
function shortenRest(rest) {
  if (rest.length <= REST_LIMIT) {
    return rest;
  }
  const shown = lastOverwrite(rest);
  return shown.length < rest.length ? `\r${shown}`.slice(0, REST_LIMIT) : rest.slice(0, REST_LIMIT);
}

/** The text after the byte `shown` in a tail that begins at `offset` and ends at `next`; null if
    `shown` is outside the tail or the tail contains invalid bytes. */
export function tailBehind(tail, offset, next, shown) {
  const bytes = encoder.encode(tail);
  if (bytes.length !== next - offset || shown < offset || shown > next) {
    return null;
  }
  return decoder.decode(bytes.subarray(shown - offset));
}

/** At most MOST_LINES of the lines: those around the target. Without a target, all lines. */
export function boundLines(lines, target) {
  if (lines.length <= MOST_LINES || target === null) {
    return lines;
  }
  const found = lines.findLastIndex((line) => line.offset <= target);
  const from = Math.max(0, found - MOST_LINES / 2);
  return lines.slice(from, from + MOST_LINES);
}

/** Removes and returns the last line if it is unfinished; else null. A single line is removed only
    at the end of the log, since elsewhere its own end may be far away. */
export function popUnfinished(lines, isEnd) {
  const last = lines.at(-1);
  return last && !last.ended && (isEnd || lines.length > 1) ? lines.pop() : null;
}

export function numberAfter(number) {
  return number === null ? null : number + 1;
}

export function lastBefore(number) {
  return number === null ? null : number - 1;
}

export function stampedText({ stamp, text }) {
  return stamp ? `${stamp} ${text}` : text;
}
