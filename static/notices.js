/* The bell in the header, and its panel with the notifications of the last day. The panel loads them
   while it is open; until then, each refresh brings only their times. */

import { can } from "./access.js";
import { opensElsewhere, setHtml } from "./dom.js";
import { ask } from "./errands.js";
import { escapeHtml, formatCount } from "./format.js";
import { countNew, noticesHtml } from "./notice_words.js";
import { page, readSetting, writeSetting } from "./page_state.js";
import { Press } from "./press.js";
import { addShortcut } from "./shortcuts.js";

const SEEN = "notices-seen"; // a setting: the time of the newest notification that was shown
const MOST_COUNTED = 99;
const EMPTY = "<p>No notifications in the last day.</p>";
const HOW =
  '<p class="faint">To be notified of a saved command, choose + Run, then the command, Edit… and ' +
  "Notifications. The setting <code>TAILBOARD_NOTIFY</code> applies to all other jobs.</p>";
const MORE = '<p class="faint">Older ones are not listed.</p>';

export class Notices {
  /** `find(name)` returns a node of the header by its class. */
  constructor(find) {
    this.button = find("open-notices");
    this.panel = find("notices");
    this.content = find("notices-content");
    this.found = null; // { notices, more }; null until they have been loaded
    this.error = "";
    this.isAsking = false;
    this.seenBefore = 0; // what the visitor had seen when the panel was opened, in milliseconds
    this.onStatus = this.onStatus.bind(this);
    page.on("status", this.onStatus);
    this.press = new Press(this.content, () => this.draw());
    this.panel.addEventListener("toggle", () => this.onToggle());
    this.content.addEventListener("click", (event) => this.onClick(event));
    addShortcut("n", "show notifications", () => this.open(), "Page");
  }

  close() {
    page.removeEventListener("status", this.onStatus);
    this.press.close();
  }

  get isOpen() {
    return this.panel.matches(":popover-open");
  }

  /** The time in milliseconds up to which the visitor has seen notifications, in any tab. */
  get seen() {
    return Date.parse(readSetting(SEEN, "")) || 0;
  }

  /** Was the focus in the panel, which has just closed? It stays there for a frame. */
  get hadFocus() {
    const { activeElement } = this.panel.getRootNode();
    return document.activeElement === document.body || this.panel.contains(activeElement);
  }

  open() {
    if (!this.isOpen) {
      this.panel.showPopover({ source: this.button });
    }
  }

  onToggle() {
    if (this.isOpen) {
      this.seenBefore = this.seen;
      this.draw();
      this.load();
    } else if (this.hadFocus) {
      this.button.focus(); // Chromium does not return the focus into a shadow root
    }
    this.drawButton();
  }

  onStatus() {
    this.drawButton();
    if (this.isOpen) {
      this.load();
    }
  }

  async load() {
    if (this.isAsking || page.status.problem) {
      return;
    }
    this.isAsking = true;
    const answer = await ask("notices");
    this.isAsking = false;
    this.error = answer.error ? "Can't load notifications." : "";
    if (answer.notices) {
      this.found = answer;
      this.rememberSeen();
    }
    this.draw();
    this.drawButton();
  }

  rememberSeen() {
    const [newest] = this.found.notices;
    if (newest && this.isOpen && Date.parse(newest.at) > this.seen) {
      writeSetting(SEEN, newest.at);
    }
  }

  onClick(event) {
    const link = event.target.closest("[data-job]");
    if (link && !opensElsewhere(event)) {
      event.preventDefault();
      this.panel.hidePopover();
      page.go({ job: link.dataset.job, at: link.dataset.at });
    }
  }

  // --- Drawing ---

  drawButton() {
    const count = this.isOpen ? 0 : countNew(page.status.noticed ?? [], this.seen);
    const shown = count > MOST_COUNTED ? `${MOST_COUNTED}+` : formatCount(count);
    const label = count > 0 ? `Notifications, ${shown} new` : "Notifications";
    this.button.ariaLabel = label;
    this.button.title = label;
    setHtml(this.button.querySelector(".notice-count"), count > 0 ? shown : "");
  }

  draw() {
    if (!this.isOpen || this.press.isHeld) {
      return;
    }
    const { activeElement } = this.content.getRootNode();
    const links = [...this.content.querySelectorAll("a")];
    const focused = links.indexOf(activeElement);
    setHtml(this.content, this.contentHtml());
    if (focused >= 0) {
      this.content.querySelectorAll("a")[focused]?.focus();
    }
  }

  contentHtml() {
    const { found, error, seenBefore: seen } = this;
    const problem = error || (found ? "" : page.status.problem);
    if (problem) {
      return `<p class="notices-problem" role="alert">${escapeHtml(problem)}</p>`;
    }
    if (!found) {
      return '<p class="faint" role="status">Loading…</p>';
    }
    if (found.notices.length === 0) {
      return can("save") ? EMPTY + HOW : EMPTY;
    }
    const link = (change) => page.link(change);
    const context = { statuses: page.statuses, now: page.now, link, seen };
    return noticesHtml(found.notices, context) + (found.more ? MORE : "");
  }
}
