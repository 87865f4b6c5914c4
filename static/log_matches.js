/* The lines of the whole log that match a query: the next one in either direction, and how many
   there are. Asks the API, which searches the parts that are not loaded, too. */

import { queryParameters } from "./find_text.js";
import { fetchMatches } from "./log_stream.js";

const AHEAD = 50; // matches to fetch at a time, so that most steps need no request

export class LogMatches {
  constructor(jobId, query) {
    this.jobId = jobId;
    this.parameters = queryParameters(query);
    this.aborter = new AbortController();
    this.run = []; // neighbouring matches, oldest first, none missing between them
  }

  abort() {
    this.aborter.abort();
  }

  ask(parameters) {
    const all = { ...this.parameters, ...parameters };
    return fetchMatches(this.jobId, all, this.aborter.signal);
  }

  /** The matches that begin at an offset or later, oldest first. The API ends a long search before
      it has found anything; then the search continues from there. */
  async forwards(after, limit = AHEAD) {
    let from = after;
    for (;;) {
      const { matches, next } = await this.ask({ after: from, limit });
      if (matches.length > 0 || next === null) {
        return matches;
      }
      from = next;
    }
  }

  /** The matches before an offset (null: before the end), oldest first. */
  async backwards(before, limit = AHEAD) {
    let from = before;
    for (;;) {
      const place = from === null ? {} : { before: from };
      const { matches, next } = await this.ask({ ...place, limit });
      if (matches.length > 0 || next === null) {
        return matches.reverse();
      }
      from = next;
    }
  }

  /** The first match that begins at an offset or later, else the first one of the log; null if
      nothing matches. */
  async from(offset) {
    this.run = await this.forwards(offset);
    if (this.run.length === 0 && offset > 0) {
      this.run = await this.forwards(0);
    }
    return this.run[0] ?? null;
  }

  /** The next match after the line at an offset (or, with `by` < 0, the one before it) as
      { match, wraps }: after the last one follows the first one. Null if nothing matches. */
  async step(offset, by) {
    const near = by > 0 ? await this.after(offset) : await this.before(offset);
    if (near) {
      return { match: near, wraps: false };
    }
    this.run = by > 0 ? await this.forwards(0) : await this.backwards(null);
    const match = by > 0 ? this.run[0] : this.run.at(-1);
    return match ? { match, wraps: true } : null;
  }

  async after(offset) {
    const isInRun = this.run.length > 0 && this.run[0].offset <= offset;
    const known = isInRun && this.run.find((match) => match.offset > offset);
    if (known) {
      return known;
    }
    const more = await this.forwards(offset + 1);
    this.run = this.run.at(-1)?.offset === offset ? [...this.run, ...more] : more;
    return more[0];
  }

  async before(offset) {
    const isInRun = this.run.length > 0 && this.run.at(-1).offset >= offset;
    const known = isInRun && this.run.findLast((match) => match.offset < offset);
    if (known) {
      return known;
    }
    const more = offset > 0 ? await this.backwards(offset) : [];
    this.run = this.run[0]?.offset === offset ? [...more, ...this.run] : more;
    return more.at(-1);
  }

  /** How many lines match, how many of them begin before an offset, and where up to 1,000 of them
      begin. */
  count(upto) {
    return this.ask(upto === null ? { places: 1 } : { places: 1, upto });
  }
}
