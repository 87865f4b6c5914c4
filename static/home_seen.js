/* What this visitor has seen of failures: stored in this browser, because each visitor looks at a
   time of their own. A failure has been seen when the visitor dismisses it, or after its log was
   shown. Loading the page is not enough. */

import { failureKey, stoppedKey } from "./home_attention.js";
import { readSetting, writeSetting } from "./page_state.js";

const FIRST_VISIT = 86_400_000; // milliseconds: failures this old are shown to a new visitor
const MOST_SHOWN = 200; // jobs whose logs are remembered as shown

class Seen {
  /** The time from which failures are new, in RFC 3339. */
  get since() {
    const stored = readSetting("home-since", "");
    if (stored) {
      return stored;
    }
    const since = new Date(Date.now() - FIRST_VISIT).toISOString();
    writeSetting("home-since", since);
    return since;
  }

  /** By key of an item: { at, count } of its newest occurrence when it was dismissed. */
  get dismissed() {
    return readSetting("home-dismissed", {});
  }

  /** By job ID: when its log was last shown, in milliseconds. */
  get shown() {
    return readSetting("home-shown", {});
  }

  /** Remembers that the log of a job is shown now. */
  rememberShown(id) {
    const shown = { ...this.shown, [id]: Date.now() };
    const newest = Object.entries(shown).sort(([, one], [, other]) => other - one);
    writeSetting("home-shown", Object.fromEntries(newest.slice(0, MOST_SHOWN)));
  }

  dismiss({ key, at, count }) {
    writeSetting("home-dismissed", { ...this.dismissed, [key]: { at, count } });
  }

  /** Forgets dismissals of paused schedules that are no longer paused. */
  forgetResumed(schedules) {
    const paused = schedules.filter((schedule) => schedule.paused).map(({ saved }) => saved);
    const kept = new Set(paused.map(stoppedKey));
    const all = Object.entries(this.dismissed);
    const rest = all.filter(([key]) => !key.startsWith(stoppedKey("")) || kept.has(key));
    if (rest.length < all.length) {
      writeSetting("home-dismissed", Object.fromEntries(rest));
    }
  }

  /** Dismisses these items. All failures up to the newest dismissed one are then seen, so that later
      requests need only ask for newer ones. */
  dismissAll(items) {
    const { dismissed } = this;
    const isFailure = (key) => key.startsWith(failureKey(""));
    const now = Object.fromEntries(items.map(({ key, at, count }) => [key, { at, count }]));
    const all = Object.entries({ ...dismissed, ...now });
    const ends = all.filter(([key]) => isFailure(key)).map(([, { at }]) => at);
    const since = [this.since, ...ends].sort().at(-1); // as text, RFC 3339 in UTC sorts by time
    writeSetting("home-since", since);
    writeSetting("home-dismissed", Object.fromEntries(all.filter(([key]) => !isFailure(key))));
  }

  /** Dismisses the failures whose logs were shown after they had ended. */
  dismissShown(failures) {
    const { shown } = this;
    for (const { name, count, newest } of failures) {
      if (shown[newest.id] >= Date.parse(newest.finished_at)) {
        this.dismiss({ key: failureKey(name), at: newest.finished_at, count });
      }
    }
  }
}

export const seen = new Seen();
