/* The schedule in the form of a saved command: a cron expression, its time zone, and its next
   times. */

import { setHtml, showWrong } from "./dom.js";
import { ask } from "./errands.js";
import { previewHtml } from "./saved_form_text.js";

const DELAY = 250; // milliseconds after the last key until the next times are asked for
const OWN_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

export class ScheduleFields {
  constructor(form) {
    this.form = form;
    this.timer = null;
    this.preview = form.querySelector(".save-next");
    const { cron, zone } = form.elements;
    for (const field of [cron, zone]) {
      field.addEventListener("input", () => this.onInput());
    }
    form
      .querySelector(".save-examples")
      .addEventListener("click", (event) => this.onExample(event));
    const zones = Intl.supportedValuesOf("timeZone").map((name) => `<option value="${name}">`);
    setHtml(form.querySelector("#save-zones"), ['<option value="UTC">', ...zones].join(""));
  }

  fill({ cron, zone, paused }) {
    const { elements } = this.form;
    elements.cron.value = cron ?? "";
    elements.zone.value = cron ? zone : OWN_ZONE;
    elements.paused.checked = Boolean(paused);
    this.draw();
    this.load();
  }

  get cron() {
    return this.form.elements.cron.value.trim();
  }

  get zone() {
    return this.form.elements.zone.value.trim();
  }

  /** The schedule as the server takes it. */
  get values() {
    const { cron, zone } = this;
    return { cron, zone, paused: cron !== "" && this.form.elements.paused.checked };
  }

  draw() {
    const isEmpty = this.cron === "";
    this.form.querySelector(".save-zone").hidden = isEmpty;
    this.form.querySelector(".save-paused").hidden = isEmpty;
    if (isEmpty) {
      this.preview.hidden = true;
    }
  }

  onInput() {
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), DELAY);
  }

  onExample({ target }) {
    if (target.dataset.cron) {
      this.form.elements.cron.value = target.dataset.cron;
      this.form.elements.cron.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  /** Shows the next times, or what is wrong with the schedule. */
  async load() {
    const { cron, zone } = this;
    if (cron === "") {
      return;
    }
    const answer = await ask("schedule", { cron, zone });
    if (!this.form.isConnected || cron !== this.cron || zone !== this.zone) {
      return; // the visitor has typed on
    }
    const { times = [], wrong = {} } = answer;
    const isKnown = !answer.error && Object.keys(wrong).length === 0;
    this.preview.hidden = !isKnown;
    setHtml(this.preview, isKnown ? previewHtml(times, zone, OWN_ZONE) : "");
    showWrong(this.form, wrong, ["cron", "zone"]);
  }
}
