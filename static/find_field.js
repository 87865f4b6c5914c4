/* The field of the text to find, its options, and the counter beside it. */

const SLOW = 500; // milliseconds without an answer until the counter says so

export class FindField {
  /** `changed()` is called when the user changes the text or an option. */
  constructor(find, changed) {
    this.field = find("find-field");
    this.counter = find("found");
    this.caseButton = find("match-case");
    this.regexButton = find("use-regex");
    this.changed = changed;
    this.field.addEventListener("input", () => changed());
    for (const button of [this.caseButton, this.regexButton]) {
      button.addEventListener("click", () => this.toggle(button));
    }
  }

  get query() {
    return {
      text: this.field.value,
      matchCase: isPressed(this.caseButton),
      isRegex: isPressed(this.regexButton),
    };
  }

  clear() {
    this.field.value = "";
  }

  toggle(button) {
    button.setAttribute("aria-pressed", String(!isPressed(button)));
    this.field.focus();
    this.changed();
  }

  // --- The counter ---

  write(words, isWrong = false) {
    clearTimeout(this.timer);
    if (this.counter.textContent !== words) {
      this.counter.textContent = words;
      this.counter.title = words;
    }
    this.counter.classList.toggle("wrong", isWrong);
    this.field.setAttribute("aria-invalid", String(isWrong));
  }

  /** Writes these words if no others follow soon. */
  writeIfSlow(words) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(words), SLOW);
  }
}

function isPressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}
