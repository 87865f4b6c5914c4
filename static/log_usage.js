/* Whether a job is hung or busy: its processor time and memory as two small lines above the log. The
   pauses of the log are shaded on them. The pointer or the arrow keys choose a time, and a click or
   Enter goes to the lines of that time. */

import { setHtml } from "./dom.js";
import { isEnded } from "./format.js";
import { LastWrite } from "./log_last_write.js";
import { fetchPart, Unreachable } from "./log_stream.js";
import { page } from "./page_state.js";
import { UsageSamples } from "./usage_samples.js";
import {
  HEIGHT,
  linePath,
  nearestIndex,
  pausesSvg,
  timesOf,
  topOfMemory,
  WIDTH,
  worthShading,
  xOf,
  yOf,
} from "./usage_shape.js";
import {
  cpuWords,
  lineLabel,
  memoryWords,
  recentCores,
  summarize,
  wordsAt,
} from "./usage_words.js";

const LEAST = 2; // samples that make a line
const KEY_STEPS = 100; // presses of an arrow key from one end to the other
const BIG_STEP = 10; // times as far, with Page Up and Page Down
const NEAR = 24; // pixels from the chosen time at which a second tap goes there

export class LogUsage {
  /** `pane` is the log pane; `find(name)` returns one of its nodes by class. */
  constructor(pane, find) {
    this.pane = pane;
    this.node = find("usage");
    this.slider = find("usage-time");
    this.parts = [...this.node.querySelectorAll(".usage-part")].map(readPart);
    this.loaded = new UsageSamples(pane.source, () => this.redraw());
    this.lastWrite = new LastWrite(pane.source, () => this.redraw());
    this.listen();
    this.reset();
  }

  listen() {
    const on = (name, act) => this.node.addEventListener(name, (event) => act(event));
    on("pointermove", (event) => event.pointerType === "mouse" && this.choose(event));
    on("pointerleave", (event) => event.pointerType === "mouse" && this.clearTime());
    on("pointerdown", (event) => this.onPress(event));
    on("click", (event) => this.onClick(event));
    this.slider.addEventListener("keydown", (event) => this.onKey(event));
    this.slider.addEventListener("blur", () => this.clearTime());
  }

  /** Another job is shown. */
  reset() {
    this.loaded.setJob();
    this.lastWrite.reset();
    this.pauses = []; // of the log: { from, to } in milliseconds
    this.chosen = null; // the sample at the chosen time
    this.node.hidden = true;
  }

  get samples() {
    return this.loaded.samples;
  }

  /** How many cores the job has kept busy lately; null if that is not known. */
  get cores() {
    return this.pane.job?.status === "running" ? recentCores(this.samples, page.now) : null;
  }

  /** Called every second. */
  update(job) {
    this.loaded.update(job);
    this.lastWrite.update(job);
  }

  draw({ pauses }, job) {
    this.pauses = worthShading(pauses?.pauses ?? []);
    this.redraw(job);
  }

  // --- Drawing ---

  redraw(job = this.pane.job) {
    const { samples } = this;
    this.node.hidden = samples.length < LEAST || !job;
    if (this.node.hidden) {
      return;
    }
    const limit = job.max_memory ?? null;
    const endedAt = isEnded(job) ? Date.parse(job.finished_at) || null : null;
    this.times = timesOf(samples, { startedAt: firstStart(job), endedAt });
    const facts = summarize(samples);
    const state = { isRunning: job.status === "running", limit };
    this.words = { cpu: cpuWords(facts, state), memory: memoryWords(facts, state) };
    const tops = {
      cpu: Math.max(1, facts.mostCpu ?? 0),
      memory: topOfMemory(facts.mostMemory, limit),
    };
    const pauses = pausesSvg([...this.pauses, ...this.silence(job)], this.times);
    for (const part of this.parts) {
      this.drawPart(part, { top: tops[part.of], pauses, limit });
    }
    this.slider.ariaValueMax = String(samples.length - 1);
    this.showTime(this.chosen && nearestIndex(samples, this.chosen.at));
  }

  /** The pause that has not ended yet, in an array; an empty one if the job is not silent. */
  silence(job) {
    const { at } = this.lastWrite;
    return at !== null && job.status === "running" ? [{ from: at, to: this.times.to }] : [];
  }

