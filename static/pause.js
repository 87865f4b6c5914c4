/* Waiting: between two tries, or so that the page has its turn. */

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
