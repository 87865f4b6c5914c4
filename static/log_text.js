/* What a log's text means: lines, carriage returns, escape sequences, matches, errors. Pure. */

export const LINE_LIMIT = 4000; // characters of a line that are shown before a click shows all

const STAMP = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) /; // which the API leads lines by
const CONTROL = /[\0-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
// Any sequence but those for colours, which ansi_up would show in part.
const ESCAPE =
  /\x1b(?!\[[\d;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?/g;
const COLOUR = /\x1b\[[\d;]*m/g;
const RED_PARAMETER = /(?:^|;)(?:31|91)(?:;|$)/; // foreground, also the bright one
const REST_LIMIT = 100_000; // characters kept of a line that does not end
const NEWLINE = 10;
const ASCII = /^[\0-\x7f]*$/;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function byteLength(text) {
  return ASCII.test(text) ? text.length : encoder.encode(text).length;
}

/** A line led by the API's time, as the two. */
export function splitStamp(line) {
  const stamp = STAMP.exec(line);
  return stamp ? [stamp[1], line.slice(stamp[0].length)] : ["", line];
}

/** What a terminal would show of a line that a progress bar has written over and over: the text
    behind the last carriage return. */
export function lastOverwrite(line) {
  const text = line.replace(/\r+$/, "");
  return text.slice(text.lastIndexOf("\r") + 1);
}

/** Without escape sequences but those for colours, and without control characters. */
export function cleanLine(line) {
  return lastOverwrite(line).replace(ESCAPE, "").replace(CONTROL, "");
}

/** As a reader sees it: no sequences at all. */
export function plainLine(line) {
  return cleanLine(line).replace(COLOUR, "");
}

/** Does a colour sequence of the line set red? Each is found first and read then: one expression
    for both would take the square of a hostile line's length. */
function isRed(line) {
  for (const [sequence] of line.matchAll(COLOUR)) {
    if (RED_PARAMETER.test(sequence.slice(2, -1))) {
      return true;
    }
  }
  return false;
}

/** Does a line tell of an error: by one of the patterns, or because the program made it red? */
export function isErrorLine(line, patterns) {
  if (isRed(line)) {
    return true;
  }
  const text = plainLine(line.slice(0, LINE_LIMIT));
  return patterns.some((pattern) => pattern.test(text));
}

export function countNewlines(text) {
  return text.split("\n").length - 1;
}

/** How many lines a text has. The last one may lack its end. */
export function countLines(text) {
  const ended = countNewlines(text);
  return text === "" || text.endsWith("\n") ? ended : ended + 1;
}

/** The lines of some bytes of a log, each with the offsets where it begins and ends and its number
    (null where that is not known). The last one may lack its end: `ended` says so. */
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

/** `splitBytes` for bytes that the API has led by times: offsets do not count those. */
export function splitStamped(bytes, offset, number) {
  let stamps = 0;
  return splitBytes(bytes, offset, number).map((line) => {
    const [stamp, text] = splitStamp(line.text);
    const begin = line.offset - stamps;
    stamps += stamp ? stamp.length + 1 : 0;
    return { ...line, stamp, text, offset: begin, end: line.end - stamps };
  });
}

/** Puts the pieces of text that a stream brings together to lines. */
export class LineJoiner {
  constructor(offset, number, stamped = false) {
    this.offset = offset; // where the line begins that is not over
    this.number = number; // of that line; null where not known
    this.stamped = stamped; // does the API lead each line by its time?
    this.rest = ""; // what is there of it
    this.restBytes = 0; // how long that is in the log
  }

  /** The lines that a piece of text completes; `end` is the offset behind it in the log. */
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

  /** Bytes that are no text count as three here and as one in the log: then no offset is sure
      but that of the piece's end. */
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

  /** The line that is not over yet; null where there is none. */
  unfinished() {
    if (this.rest === "") {
      return null;
    }
    const [stamp, text] = this.split(this.rest);
    return { text, stamp, offset: this.offset, end: null, number: this.number };
  }
}

/** A progress bar writes one endless line: of what is too long only what shows is kept. */
function shortenRest(rest) {
  if (rest.length <= REST_LIMIT) {
    return rest;
  }
  const shown = lastOverwrite(rest);
  return shown.length < rest.length ? `\r${shown}`.slice(0, REST_LIMIT) : rest.slice(0, REST_LIMIT);
}

/** Of a tail that begins at `offset` and ends at `next`, the text behind the byte `shown`; null
    where the two do not join, or where that cannot be told. */
export function tailBehind(tail, offset, next, shown) {
  const bytes = encoder.encode(tail);
  if (bytes.length !== next - offset || shown < offset || shown > next) {
    return null;
  }
  return decoder.decode(bytes.subarray(shown - offset));
}

/** Where a text stands in another, in capitals or not: pairs of begin and end. */
export function findMatches(text, wanted) {
  if (wanted === "") {
    return [];
  }
  const literal = wanted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const found = text.matchAll(new RegExp(literal, "gi"));
  return [...found].map((match) => [match.index, match.index + match[0].length]);
}

/** Which of some lines are shown where only matches are, with so many lines around each. */
export function linesAround(matching, around, count) {
  const shown = new Set();
  for (const index of matching) {
    const last = Math.min(count - 1, index + around);
    for (let near = Math.max(0, index - around); near <= last; near += 1) {
      shown.add(near);
    }
  }
  return shown;
}
