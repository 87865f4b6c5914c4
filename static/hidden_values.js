/* A field with an environment whose values the server has not sent, and a button that shows them. */

import { ask } from "./errands.js";
import { HIDDEN, revealEnvironment } from "./saved_form_text.js";

export class HiddenValues {
  /** `origin()` returns what the form was filled from: { job: ID } or { saved: name }. */
  constructor(field, button, origin) {
    this.field = field;
    this.button = button;
    this.origin = origin;
    field.addEventListener("input", () => this.draw());
    button.addEventListener("click", () => this.reveal());
  }

  draw() {
    this.button.hidden = !this.field.value.includes(`=${HIDDEN}`);
  }

  async reveal() {
    const { env = {} } = await ask("environment", this.origin());
    this.field.value = revealEnvironment(this.field.value, env);
    this.draw();
    this.field.focus();
  }
}
