/* Requests for parts of a log, and the event stream of its new output. Must not know how a log is
   drawn. */

import { formatCount } from "./format.js";
import { page } from "./page_state.js";
import { pause } from "./pause.js";

const RETRY_DELAY = 2000; // milliseconds before a refused stream reconnects
const SEARCH_TRIES = 6;
const SEARCH_PAUSE = 1000; // milliseconds before a refused search is repeated
const NO_SUCCESS = "No earlier run of this command has succeeded in the last 14 days.";
const NOT_ANSWERING = "The API isn't answering. Try again.";
export const PART_BYTES = 262_144; // per request, at most
export const TAIL_LINES = 1000; // to fetch at the end of a log

/** The browser cannot reach the API, or the API refuses it. */
export class Unreachable extends Error {}

/** The API refuses a search; the message is its sentence. */
export class WrongSearch extends Error {}

/** Rethrows an error, unless it means that a request failed or was aborted. The caller then
    continues with the lines that it has. */
export function expectUnreachable(error) {
  if (!(error instanceof Unreachable) && error.name !== "AbortError") {
    throw error;
  }
}

export function logUrl(jobId, parameters) {
  return jobUrl(jobId, "logs", parameters);
}

function jobUrl(jobId, path, parameters) {
  const given = { ...parameters };
  if (page.status.ticket) {
    given.ticket = page.status.ticket;
  }
  const query = new URLSearchParams(given);
  return `${page.status.api}/jobs/${encodeURIComponent(jobId)}/${path}?${query}`;
}

/** The API's explanation of a job; null if the API cannot be reached or refuses it. */
export function fetchExplanation(jobId, signal) {
  return fetchJson(jobUrl(jobId, "explain"), signal);
}

/** The samples of a job's processor time and memory, with `limit` only the newest ones; null as
    above. */
export function fetchUsage(jobId, parameters, signal) {
  return fetchJson(jobUrl(jobId, "usage", parameters), signal);
}

