/* The second step of the palette: the values of a saved command, or the reason for a pause. */

import { setHtml, showWrong } from "./dom.js";
import { escapeHtml } from "./format.js";
import { page } from "./page_state.js";
import { changeQueue } from "./palette_items.js";
import { saved } from "./saved_state.js";
import { clearSecrets, fieldsHtml, givenValues } from "./saved_text.js";

const REASON = { name: "why", label: "Reason (optional)", default: null, choices: null };

export class PaletteForm {
  /** `form` is the node; `done()` closes the palette. */
  constructor(form, done) {
    this.form = form;
    this.done = done;
    this.shown = null; // what the form is for: { title, command } or { title, queue }
    this.isSent = false; // is an answer awaited?
    form.addEventListener("submit", (event) => this.submit(event));
    this.takeAnswer = this.takeAnswer.bind(this);
    saved.addEventListener("answer", this.takeAnswer);
  }

  close() {
    clearSecrets(this.form);
    saved.removeEventListener("answer", this.takeAnswer);
  }

  find(name) {
    return this.form.querySelector(`.${name}`);
  }

  open(shown) {
    this.shown = shown;
    this.isSent = false;
    const { title, command } = shown;
    this.find("palette-title").textContent = title;
    const preview = command
      ? `<pre tabindex="0" aria-label="Command"><code>${escapeHtml(command.command_text)}</code></pre>`
      : "";
    setHtml(this.find("palette-command"), preview);
    this.find("palette-fields").innerHTML = fieldsHtml(command?.params ?? [REASON], {});
    this.find("palette-send").textContent = command ? "Run" : "Pause queue";
    showWrong(this.form, {});
    (this.form.querySelector("input, select") ?? this.find("palette-send")).focus();
  }

  submit(event) {
    event.preventDefault(); // which would close the dialog before the server has answered
    if (this.isSent) {
      return;
    }
    const typed = Object.fromEntries(new FormData(this.form));
    this.isSent = true;
    if (this.shown.command) {
      const { saved: name, params } = this.shown.command;
      saved.act("run", { name, values: givenValues(params, typed) });
    } else {
      this.pause(typed.why.trim());
    }
  }

  async pause(why) {
    const { queue } = this.shown;
    const error = await changeQueue("pause", { queue, why });
    this.finish(error ? { "": error } : null);
  }

  takeAnswer({ detail: { to, name, job, wrong } }) {
    if (this.isSent && to === "run" && name === this.shown.command?.saved) {
      this.finish(job ? null : (wrong ?? {}));
      if (job) {
        page.show(job);
      }
    }
  }

  /** Closes the palette, or shows what is wrong at the fields. */
  finish(wrong) {
    this.isSent = false;
    clearSecrets(this.form);
    if (!wrong) {
      this.done();
      return;
    }
    showWrong(this.form, wrong);
    this.form.querySelector('[aria-invalid="true"]')?.focus();
  }
}
