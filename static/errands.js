/* Errands: requests that the page's server sends to the API with the visitor's token. This
   component draws nothing. It sends one errand at a time and waits for its answer. */

import { closeWhenRemoved } from "./dom.js";

const PATIENCE = 20_000; // milliseconds to wait for an answer, which a lost connection may swallow
// Milliseconds until an errand is sent again. Streamlit loses one of two components' values if both
// arrive while it starts a run. The server does an errand with the same number only once. Each
// sending interrupts a run that is still going on, so there are few, and they are far apart.
const RESENDINGS = [4000, 12_000];
const NO_ANSWER = { error: "The page's server does not answer.", busy: false, may_pass: true };

class Errands {
  constructor() {
    this.component = null;
    this.waiting = []; // errands that are not sent yet
    this.current = null; // the errand that was sent and not answered yet
    this.number = Date.now(); // of the last errand; starts above the numbers of any earlier page
  }

  ask(errand, details) {
    return new Promise((resolve) => {
      this.waiting.push({ errand, details, resolve });
      // If two components send values in one turn of the event loop, Streamlit loses one of them.
      setTimeout(() => this.sendNext(), 0);
    });
  }

  sendNext() {
    if (this.current || !this.component || this.waiting.length === 0) {
      return;
    }
    this.current = this.waiting.shift();
    this.number += 1;
    this.send();
    this.resendings = RESENDINGS.map((delay) => setTimeout(() => this.send(), delay));
    this.timer = setTimeout(() => this.finish(NO_ANSWER), PATIENCE);
  }

  send() {
    const { errand, details } = this.current;
    this.component?.setTriggerValue("ask", { ...details, errand, number: this.number });
  }

  finish(answer) {
    clearTimeout(this.timer);
    this.resendings.forEach(clearTimeout);
    const { resolve } = this.current;
    this.current = null;
    resolve(answer);
    this.sendNext();
  }

  update(component) {
    this.component = component;
    if (this.current && component.data.number === this.number) {
      this.finish(component.data);
    }
    this.sendNext();
  }

  /** Forgets the component, unless another one has taken its place already. */
  close() {
    if (!this.component?.parentElement.isConnected) {
      this.component = null;
    }
  }
}

const errands = new Errands();

/** Sends an errand, named as in ERRANDS of tailboard/page/errands.py, and resolves to its answer.
    If the errand failed, the answer has an `error`, a sentence. The promise never rejects. */
export function ask(errand, details = {}) {
  return errands.ask(errand, details);
}

export default function mountErrands(component) {
  errands.update(component);
  return closeWhenRemoved(component.parentElement, errands);
}
