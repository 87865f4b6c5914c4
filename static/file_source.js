/* Requests for the files of jobs, straight from the browser to the API, with the ticket for logs.
   Must not know how a file is drawn. */

import { page } from "./page_state.js";

const PATIENCE = 5000; // milliseconds that a new ticket may take
const NOT_ANSWERING = "The API isn't answering. Try again.";
const BROKEN = "The connection broke while the file was read. Try again.";

/** A request has failed; the message is a sentence for the visitor. */
export class FileProblem extends Error {
  /** `status` is that of the API's response; 0 if there is none. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The URL of a file or a list. `path` is below the API's root. */
export function fileUrl(path, parameters = {}) {
  const given = { ...parameters };
  if (page.status.ticket) {
    given.ticket = page.status.ticket;
  }
  return `${page.status.api}${path}?${new URLSearchParams(given)}`;
}

/** Puts the newest ticket into the link of a download, before the browser follows it. */
export function renewTicket({ target }) {
  const link = target.closest("a[data-url]");
  if (link) {
    link.href = fileUrl(link.dataset.url, link.dataset.zip ? {} : { download: 1 });
  }
}

/** The list of a job's files, as the API sends it. FileProblem; AbortError. */
export async function fetchFiles(jobId, signal) {
  const answer = await request(`/jobs/${encodeURIComponent(jobId)}/files`, {}, signal);
  try {
    return await answer.json();
  } catch (error) {
    throw asProblem(error);
  }
}

/** The first `limit` bytes of a file: { bytes, isCut }. FileProblem; AbortError. */
export async function fetchBytes(path, parameters, limit, signal) {
  const answer = await request(path, parameters, signal);
  const reader = answer.body.getReader();
  const parts = [];
  let length = 0;
  try {
    while (length <= limit) {
      const { done, value } = await reader.read();
      if (done) {
        break;
      }
      parts.push(value);
      length += value.length;
    }
  } catch (error) {
    throw asProblem(error);
  }
  reader.cancel().catch(() => {}); // the rest is not needed
  const bytes = new Uint8Array(await new Blob(parts).slice(0, limit).arrayBuffer());
  return { bytes, isCut: length > limit };
}

function asProblem(error) {
  return error.name === "AbortError" ? error : new FileProblem(BROKEN);
}

/** The successful response. An expired ticket also looks like an API that cannot be reached, since
    only a valid one lets this page read responses; so both are tried again with a new ticket. */
async function request(path, parameters, signal) {
  const send = () => fetch(fileUrl(path, parameters), { signal, cache: "no-store" });
  let answer = await send().catch(ignoreUnlessAborted);
  if (!answer || [401, 403].includes(answer.status)) {
    await newTicket(signal);
    answer = await send().catch(ignoreUnlessAborted);
  }
  if (answer?.ok) {
    return answer;
  }
  const { detail } = (await answer?.json().catch(() => null)) ?? {};
  throw new FileProblem(detail ? asSentence(detail) : NOT_ANSWERING, answer?.status);
}

function ignoreUnlessAborted(error) {
  if (error.name === "AbortError") {
    throw error;
  }
}

/** A message of the API as a sentence for the visitor. */
export function asSentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** Asks the page's server for a new ticket; resolves when it has arrived, or did not in time. */
function newTicket(signal) {
  const { ticket } = page.status;
  return new Promise((resolve) => {
    const finish = () => {
      page.unlisten({ status: onStatus });
      clearTimeout(timer);
      resolve();
    };
    const onStatus = () => {
      if (page.status.ticket !== ticket || signal.aborted) {
        finish();
      }
    };
    const timer = setTimeout(finish, PATIENCE);
    page.on("status", onStatus);
    page.refreshLater();
  });
}
