/* The session key that this browser has stored, so that its visitor stays signed in. It is in the
   page's localStorage, because a cookie would go to each port of this host (docs/security.md). The
   token itself is never stored. */

const ITEM = "tailboard.session";

/** { key, expires_at }, or null if there is none or storage is blocked. */
export function storedSession() {
  try {
    return parseSession(localStorage.getItem(ITEM));
  } catch {
    return null;
  }
}

function parseSession(text) {
  try {
    const session = JSON.parse(text);
    return typeof session?.key === "string" ? session : null;
  } catch {
    return null;
  }
}

function parseReason(text) {
  try {
    return String(JSON.parse(text)?.reason ?? "");
  } catch {
    return "";
  }
}

export function storeSession({ key, expires_at }) {
  try {
    localStorage.setItem(ITEM, JSON.stringify({ key, expires_at }));
  } catch {
    // If storage is blocked, the visitor is signed in until the tab is closed.
  }
}

/** Removes the session. The other tabs learn the reason, if there is one to show. */
export function forgetSession(reason = "") {
  try {
    if (reason) {
      localStorage.setItem(ITEM, JSON.stringify({ reason }));
    }
    localStorage.removeItem(ITEM);
  } catch {
    // Then there is none.
  }
}

/** Another tab has stored or removed a session: calls `act` with the old one, the new one and the
    reason. */
export function onSessionChange(act) {
  addEventListener("storage", (event) => {
    if (event.key === ITEM || event.key === null) {
      act(parseSession(event.oldValue), storedSession(), parseReason(event.newValue));
    }
  });
}
