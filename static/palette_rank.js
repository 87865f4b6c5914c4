/* Which items the palette shows, in which order, and their HTML. Pure. An item is
   { key, group, text, detail, icon, keys, also }: `also` is text that matches but is not shown, and
   `isFound` is true if the API has found the item for this text. */

import { escapeHtml } from "./format.js";
import { fuzzyMatch, highlightHtml } from "./fuzzy.js";

const MOST_KNOWN = 8; // items of one group that match, besides those that the API has found
const LEAST_ALSO = 4; // characters from which the hidden text is searched
const NOWHERE = new Set();

/** The items that match, by group: [name, items]. The group with the best match comes first. */
export function rankItems(items, wanted) {
  const groups = new Map();
  for (const item of items) {
    const match = matchItem(item, wanted);
    if (match) {
      groups.set(item.group, [...(groups.get(item.group) ?? []), { ...item, ...match }]);
    }
  }
  const ranked = [...groups].map(([name, members]) => [name, bestOf(members, wanted)]);
  return ranked.sort(([, [one]], [, [other]]) => other.score - one.score);
}

function matchItem({ text, also = "", isFound }, wanted) {
  const match = fuzzyMatch(text, wanted);
  if (match) {
    return match;
  }
  const isHidden = wanted.length >= LEAST_ALSO && also.toLowerCase().includes(wanted.toLowerCase());
  return isFound || isHidden ? { score: 0, places: NOWHERE } : null;
}

/** The best of one group. Equally good ones keep their order. */
function bestOf(members, wanted) {
  const sorted = members.toSorted((one, other) => other.score - one.score);
  const most = wanted ? MOST_KNOWN : Infinity;
  const known = sorted.filter((item) => !item.isFound).slice(0, most);
  return [...known, ...members.filter((item) => item.isFound)];
}

/** The content of the list, with the active item marked. IDs are the places in the list. */
export function groupsHtml(groups, activeKey) {
  let index = 0;
  const parts = groups.map(([name, items], place) => {
    const rows = items.map((item) => {
      index += 1;
      return itemHtml(item, index - 1, item.key === activeKey);
    });
    return (
      `<div role="group" aria-labelledby="palette-group-${place}">` +
      `<p class="palette-group" role="presentation" id="palette-group-${place}">${escapeHtml(name)}</p>${rows.join("")}</div>`
    );
  });
  return parts.join("");
}

function itemHtml({ text, detail = "", icon = "", keys = "", places }, index, isActive) {
  const key = keys ? `<kbd class="key-hint">${escapeHtml(keys)}</kbd>` : "";
  return (
    `<div role="option" id="palette-item-${index}" data-index="${index}" aria-selected="${isActive}">` +
    `${icon}<span class="palette-text">${highlightHtml(text, places)}</span>` +
    `<span class="palette-detail">${escapeHtml(detail)}</span>${key}</div>`
  );
}
