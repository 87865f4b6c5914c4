/* Changes many jobs, one part after another: the server changes as many as it can per second. */

import { ask } from "./errands.js";
import { pause } from "./pause.js";

const AT_ONCE = 200; // jobs in one request; the server changes as many as it can in a second
const PAUSE = 2000; // milliseconds before a failed request is repeated

/** Does an action, named as in bulk_words.js, with each job. `done`: { action, count, tried,
    declined, bulk }, which grows; `bulk` is the API's name for it, if it has one.
    `progress(error)` is called after each request; the error is undefined if it succeeded. Ends early if `isStopped()`, or if repeating a failed request cannot help. */
export async function changeJobs(done, ids, { progress, isStopped }) {
  while (done.tried < ids.length && !isStopped()) {
    const step = ids.slice(done.tried, done.tried + AT_ONCE);
    const answer = await ask("change", { to: done.action, ids: step, bulk: done.bulk });
    done.tried += answer.tried ?? 0;
    done.declined.push(...(answer.declined ?? []));
    progress(answer.error);
    if (answer.error && !answer.may_pass) {
      break;
    }
    if (answer.error && !isStopped()) {
      await pause(PAUSE);
    }
  }
}