async function fetchJson(url, signal) {
  try {
    const answer = await fetch(url, { signal, cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** The API's comparison of two logs; or { wrong }, a sentence, if there is none. */
export async function fetchComparison(jobId, parameters, signal) {
  const url = jobUrl(jobId, "diff", parameters);
  for (let tries = 0; tries < SEARCH_TRIES; tries += 1) {
    const answer = await fetch(url, { signal, cache: "no-store" }).catch(() => null);
    if (answer?.ok) {
      return answer.json();
    }
    if (answer?.status === 404 && !parameters.with) {
      return { wrong: NO_SUCCESS };
    }
    if (answer?.status !== 503) {
      const { detail } = (await answer?.json().catch(() => null)) ?? {};
      return { wrong: detail ? `${detail[0].toUpperCase()}${detail.slice(1)}.` : NOT_ANSWERING };
    }
    await pause(SEARCH_PAUSE); // other long logs are being read
  }
  return { wrong: "Too many other logs are being compared. Try again." };
}

async function request(jobId, parameters, signal) {
  try {
    return await fetch(logUrl(jobId, parameters), { signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new Unreachable();
  }
}

/** A part of a log: its bytes and their position. */
export async function fetchPart(jobId, parameters, signal) {
  const answer = await request(jobId, parameters, signal);
  if (answer.status === 416) {
    return fetchPart(jobId, { tail: TAIL_LINES }, signal); // a link to a place after the end
  }
  if (!answer.ok) {
    throw new Unreachable();
  }
  const bytes = new Uint8Array(await answer.arrayBuffer());
  return { bytes, ...describePart(answer.headers) };
}

function describePart(headers) {
  const number = (name) => (headers.has(name) ? Number(headers.get(name)) : null);
  return {
    offset: number("X-Log-Offset"),
    next: number("X-Log-Next"),
    size: number("X-Log-Size"),
    start: number("X-Log-Start"),
    line: number("X-Log-Line"),
    lines: number("X-Log-Lines"),
    status: headers.get("X-Job-Status"),
    complete: headers.get("X-Log-Complete") === "true",
  };
}

/** { offset } of the line with a number, or { wrong }, a sentence. */
export async function fetchLineOffset(jobId, line) {
  for (let tries = 0; tries < SEARCH_TRIES; tries += 1) {
    const answer = await request(jobId, { line, limit_bytes: 1 }).catch(() => null);
    if (answer?.ok) {
      return { offset: Number(answer.headers.get("X-Log-Offset")) };
    }
    if (answer?.status === 416) {
      const { detail } = await answer.json();
      return { wrong: describeMissingLine(detail) };
    }
    if (answer?.status !== 503) {
      return { wrong: NOT_ANSWERING };
    }
    await pause(SEARCH_PAUSE); // the next request continues to count the lines
  }
  return { wrong: "Counting the lines takes too long. Try again." };
}

function describeMissingLine(detail) {
  const [count] = /\d+/.exec(detail) ?? [];
  return count === undefined
    ? "These lines have no numbers: the beginning of the log was deleted."
    : `The last line is ${formatCount(count)}.`;
}

async function isRefusedAsPastEnd(jobId, offset) {
  try {
    const answer = await request(jobId, { offset, limit_bytes: 1 });
    return answer.status === 416;
  } catch (error) {
    if (error instanceof Unreachable) {
      return false;
    }
    throw error;
  }
}

/** The API's answer to a search for a text in the whole log. */
export async function fetchMatches(jobId, parameters, signal) {
  for (let tries = 0; tries < SEARCH_TRIES; tries += 1) {
    const answer = await request(jobId, parameters, signal);
    if (answer.ok) {
      return answer.json();
    }
    if (answer.status === 400) {
      throw new WrongSearch((await answer.json()).detail);
    }
    if (answer.status !== 503) {
      break;
    }
    // The API searches long logs in turn, and another search had its turn.
    await pause(SEARCH_PAUSE);
  }
  throw new Unreachable();
}

/** The output that is written to a log from an offset on. After a lost connection, the browser
    resumes at the exact byte. If the API refuses the stream (an expired ticket, too many
    followers), it is opened again after a delay. */
export class LogStream {
  /** `handlers`: text(text, next), moved(job) when an attempt starts or another one is to follow,
      end(job), gap() if bytes are missing or the log was truncated, change() when it opens or
      breaks. */
  constructor(jobId, offset, stamped, handlers) {
    this.jobId = jobId;
    this.offset = offset;
    this.stamped = stamped;
    this.handlers = handlers;
    this.brokenAt = Date.now(); // null while it is open
    this.failures = 0; // since it was last open
    this.connect();
  }

  get isOpen() {
    return this.source.readyState === EventSource.OPEN;
  }

  connect() {
    const parameters = { follow: 1, offset: this.offset, timestamps: Number(this.stamped) };
    this.source = new EventSource(logUrl(this.jobId, parameters));
    this.source.onopen = () => this.onOpen();
    this.source.onerror = () => this.onError();
    this.source.onmessage = (event) => this.onMessage(event);
    this.source.addEventListener("change", ({ data }) => this.handlers.moved(JSON.parse(data)));
    this.source.addEventListener("end", (event) => this.onEnd(event));
    this.source.addEventListener("gap", () => this.handlers.gap());
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.retryTimer);
    this.source.close();
  }

  onOpen() {
    this.brokenAt = null;
    this.failures = 0;
    this.handlers.change();
  }

  onError() {
    this.brokenAt ??= Date.now();
    this.failures += 1;
    if (this.source.readyState === EventSource.CLOSED) {
      clearTimeout(this.retryTimer);
      this.retryTimer = setTimeout(() => this.reconnect(), RETRY_DELAY);
    }
    this.handlers.change();
  }

  /** An EventSource does not report why it was refused. Perhaps the log now ends before the
      offset. */
  async reconnect() {
    const { source } = this;
    const isPastEnd = await isRefusedAsPastEnd(this.jobId, this.offset);
    if (this.source !== source || this.isClosed) {
      return;
    }
    if (isPastEnd) {
      this.handlers.gap();
    } else {
      this.connect();
    }
  }

  onMessage({ data, lastEventId }) {
    this.offset = Number(lastEventId);
    this.handlers.text(JSON.parse(data), this.offset);
  }

  onEnd({ data }) {
    this.close();
    this.handlers.end(JSON.parse(data));
  }
}
