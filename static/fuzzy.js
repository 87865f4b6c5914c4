/* Fuzzy matching of short texts: "dpl" matches "deploy". Pure. */

import { escapeHtml } from "./format.js";

const WHOLE = 100; // a word that occurs as it is beats any other match
const AT_START = 50; // more if it is the start of a word
const COVERED = 30; // more if it covers all of the text
const START_LETTER = 10; // of a letter that starts a word
const NEXT_LETTER = 6; // of a letter right after the one before it

/** How well a text matches all words of `wanted`: { score, places }, the places of the matching
    characters; null if it does not match. */
export function fuzzyMatch(text, wanted) {
  const lower = text.replace(/./gsu, lowerCharacter);
  const matches = wanted
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      return matchWhole(lower, word) ?? matchLetters(lower, word);
    });
  if (matches.includes(null)) {
    return null;
  }
  const score = matches.reduce((sum, match) => sum + match.score, 0);
  return { score, places: new Set(matches.flatMap((match) => match.places)) };
}

/** A character in lower case, unless that has another length: the places must stay the same. */
function lowerCharacter(character) {
  const lower = character.toLowerCase();
  return lower.length === character.length ? lower : character;
}

function isWordStart(text, place) {
  return place === 0 || /[^a-z0-9]/.test(text[place - 1]);
}

function matchWhole(text, word) {
  const found = [];
  for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
    found.push(at);
  }
  if (found.length === 0) {
    return null;
  }
  const start = found.find((at) => isWordStart(text, at));
  const at = start ?? found[0];
  const covered = (COVERED * word.length) / text.length;
  const score = WHOLE + (start === undefined ? 0 : AT_START) + covered;
  return { score, places: Array.from({ length: word.length }, (_, index) => at + index) };
}

/** The letters of a word in their order, with others between. At least half of them must start a
    word or follow the one before. */
function matchLetters(text, word) {
  const places = placesOf(text, word, nextStart) ?? placesOf(text, word, nextPlace);
  if (!places) {
    return null;
  }
  const starts = places.filter((place) => isWordStart(text, place)).length;
  const nexts = places.filter(
    (place, index) => index > 0 && place === places[index - 1] + 1,
  ).length;
  const isLoose = starts + nexts < word.length / 2 || starts === 0;
  return isLoose ? null : { score: START_LETTER * starts + NEXT_LETTER * nexts, places };
}

function placesOf(text, word, next) {
  const places = [];
  for (const letter of word) {
    const place = next(text, letter, (places.at(-1) ?? -1) + 1);
    if (place < 0) {
      return null;
    }
    places.push(place);
  }
  return places;
}

function nextPlace(text, letter, from) {
  return text.indexOf(letter, from);
}

/** The same, but prefers the next place if the letter follows, and else the start of a word. */
function nextStart(text, letter, from) {
  if (from > 0 && text[from] === letter) {
    return from;
  }
  for (let place = nextPlace(text, letter, from); place >= 0; ) {
    if (isWordStart(text, place)) {
      return place;
    }
    place = nextPlace(text, letter, place + 1);
  }
  return nextPlace(text, letter, from);
}

/** The HTML of a text with the characters at some places marked. */
export function highlightHtml(text, places) {
  let html = "";
  let isMarked = false;
  for (let place = 0; place < text.length; place += 1) {
    if (places.has(place) !== isMarked) {
      isMarked = !isMarked;
      html += isMarked ? "<mark>" : "</mark>";
    }
    html += escapeHtml(text[place]);
  }
  return isMarked ? `${html}</mark>` : html;
}
