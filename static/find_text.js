/* The words and the patterns of finding text in a log. Pure. */

import { formatCount } from "./format.js";

const SPECIAL = /[\\^$.*+?()[\]{}|/]/g;

/** The pattern that finds a query, { text, matchCase, isRegex }, as a RegExp; null if there is no
    text, or if the browser does not know the syntax, which is RE2's in the API. */
export function makePattern({ text, matchCase, isRegex }) {
  if (text === "") {
    return null;
  }
  const flags = matchCase ? "g" : "gi";
  const source = isRegex ? text.replaceAll("(?P<", "(?<") : text.replace(SPECIAL, "\\$&");
  for (const each of isRegex ? [`${flags}u`, flags] : [flags]) {
    try {
      return new RegExp(source, each);
    } catch {
      // The next flags are less strict.
    }
  }
  return null;
}

/** Where a pattern matches in a text: pairs of begin and end. Empty matches are left out. */
export function matchSpans(text, pattern) {
  const spans = [...text.matchAll(pattern)].map(({ index, 0: found }) => [
    index,
    index + found.length,
  ]);
  return spans.filter(([begin, end]) => end > begin);
}

/** The parameters of a request for the lines that match a query. */
export function queryParameters({ text, matchCase, isRegex }) {
  return { q: text, case: Number(matchCase), regex: Number(isRegex) };
}

/** "17 of 31". `total` is { lines, complete } of the whole log, or null while it is not known;
    `index` counts from 0 and is null if not known. */
export function describePosition(total, index) {
  if (total === null) {
    return "";
  }
  if (total.lines === 0 && total.complete) {
    return "No matches";
  }
  const lines = Math.max(total.lines, index === null ? 1 : index + 1);
  const all = `${total.complete ? "" : "at least "}${formatCount(lines)}`;
  if (index === null) {
    return `${all} ${lines === 1 ? "match" : "matches"}`;
  }
  return `${formatCount(index + 1)} of ${all}`;
}

/** The mistake in a regular expression, from the API's sentence: it first names the parameter, and
    at last repeats the expression. */
export function describeMistake(sentence) {
  const [, mistake = sentence] = sentence.split("(RE2 syntax): ");
  return `Invalid pattern: ${mistake.split(": ")[0]}`;
}

/** How many lines are between two matching lines; null if their numbers are not known. */
export function linesBetween(before, after) {
  return before === null || after === null ? null : after - before - 1;
}

export function describeGap(lines) {
  if (lines === null) {
    return "⋯";
  }
  return `⋯ ${formatCount(lines)} ${lines === 1 ? "line" : "lines"}`;
}
