/* The markers that a job can write to its log: sections, progress, results and annotations. Pure.

   The same rules in Python: tailboard/explain/markers.py, which explains them; both are tested with
   tests/marker_cases.json. */

import { plainLine } from "./log_text.js";

const MOST_CHARACTERS = 5000; // of a line that are looked at
const MOST_NAME = 200;
const MOST_TEXT = 1000;
const MOST_PROGRESS_TEXT = 200;

const TIME =
  "\\[?(?:[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ]|[A-Z][a-z]{2} [ 0-3][0-9] )?" +
  "[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?\\]?";
const COLOURS = "(?:\\x1b\\[[0-9;]*[A-Za-z])*";
const MARKER =
  "(?:::(?:group|endgroup|progress|result|error|warning|notice)\\b" +
  "|(?:---|\\+\\+\\+|~~~)[ \\t]|\\^\\^\\^ \\+\\+\\+)";
const BEGINNING = new RegExp(`^${COLOURS}(?:${TIME}${COLOURS}[ \\t]+${COLOURS})?${MARKER}`);
const LEADING_TIME = new RegExp(`^${TIME}[ \\t]+`);
const OVERWRITTEN = /\r[^\r]/;

const HEADER = /^(---|\+\+\+|~~~)[ \t]+(.*)$/s;
const ATTEMPT = /^(attempt [1-9][0-9]{0,8}) ---$/;
const NAME = /^(?:[A-Za-z0-9[(]|:[a-z0-9_+-]+:|[^\0-\x7f])/;
const STRICT_NAME = /^(?![A-Za-z0-9_]+\+?=)(?:[A-Z0-9]|:[a-z0-9_+-]+:|[^\0-\x7f])/;
const OTHERS = [
  /^[^\n]*\t/,
  /^\S*\/\S*$/,
  /^\S*\.[A-Za-z]\S*$/,
  /^(?:Makefile|Dockerfile|README|LICENSE)$/,
  /^(?:[Ee]xpected|[Aa]ctual|[Rr]eceived|[Oo]riginal|[Nn]ew|[Oo]ld|[Cc]urrent)$/,
  /^(?:before|after)(?:$|:)/,
  /^(?:PASS|FAIL|SKIP|BENCH): /,
  /(?:---|\+\+\+|~~~)$/,
];
const WORD = /[\p{L}\p{N}]/u;
const INVISIBLE = /[\0-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

const GROUP = /^::(group|endgroup)::(.*)$/s;
const NUMBER = "[0-9]{1,12}(?:\\.[0-9]{1,9})?";
const PROGRESS = new RegExp(
  `^::progress (${NUMBER})(?:%| of (${NUMBER}))?(?: (?!of [0-9])(.*))?$`,
  "s",
);
const RESULT = /^::result ([A-Za-z0-9_.-]{1,64})=(.*)$/s;
const ANNOTATION = /^(::(error|warning|notice)(?: ((?:[^:]|:(?!:))*))?::)(.*)$/s;
const ESCAPES = [
  ["%0D", ""],
  ["%0A", "\n"],
  ["%3A", ":"],
  ["%2C", ","],
  ["%25", "%"],
];

/** The marker that a line is; null if it is none. It has a `kind`: "section" or "group" (with `name`
    and `isOpen`), "endgroup", "open", "progress" (`percent`, `text`), "result" (`key`, `value`), or
    "error", "warning" or "notice" (`text`, `file`, `fileLine`). `token` is its text before the name
    or the text, and `lastToken` that after it, if there is any. */
export function parseMarker(line) {
  const raw = line.slice(0, MOST_CHARACTERS).replace(/\r+$/, "");
  if (!BEGINNING.test(raw) || OVERWRITTEN.test(raw)) {
    return null;
  }
  const text = plainLine(raw).replace(LEADING_TIME, "").trimEnd();
  if (text.startsWith("::")) {
    return parseCommand(text);
  }
  return text === "^^^ +++" ? { kind: "open" } : parseHeader(text);
}

function parseHeader(text) {
  const [, sign, name] = HEADER.exec(text) ?? [];
  if (name === undefined) {
    return null;
  }
  const section = { kind: "section", isOpen: sign === "+++", token: sign };
  const [, attempt] = (sign === "---" && ATTEMPT.exec(name)) || [];
  if (attempt) {
    return { ...section, name: attempt, lastToken: " ---" };
  }
  const begins = sign === "---" ? NAME : STRICT_NAME;
  if (!begins.test(name) || OTHERS.some((other) => other.test(name)) || !WORD.test(name)) {
    return null;
  }
  return { ...section, name: clean(name, MOST_NAME) };
}

/** A marker that begins with two colons. */
function parseCommand(text) {
  const [, word, group] = GROUP.exec(text) ?? [];
  if (word) {
    return parseGroup(word, clean(group, MOST_NAME));
  }
  const [, done, all, about] = PROGRESS.exec(text) ?? [];
  if (done) {
    return parseProgress(Number(done), all === undefined ? 100 : Number(all), about ?? "");
  }
  const [, key, value] = RESULT.exec(text) ?? [];
  if (key) {
    return { kind: "result", key, value: clean(value, MOST_TEXT) };
  }
  const annotation = ANNOTATION.exec(text);
  return annotation ? parseAnnotation(...annotation.slice(1)) : null;
}

function parseGroup(word, name) {
  if (word === "endgroup") {
    return name ? null : { kind: "endgroup" };
  }
  return name ? { kind: "group", isOpen: false, token: "::group::", name } : null;
}

function parseProgress(done, all, about) {
  if (all === 0 || done > all) {
    return null;
  }
  const percent = Math.round((1000 * done) / all) / 10;
  return { kind: "progress", percent, text: clean(about, MOST_PROGRESS_TEXT) || null };
}

function parseAnnotation(token, kind, properties, text) {
  const lines = unescapeText(text).split("\n");
  const shown = lines.map((each) => clean(each, MOST_TEXT)).join("\n");
  if (!shown.trim()) {
    return null;
  }
  const given = {};
  for (const pair of (properties ?? "").split(",")) {
    const [key, ...value] = pair.split("=");
    given[key.trim()] = clean(unescapeText(value.join("=")), MOST_NAME);
  }
  const fileLine = /^[0-9]{1,9}$/.test(given.line ?? "") ? Number(given.line) : null;
  const cut = shown.trim().slice(0, MOST_TEXT);
  return { kind, token, text: cut, file: given.file || null, fileLine };
}

function unescapeText(text) {
  return ESCAPES.reduce((done, [escaped, plain]) => done.replaceAll(escaped, plain), text);
}

/** A text without characters that are invisible or change the order of others. */
function clean(text, limit) {
  const seen = text.replaceAll("\t", " ").replace(INVISIBLE, "").trim();
  return seen.length > limit ? [...seen].slice(0, limit).join("") : seen;
}
