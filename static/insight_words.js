/* What an explanation says about time and about other jobs, in words: pauses, silence, the forecast,
   and jobs that ended in the same way. Pure. `link(change)` returns the page's address with some
   changes. All durations of an explanation are in seconds. */

import { escapeHtml, formatDuration, formatMoment, MINUTE, SECOND } from "./format.js";

const SHORT_TEXT = 60; // characters of a line in a sentence
const MUCH_LONGER = 2; // times as long as usual
const LEAST_LONGER = 5; // seconds more than usual
const LEAST_BEHIND = 10; // seconds that are worth a word if no line explains them
const SHOWN_JOBS = 5; // that a sentence links to
const SHOWN_TITLES = 3;

const DAY = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const DATE = new Intl.DateTimeFormat([], { day: "numeric", month: "short", year: "numeric" });
const NUMBER_OF_DAY = new Intl.DateTimeFormat([], { day: "numeric" });
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const IS_DAY_FIRST = DAY.formatToParts(0)[0].type === "day";

/** "40 s", "90 s", "4 min", "3 h". */
export function formatSpan(seconds) {
  if (Math.round(seconds) < 120) {
    return `${Math.round(seconds)} s`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** The same, to the second below an hour. */
export function formatPause(seconds) {
  const time = Math.round(seconds) * SECOND;
  return time < MINUTE ? `${time / SECOND} s` : formatDuration(time);
}

/** How long a section took, in milliseconds; "" if that is less than half a second, since the times
    of a log are only good to a second. */
export function formatSectionTime(milliseconds) {
  const seconds = Math.round(milliseconds / SECOND);
  return seconds > 0 ? formatPause(seconds) : "";
}

/** A link to a line of a log. */
function lineLink(job, offset, html, link) {
  const at = Number(offset);
  const href = escapeHtml(link({ job, at: String(at) }));
  return `<a class="job-link" href="${href}" data-job="${escapeHtml(job)}" data-at="${at}">${html}</a>`;
}

function shortText(text) {
  const line = text.trim();
  return line.length > SHORT_TEXT ? `${line.slice(0, SHORT_TEXT)}…` : line;
}

// --- Pauses ---

export function isMuchLonger({ seconds, usually }) {
  const isKnown = usually !== null;
  return isKnown && seconds > MUCH_LONGER * usually && seconds - usually > LEAST_LONGER;
}

/** The lines to show for a pause: { first, last }, offsets. */
export function linesOfPause({ before, after }) {
  const first = before ?? after;
  const last = after ?? before;
  return first && { first: first.offset, last: last.offset };
}

/** An item of the list: how long, how long usually, and the lines before and after it. */
export function pauseHtml(pause, index, now) {
  const { seconds, usually, before, after, began_at: began } = pause;
  const kind = isMuchLonger(pause) ? "pause-time much-longer" : "pause-time";
  const usual = usually === null ? "" : `usually ${formatPause(usually)}`;
  const title = escapeHtml(formatMoment(Date.parse(began), now));
  return (
    `<li><button type="button" data-pause="${Number(index)}" title="${title}">` +
    `<span class="${kind}">${formatPause(seconds)}</span>` +
    `<span class="pause-usual">${usual}</span>` +
    `<span class="pause-lines">${placeHtml(before, "the start")}${placeHtml(after, "the end")}</span>` +
    "</button></li>"
  );
}

function placeHtml(place, otherwise) {
  return place
    ? `<code>${escapeHtml(place.text.trim() || "(an empty line)")}</code>`
    : `<span class="faint">(${otherwise} of the log)</span>`;
}

// --- Silence ---

/** "nothing for 14 min; the longest pause before was 40 s, after this line". `more`: seconds since
    the explanation arrived. */
export function silenceHtml({ seconds, longest_pause: longest, run, after }, more, link) {
  const text =
    `nothing for ${formatSpan(seconds + more)}; ` +
    `the longest pause before was ${formatSpan(longest)}`;
  const where = after && lineLink(run, after.offset, "after this line", link);
  return where ? `${text}, ${where}` : text;
}

// --- The forecast ---

/** "62 %, about 4 min left, 90 s behind since “migrating orders”". */
export function forecastHtml(forecast, job, link) {
  const { percent, seconds_left: left } = forecast;
  const parts = [
    `${Math.floor(percent)} %`,
    Math.round(left) > 0 ? `about ${formatSpan(left)} left` : "",
    behindHtml(forecast, job, link),
  ];
  return parts.filter(Boolean).join(", ");
}

function behindHtml({ seconds_behind: behind, since }, job, link) {
  if (Math.abs(behind) < LEAST_BEHIND && !since) {
    return "";
  }
  if (behind < 0) {
    return `${formatSpan(-behind)} ahead`;
  }
  const line = since && `“${escapeHtml(shortText(since.text))}”`;
  const where = since ? ` since ${lineLink(job, since.offset, line, link)}` : "";
  return `${formatSpan(behind)} behind${where}`;
}

// --- Jobs that ended in the same way ---

/** "Also on 12 and 19 Nov in this command, never elsewhere; both passed when run again"; "" if there
    is nothing to say. `hasEarlier`: are there earlier runs of this command? */
export function seenHtml(seen, { link, now, hasEarlier }) {
  const { partial, here_count: here, elsewhere_count: elsewhere } = seen;
  if (here + elsewhere === 0) {
    return partial || !hasEarlier ? "" : "Never seen before";
  }
  const isNewHere = here === 0 && hasEarlier && !partial;
  const parts = [
    here > 0 ? hereHtml(seen, { link, now }) : "",
    here > 0 ? outcomeText(seen.here, here) : "",
    isNewHere ? "Never before in this command" : "",
    elsewhere > 0 ? elsewhereHtml(seen, link) : "",
    here === 0 ? outcomeText(seen.elsewhere, elsewhere) : "",
    partial ? "searching older jobs…" : "",
  ];
  const sentence = parts.filter(Boolean).join("; ");
  return sentence[0].toUpperCase() + sentence.slice(1);
}

function hereHtml(seen, context) {
  const more = seen.here_count - Math.min(SHOWN_JOBS, seen.here.length);
  const others = more > 0 ? `, and ${more} more,` : "";
  const never = seen.elsewhere_count === 0 && !seen.partial ? ", never elsewhere" : "";
  return `also ${datesHtml(seen.here.slice(0, SHOWN_JOBS), context)}${others} in this command${never}`;
}

function elsewhereHtml({ elsewhere_count: count, elsewhere }, link) {
  const newest = new Map(); // title -> the newest such job
  for (const job of elsewhere) {
    newest.set(job.title, newest.get(job.title) ?? job);
  }
  const jobs = [...newest.values()];
  const links = jobs
    .slice(0, SHOWN_TITLES)
    .map((job) => jobLink(job, escapeHtml(shortText(job.title)), link));
  const more = jobs.length > SHOWN_TITLES ? " and others" : "";
  const times = count === 1 ? "once" : `${count} times`;
  return `elsewhere: ${times} in ${links.join(", ")}${more}`;
}

/** "on 12 and 19 Nov and today at 08:12", the oldest first. */
function datesHtml(jobs, { link, now }) {
  const dates = jobs.map((job) => ({ job, date: new Date(job.finished_at) })).reverse();
  const isToday = ({ date }) => date.toDateString() === new Date(now).toDateString();
  const today = dates.filter(isToday);
  const earlier = dates.filter((each) => !isToday(each));
  const days = earlier.map(({ job }, index) => jobLink(job, dayText(earlier, index, now), link));
  const times = today.map(({ job, date }) => jobLink(job, CLOCK.format(date), link));
  const parts = [
    days.length > 0 ? `on ${joinWords(days)}` : "",
    times.length > 0 ? `today at ${joinWords(times)}` : "",
  ];
  return parts.filter(Boolean).join(" and ");
}

/** The day of one of several dates: without its month if that of its neighbour is shown, with its
    time if another is of the same day. */
function dayText(dates, index, now) {
  const { date } = dates[index];
  const isSame = (other, key) => other && key(other.date) === key(date);
  const others = dates.filter((_, place) => place !== index);
  if (others.some((other) => isSame(other, (each) => each.toDateString()))) {
    return `${DAY.format(date)} ${CLOCK.format(date)}`;
  }
  if (date.getFullYear() !== new Date(now).getFullYear()) {
    return DATE.format(date);
  }
  const neighbour = dates[IS_DAY_FIRST ? index + 1 : index - 1];
  const isShared = isSame(neighbour, (each) => `${each.getFullYear()}-${each.getMonth()}`);
  return (isShared ? NUMBER_OF_DAY : DAY).format(date);
}

function jobLink({ id, title, finished_at: ended, rerun }, html, link) {
  const when = new Date(ended).toLocaleString();
  const then = rerun?.status === "succeeded" ? ", passed when run again" : "";
  const shown = escapeHtml(id);
  return (
    `<a class="job-link" href="${escapeHtml(link({ job: id, at: "" }))}" data-job="${shown}" ` +
    `title="${escapeHtml(`${title}, ${when}${then}`)}">${html}</a>`
  );
}

function joinWords(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** How reruns ended, if not all of the jobs were run again: so many of those tried passed. */
function describeSome(passed, tried) {
  if (tried === 1) {
    return `one was run again and ${passed ? "passed" : "failed"}`;
  }
  const some = passed === 0 ? "none" : passed;
  const all = tried === 2 ? "both" : `all ${tried}`;
  return passed === tried
    ? `${all} that were run again passed`
    : `${some} of the ${tried} that were run again passed`;
}

/** How the reruns of these jobs ended. `count`: of all such jobs, of which `jobs` are the newest. */
function outcomeText(jobs, count) {
  const reruns = jobs
    .map((job) => job.rerun)
    .filter((rerun) => rerun && rerun.status !== "cancelled");
  const passed = reruns.filter(({ status }) => status === "succeeded").length;
  const tried = reruns.length;
  if (tried === 0) {
    return "";
  }
  if (tried < count) {
    return describeSome(passed, tried);
  }
  const all = { 1: "it", 2: "both" }[tried] ?? "all";
  if (passed === tried) {
    return `${all} passed when run again`;
  }
  return passed === 0 ? `${all} failed again` : `${passed} of ${tried} passed when run again`;
}
