/* Notices that the page's own server has stopped answering. Streamlit then covers the page with a
   dialog, although logs continue, since they come from the API. page.css hides that dialog; this
   file closes it and reports the problem in the header instead. */

import { page } from "./page_state.js";

const DIALOG = '[data-testid="stDialog"]';
const LATE = 5000; // milliseconds that a refresh may be late
const PATIENCE = 3000; // milliseconds to wait for an answer
const LOST = "The page's server isn't answering. Reconnecting…";

class ServerWatch {
  constructor() {
    this.isChecking = false;
    const observer = new MutationObserver(() => this.closeDialog());
    observer.observe(document.body, { childList: true });
    page.on("tick", () => this.onTick());
  }

  closeDialog() {
    const dialog = document.querySelector(DIALOG);
    if (dialog) {
      dialog.querySelector("button")?.click(); // Streamlit then shows no other one
      this.check();
    }
  }

  onTick() {
    const every = Number.parseInt(page.status.interval, 10); // NaN: refreshes are off
    const isLate = Date.now() - page.heardAt > every * 1000 + LATE;
    if (page.status.problem === LOST || isLate) {
      this.check();
    }
  }

  /** Asks the server whether it is well. The next refresh removes the problem. */
  async check() {
    if (this.isChecking) {
      return;
    }
    this.isChecking = true;
    const { heardAt } = page;
    const answers = await isAnswering();
    this.isChecking = false;
    if (heardAt !== page.heardAt) {
      return; // a refresh has arrived since
    }
    if (!answers) {
      page.receiveProblem(LOST);
    } else if (page.status.problem === LOST) {
      page.receiveProblem("");
    }
  }
}

async function isAnswering() {
  const url = new URL("_stcore/health", document.baseURI);
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    return (await fetch(url, { cache: "no-store", signal })).ok;
  } catch {
    return false;
  }
}

export const serverWatch = new ServerWatch();
