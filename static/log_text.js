/* Interprets the text of a line of a log: carriage returns, escape sequences, matches, errors.
   Pure. */

export const LINE_LIMIT = 4000; // characters of a line that are shown until a click shows the rest

const CONTROL = /[\0-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
// Any sequence except those for colours. ansi_up would show parts of these sequences.
const ESCAPE =
  /\x1b(?!\[[\d;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?/g;
const COLOUR = /\x1b\[[\d;]*m/g;
// A colour of the palette (38;5;31) or by its parts, whose numbers are not codes of their own.
const PALETTE_COLOUR = /(?<!\d)[34]8;(?:5;\d*|2(?:;\d*){3})/g;
const RED_PARAMETER = /(?:^|;)(?:31|91)(?:;|$)/; // foreground, normal or bright
// After one failure, pytest makes the percentages of all further lines red, also of passed tests.
const ONLY_PERCENT = /^ *\[ *\d+%\](?:\x1b|$)/;

/** What a terminal shows of a line that a progress bar has overwritten: the text after the last
    carriage return. */
export function lastOverwrite(line) {
  const text = line.replace(/\r+$/, "");
  return text.slice(text.lastIndexOf("\r") + 1);
}

/** A line without control characters, and with no escape sequences except those for colours. */
export function cleanLine(line) {
  return lastOverwrite(line).replace(ESCAPE, "").replace(CONTROL, "");
}

/** A line as a reader sees it, without any escape sequence. */
export function plainLine(line) {
  return cleanLine(line).replace(COLOUR, "");
}

/** Does a colour sequence of the line make more red than a percentage? Sequences are first found and
    then read: a single expression would take quadratic time for a hostile line. */
function isRed(line) {
  for (const { 0: sequence, index } of line.matchAll(COLOUR)) {
    const sets = RED_PARAMETER.test(sequence.slice(2, -1).replace(PALETTE_COLOUR, ""));
    if (sets && !ONLY_PERCENT.test(line.slice(index + sequence.length))) {
      return true;
    }
  }
  return false;
}

/** Does a line report an error? It does if it matches a pattern, or if the program made it red. */
export function isErrorLine(line, patterns) {
  if (isRed(line)) {
    return true;
  }
  const text = plainLine(line.slice(0, LINE_LIMIT));
  return patterns.some((pattern) => pattern.test(text));
}

/** Where a text contains another, ignoring case: pairs of begin and end. */
export function findMatches(text, wanted) {
  if (wanted === "") {
    return [];
  }
  const literal = wanted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const found = text.matchAll(new RegExp(literal, "gi"));
  return [...found].map((match) => [match.index, match.index + match[0].length]);
}
