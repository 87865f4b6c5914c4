/* The visitor's actions, on their way to the page's server. They are sent one at a time: Streamlit
   keeps only the last trigger of a component that it has not handled yet, so that a second click
   would replace the first. */

const PATIENCE = 10_000; // milliseconds to wait for an answer, which a lost connection may swallow

export class VisitorActions {
  constructor() {
    this.component = null; // the header's, which sends them
    this.waiting = []; // actions that are not sent yet: { name, value }
    this.timer = null; // runs while an action was sent and not answered yet
  }

  send(name, value) {
    this.waiting.push({ name, value });
    this.sendNext();
  }

  sendNext() {
    if (this.timer || !this.component || this.waiting.length === 0) {
      return;
    }
    const { name, value } = this.waiting.shift();
    this.component.setTriggerValue(name, value);
    this.timer = setTimeout(() => this.onAnswer(), PATIENCE);
  }

  /** The server has answered, or will not. */
  onAnswer() {
    clearTimeout(this.timer);
    this.timer = null;
    this.sendNext();
  }
}
