/* A question beside the button that asks it, with one answer that acts and one that does not. */

import { makeButton } from "./dom.js";

export class Question {
  /** `node` is the element that shows the question. It moves to the button that asks. */
  constructor(node) {
    this.node = node;
    this.about = ""; // what the open question is about; "" if none is open
  }

  /** `asked`: { about, near, text, yes, no, act, isDangerous }. `near` is the button that asks. */
  ask({ about, near, text, yes, no = "Cancel", act, isDangerous = false }) {
    const question = document.createElement("span");
    question.textContent = text;
    const answer = (then) => () => {
      this.hide();
      near.focus();
      then();
    };
    const accept = makeButton(yes, answer(act), isDangerous ? "danger" : "primary");
    this.node.replaceChildren(
      question,
      accept,
      makeButton(
        no,
        answer(() => {}),
      ),
    );
    near.after(this.node);
    this.node.hidden = false;
    this.about = about;
    accept.focus();
  }

  hide() {
    this.node.hidden = true;
    this.about = "";
  }
}
