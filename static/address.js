/* The address of the page: its query parameters, and links built from them. Pure. */

const FILTERS = ["status", "queue", "by", "q", "before"]; // which jobs the list shows
const OF_JOB = ["job", "at", "compare", "file"];
// All parameters, in this order in the URL. On a narrow screen, `list` shows the list.
const NAMES = ["list", "status", "queue", "by", "q", "logs", "before", ...OF_JOB];

export const NO_FILTERS = withoutValues(FILTERS);
export const EMPTY_ADDRESS = withoutValues(NAMES);

function withoutValues(names) {
  return Object.fromEntries(names.map((name) => [name, ""]));
}

/** The parameters of a URL's query that the page knows and that have a value. */
export function readAddress(search) {
  const given = new URLSearchParams(search);
  const pairs = NAMES.filter((name) => given.get(name)).map((name) => [name, given.get(name)]);
  return Object.fromEntries(pairs);
}

/** The query of a URL for an address. */
export function addressLink(address) {
  const pairs = NAMES.filter((name) => address[name]).map((name) => [name, address[name]]);
  return `?${new URLSearchParams(pairs)}`;
}

/** Does a narrow screen show the home for this address? A wide one shows it beside the list. */
export function asksForHome(address) {
  return !["list", "logs", "job", ...FILTERS].some((name) => address[name]);
}

/** All filters of an address; those that are not set are empty. */
export function filtersOf(address) {
  return Object.fromEntries(FILTERS.map((name) => [name, address[name] ?? ""]));
}
