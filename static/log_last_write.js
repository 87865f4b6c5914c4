/* When a silent job last wrote something: the time of its log's last line. The stream of a log only
   says what was written since the page was opened. It draws nothing. */

import { startTime } from "./format.js";
import { splitStamped } from "./log_lines.js";
import { expectUnreachable, fetchPart } from "./log_stream.js";

const NEWLINE = 10; // its byte
const QUIET = 5000; // milliseconds without output until the time is requested

export class LastWrite {
  /** `changed()` is called when `at` has become known. */
  constructor(source, changed) {
    this.source = source;
    this.changed = changed;
    this.reset();
  }

  /** Another job is shown. */
  reset() {
    this.known = null; // { size, time }: when the log got this size; milliseconds since 1970
    this.requested = null; // the size of the last request
  }

  /** The time; null if it is not known, or if the job has written something since. */
  get at() {
    return this.known?.size === this.source.size ? this.known.time : null;
  }

  /** Requests the time, once when the log is opened and once for each silence. */
  update(job) {
    const { source, requested } = this;
    const isOpen = job.status === "running" && source.stream?.isOpen;
    const isDue = requested === null || Date.now() - source.writtenAt > QUIET;
    if (isOpen && isDue && source.size !== requested) {
      this.load(job, source.size);
    }
  }

  async load(job, size) {
    const { source } = this;
    const { signal } = source.aborter;
    this.requested = size;
    try {
      const written = size > 0 ? await lastTime(job.id, signal) : 0;
      const time = Math.max(written, startTime(job)); // earlier attempts do not count
      if (!signal.aborted && source.size === size && time) {
        this.known = { size, time };
        source.writtenAt = Math.min(source.writtenAt, time);
        this.changed();
      }
    } catch (error) {
      expectUnreachable(error);
    }
  }
}

/** The time of the last line of a log; NaN if it is not known. That of an unfinished line says when it
    was begun. */
async function lastTime(jobId, signal) {
  const part = await fetchPart(jobId, { tail: 1, timestamps: 1 }, signal);
  if (part.bytes.at(-1) !== NEWLINE) {
    return Number.NaN;
  }
  const line = splitStamped(part.bytes, part.offset, null).at(-1);
  return Date.parse(line?.stamp ?? "");
}
