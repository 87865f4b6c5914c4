/* Waits between two requests, or to let other code of the page run. */

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