  drawPart({ of, node, label }, { top, pauses, limit }) {
    const line = linePath(this.samples, (sample) => sample[of], this.times, top);
    setHtml(node.querySelector("g"), pauses);
    node.querySelector(".usage-line").setAttribute("d", line);
    node.querySelector(".usage-area").setAttribute("d", areaOf(line));
    node.querySelector("svg").ariaLabel = lineLabel(label, this.words[of]);
    const limitLine = node.querySelector(".usage-limit");
    const y = limit === null ? -1 : yOf(limit, top);
    node.classList.toggle("limited", limitLine !== null && limit !== null);
    limitLine?.classList.toggle("none", y < 0);
    limitLine?.setAttribute("y1", y);
    limitLine?.setAttribute("y2", y);
  }

  /** Shows the values at one sample, or those of now. */
  showTime(index) {
    this.chosen = index === null ? null : this.samples[index];
    const said = this.chosen ? wordsAt(this.chosen) : this.words;
    for (const { of, node } of this.parts) {
      setText(node.querySelector("b"), said[of].value);
      setText(node.querySelector("small"), said[of].more);
      const mark = node.querySelector(".usage-at");
      mark.classList.toggle("none", !this.chosen);
      if (this.chosen) {
        const x = xOf(this.chosen.at, this.times);
        mark.setAttribute("x1", x);
        mark.setAttribute("x2", x);
      }
    }
    this.slider.ariaValueNow = String(index ?? this.samples.length - 1);
    this.slider.ariaValueText = this.chosen
      ? `${said.time}: ${said.cpu.value}, ${said.memory.value}`
      : "now";
  }

  // --- Choosing a time ---

  choose(event) {
    const svg = event.target.closest("svg");
    if (!svg) {
      this.clearTime();
    } else {
      const { left, width } = svg.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
      const { from, to } = this.times;
      this.showTime(nearestIndex(this.samples, from + share * (to - from)));
    }
  }

  clearTime() {
    if (this.chosen) {
      this.showTime(null);
    }
  }

  /** The first tap of a finger only shows the values; a second one at the same place goes there. */
  onPress(event) {
    const before = this.chosen;
    this.choose(event);
    const width = this.parts[0].node.querySelector("svg").clientWidth;
    const placeOf = (sample) => (width * xOf(sample.at, this.times)) / WIDTH;
    const isSame = before && this.chosen && Math.abs(placeOf(before) - placeOf(this.chosen)) < NEAR;
    this.onlyShows = event.pointerType !== "mouse" && !isSame;
  }

  onClick(event) {
    if (event.target.closest("svg") && this.chosen && !this.onlyShows) {
      this.goTo(this.chosen.at);
    }
  }

  onKey(event) {
    const last = this.samples.length - 1;
    const step = Math.max(1, Math.round(last / KEY_STEPS));
    const at = this.chosen ? this.samples.indexOf(this.chosen) : last;
    const places = {
      ArrowLeft: at - step,
      ArrowDown: at - step,
      ArrowRight: at + step,
      ArrowUp: at + step,
      PageDown: at - BIG_STEP * step,
      PageUp: at + BIG_STEP * step,
      Home: 0,
      End: last,
    };
    if (event.key in places) {
      event.preventDefault();
      this.showTime(Math.min(last, Math.max(0, places[event.key])));
    } else if (event.key === "Enter" && this.chosen) {
      event.preventDefault();
      this.goTo(this.chosen.at);
    }
  }

  /** Shows and selects the first line that the job wrote at this time or later; the last one if it
      has written none since. */
  async goTo(time) {
    const { source, places } = this.pane;
    const { jobId } = source;
    const since = new Date(time).toISOString();
    try {
      const part = await fetchPart(jobId, { since, limit_bytes: 1 }, source.aborter.signal);
      const offset = Math.max(part.start, Math.min(part.offset, part.size - 1));
      if (part.size > 0) {
        places.select(offset, offset);
      }
    } catch (error) {
      if (error instanceof Unreachable) {
        page.toast("The API isn't answering. Try again.");
      } else if (error.name !== "AbortError") {
        throw error;
      }
    }
  }
}

function readPart(node) {
  const { of } = node.dataset;
  return { node, of, label: { cpu: "Processor", memory: "Memory" }[of] };
}

function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

/** When the first attempt started; null if that is not known. */
function firstStart(job) {
  const attempts = job.attempts ?? [];
  const first = attempts.find((attempt) => attempt.started_at) ?? job;
  return Date.parse(first.started_at) || null;
}

/** The area below a line, each part of which begins with "M". */
function areaOf(line) {
  const parts = line.split("M").filter(Boolean);
  return parts.map((part) => `M${closed(part)}`).join("");
}

function closed(points) {
  const each = points.split("L");
  const [first] = each[0].split(" ");
  const [last] = each.at(-1).split(" ");
  return `${points}L${last} ${HEIGHT}L${first} ${HEIGHT}Z`;
}
