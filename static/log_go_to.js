/* The field for going to a line by its number, below the log. */

import { fetchLineOffset } from "./log_stream.js";
import { page } from "./page_state.js";

const LINES = /^\s*L?(\d{1,12})(?:\s*[-–]\s*L?(\d{1,12}))?\s*$/i;

export class LogGoTo {
  /** `go(first, last)` shows and selects the lines with these offsets. */
  constructor({ find, source, go }) {
    this.find = find;
    this.source = source;
    this.go = go;
    this.form = find("go-to");
    this.field = find("go-field");
    find("size").addEventListener("click", () => this.open());
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("keydown", (event) => this.onKey(event));
    this.form.addEventListener("focusout", (event) => this.onLeave(event));
    this.field.addEventListener("input", () => this.report(""));
  }

  /** Returns false if no log is open. */
  open() {
    if (!page.address.job) {
      return false;
    }
    this.form.hidden = false;
    this.find("size").hidden = true;
    this.report("");
    this.field.select();
    this.field.focus();
  }

  close() {
    this.form.hidden = true;
    this.find("size").hidden = false;
  }

  onKey(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      this.close();
      this.find("view").focus();
    }
  }

  /** Safari does not focus a button that is clicked, so no node gets the focus then. */
  onLeave({ relatedTarget }) {
    if (relatedTarget && !this.form.contains(relatedTarget)) {
      this.close();
    }
  }

  report(text) {
    this.find("go-wrong").textContent = text;
    this.field.setAttribute("aria-invalid", String(text !== ""));
  }

  async submit(event) {
    event.preventDefault();
    const found = LINES.exec(this.field.value);
    if (!found) {
      this.report("Enter a number, like 120, or 120-140.");
      return;
    }
    const { jobId } = this.source;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
    const from = await fetchLineOffset(jobId, Math.min(first, last));
    const to = first === last ? from : await fetchLineOffset(jobId, Math.max(first, last));
    const wrong = from.wrong ?? to.wrong;
    if (jobId !== this.source.jobId) {
      return; // another log was opened meanwhile
    }
    if (wrong) {
      this.report(wrong);
      return;
    }
    this.close();
    this.find("view").focus();
    this.go(from.offset, to.offset);
  }
}
