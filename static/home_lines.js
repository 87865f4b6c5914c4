/* The last lines of running jobs. They are requested one after the other: event streams would use
   up the few connections that a browser opens to a server. */

import { expectUnreachable, fetchPart } from "./log_stream.js";
import { plainLine } from "./log_text.js";
import { pause } from "./pause.js";

const PERIOD = 1500; // milliseconds between two rounds
const PERIOD_UNREACHABLE = 15_000; // while the browser does not reach the API
const MOST = 8; // jobs in one round
const LINES = 5; // of each log that are requested: the last ones may be empty
const LINE_LIMIT = 300; // characters that are kept

export class LastLines {
  /** `wanted()` returns the IDs of the jobs whose lines are visible; `onChange()` is called after
      each round. */
  constructor(wanted, onChange) {
    this.wanted = wanted;
    this.onChange = onChange;
    this.lines = new Map(); // by job ID; "" if a job has written nothing
    this.isRunning = false;
  }

  /** Starts the rounds. They stop by themselves when no line is wanted. */
  async start() {
    if (this.isRunning) {
      return;
    }
    this.isRunning = true;
    for (let ids = this.next(); ids.length > 0; ids = this.next()) {
      const isReachable = await this.load(ids);
      this.onChange();
      await pause(isReachable ? PERIOD : PERIOD_UNREACHABLE);
    }
    this.isRunning = false;
  }

  next() {
    const ids = this.wanted().slice(0, MOST);
    for (const id of this.lines.keys()) {
      if (!ids.includes(id)) {
        this.lines.delete(id);
      }
    }
    return ids;
  }

  async load(ids) {
    try {
      for (const id of ids) {
        const { bytes } = await fetchPart(id, { tail: LINES });
        this.lines.set(id, lastLine(new TextDecoder().decode(bytes)));
      }
      return true;
    } catch (error) {
      expectUnreachable(error);
      return false;
    }
  }
}

/** The last line of a text that is not empty, as a reader sees it. */
function lastLine(text) {
  const lines = text.split("\n").map((line) => plainLine(line).trim());
  return (lines.filter(Boolean).at(-1) ?? "").slice(0, LINE_LIMIT);
}
