/* The clicks and keys of the home. */

import { copyByButton, opensElsewhere } from "./dom.js";
import { ask } from "./errands.js";
import { isDismissible } from "./home_attention.js";
import { seen } from "./home_seen.js";
import { EXAMPLES } from "./home_welcome.js";
import { page } from "./page_state.js";
import { saved } from "./saved_state.js";

const BAR_STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

export class HomeActions {
  constructor(home) {
    this.home = home;
    home.node.addEventListener("click", (event) => this.onClick(event));
    home.node.addEventListener("keydown", (event) => this.onKey(event));
  }

  onClick(event) {
    this.home.press.isHeld = false; // the answer to the click is drawn at once
    const target = event.target.closest("[data-act]");
    if (!target || (target.matches("a") && opensElsewhere(event))) {
      return;
    }
    event.preventDefault();
    const key = target.closest("[data-item]")?.dataset.item;
    this.act(
      target,
      this.home.items.find((item) => item.key === key),
    );
  }

  /** `item` is the item that needs attention and contains the target, if there is one. */
  act(target, item) {
    const { id, index, name, text } = target.dataset;
    const actions = {
      go: () => page.followLink(target),
      copy: () => copyByButton(target, text),
      example: () => this.runExample(EXAMPLES[index]),
      "open-saved": () => saved.openRun(name),
      "ask-cancel": () => this.askToCancel(id),
      keep: () => this.keepRunning(id),
      cancel: () => this.cancel(id),
      rerun: () => page.act("rerun", item.newest.id),
      resume: () => this.resume(item.queue),
      unpause: () => saved.act("pause", { name: item.name, paused: false }),
      "show-all": () => this.showAll(),
      dismiss: () => this.dismiss(item),
      "dismiss-all": () => this.dismissAll(),
    };
    actions[target.dataset.act]();
  }

  onKey(event) {
    const bar = event.target.closest(".home-runs a");
    if (event.key === "Escape" && this.home.asking) {
      event.stopPropagation();
      this.keepRunning(this.home.asking);
    } else if (bar && event.key in BAR_STEPS) {
      event.preventDefault();
      const bars = [...bar.parentNode.children];
      const index = bars.indexOf(bar) + BAR_STEPS[event.key];
      bars[Math.min(bars.length - 1, Math.max(0, index))].focus();
    }
  }

  // --- Running jobs ---

  askToCancel(id) {
    this.home.asking = id;
    this.home.draw();
    this.focus(`cancel ${id}`);
  }

  keepRunning(id) {
    this.home.asking = "";
    this.home.draw();
    this.focus(`ask-cancel ${id}`);
  }

  cancel(id) {
    this.home.asking = "";
    this.home.cancelled.add(id);
    page.act("cancel", id);
    this.home.draw();
    this.focus(`job ${id}`);
  }

  focus(key) {
    this.home.node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  }

  // --- What needs attention ---

  async resume(queue) {
    const answer = await ask("resume", { queue });
    this.home.problem = answer.error ?? "";
    page.refresh(); // it brings the pauses, for which the home loads its sections again
    this.home.draw();
  }

  /** Shows all failures, and puts the focus on the first one that was hidden. */
  showAll() {
    const shown = this.home.node.querySelectorAll(".home-item.failure").length;
    this.home.showsAll = true;
    this.home.draw();
    this.home.node.querySelectorAll(".home-item.failure")[shown]?.querySelector("a").focus();
  }

  dismiss(item) {
    const index = this.home.items.filter(isDismissible).indexOf(item);
    seen.dismiss(item);
    this.home.draw();
    this.focusDismiss(index);
  }

  dismissAll() {
    seen.dismissAll(this.home.items.filter(isDismissible));
    this.home.draw();
    this.focusDismiss(0);
    this.home.reload("attention");
  }

  /** After an item has gone, puts the focus on the next one's button. */
  focusDismiss(index) {
    const buttons = [...this.home.node.querySelectorAll('[data-act="dismiss"]')];
    const next = buttons[Math.min(index, buttons.length - 1)];
    (next ?? this.home.node.querySelector("#home-attention")).focus();
  }

  // --- The first visit ---

  async runExample({ name, command }) {
    const key = crypto.randomUUID?.() ?? `${Date.now()} ${Math.random()}`; // none over plain HTTP
    const answer = await ask("run", { name, command, key });
    this.home.problem = answer.error ? `Not sent. ${answer.error}` : "";
    if (answer.id) {
      page.refreshLater();
      page.show(answer.id);
    } else {
      this.home.draw();
    }
  }
}
