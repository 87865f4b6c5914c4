/* Errands: what the page's server does for a visitor, with the visitor's token, and answers. The
   component draws nothing: it carries them, one at a time. */

import { closeWhenRemoved } from "./dom.js";

const PATIENCE = 20_000; // milliseconds until an answer is given up, as after a lost connection
const NO_ANSWER = { error: "The page's server does not answer.", busy: false, may_pass: true };

class Errands {
  constructor() {
    this.component = null;
    this.waiting = []; // what is asked and not sent yet
    this.current = null; // what is sent and not answered yet
    this.number = Date.now(); // of the last one sent; none that a page before it has sent
  }

  ask(errand, details) {
    return new Promise((resolve) => {
      this.waiting.push({ errand, details, resolve });
      // Of what two components send in one turn of the event loop Streamlit loses one.
      setTimeout(() => this.sendNext(), 0);
    });
  }

  sendNext() {
    if (this.current || !this.component || this.waiting.length === 0) {
      return;
    }
    this.current = this.waiting.shift();
    this.number += 1;
    const { errand, details } = this.current;
    this.component.setTriggerValue("ask", { ...details, errand, number: this.number });
    this.timer = setTimeout(() => this.finish(NO_ANSWER), PATIENCE);
  }

  finish(answer) {
    clearTimeout(this.timer);
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

  close() {
    this.component = null;
  }
}

const errands = new Errands();

/** Ask the server for an errand of ERRANDS in tailboard/page/errands.py. Its answer has an `error`, a sentence,
    where it could not be done; never rejects. */
export function ask(errand, details = {}) {
  return errands.ask(errand, details);
}

export default function mountErrands(component) {
  errands.update(component);
  return closeWhenRemoved(component.parentElement, errands);
}
