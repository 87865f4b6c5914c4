/* Formats durations, times, sizes and statuses for the visitor. Pure: `now` is always passed in. */

export const SECOND = 1000; // milliseconds, as all times in this file
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DATE_SHOWN = 20 * HOUR; // times further from now are shown with their date
const TENTHS_BELOW = 10 * SECOND;
const SHORTEST = 50; // milliseconds: what is shorter would be rounded to 0.0 s

// Made only once: `toLocaleString` makes one at each call, which took half of the script time
// to draw the rows of a list.
const TIME = { hour: "2-digit", minute: "2-digit" };
const DATE = { day: "numeric", month: "short" };
const CLOCK = new Intl.DateTimeFormat([], TIME);
const DATED_CLOCK = new Intl.DateTimeFormat([], { ...TIME, ...DATE });
const WEEKDAY_CLOCK = new Intl.DateTimeFormat([], { ...TIME, ...DATE, weekday: "short" });
const COUNT = new Intl.NumberFormat("en");
const EXACT_CLOCK = new Intl.DateTimeFormat([], { ...TIME, second: "2-digit" });

/** Text that is safe inside HTML, in an attribute too. All text of a job passes through it. */
export function escapeHtml(text) {
  return String(text ?? "").replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

export function formatDuration(milliseconds) {
  const time = Math.max(0, milliseconds);
  if (time < SHORTEST) {
    return "< 0.1 s";
  }
  if (time < TENTHS_BELOW) {
    return `${(time / SECOND).toFixed(1)} s`;
  }
  if (time < MINUTE) {
    return `${Math.floor(time / SECOND)} s`;
  }
  if (time < HOUR) {
    return `${Math.floor(time / MINUTE)} min ${Math.floor((time % MINUTE) / SECOND)} s`;
  }
  return `${Math.floor(time / HOUR)} h ${Math.floor((time % HOUR) / MINUTE)} min`;
}

/** Only the largest unit, for rows of a list and for "… ago". */
export function formatRoughly(milliseconds) {
  const time = Math.max(0, milliseconds);
  if (time < MINUTE) {
    return `${Math.floor(time / SECOND)} s`;
  }
  if (time < HOUR) {
    return `${Math.floor(time / MINUTE)} min`;
  }
  return time < DAY ? `${Math.floor(time / HOUR)} h` : `${Math.floor(time / DAY)} d`;
}

/** The same, with tenths of a second if it is short. */
export function formatUsual(milliseconds) {
  return milliseconds < TENTHS_BELOW ? formatDuration(milliseconds) : formatRoughly(milliseconds);
}

/** The time of day, with the date unless it is obvious. */
export function formatClock(time, now) {
  return format(Math.abs(now - time) > DATE_SHOWN ? DATED_CLOCK : CLOCK, time);
}

function format(formatter, time) {
  return Number.isNaN(time) ? "Invalid Date" : formatter.format(time);
}

/** A past time to the second, and how long ago it was: "today 08:50:15, 2 min ago". */
export function formatMoment(time, now) {
  const ago = now - time < MINUTE ? "just now" : `${formatRoughly(now - time)} ago`;
  return `${formatDay(new Date(time), new Date(now))} ${format(EXACT_CLOCK, time)}, ${ago}`;
}

function formatDay(day, today) {
  const yesterday = new Date(today);
  yesterday.setDate(today.getDate() - 1);
  if (day.toDateString() === today.toDateString()) {
    return "today";
  }
  if (day.toDateString() === yesterday.toDateString()) {
    return "yesterday";
  }
  const isOtherYear = day.getFullYear() !== today.getFullYear();
  return day.toLocaleDateString([], isOtherYear ? { ...DATE, year: "numeric" } : DATE);
}

/** A future time, with its weekday and date if it is more than 20 hours away. */
export function formatNext(time, now) {
  return format(time - now > DATE_SHOWN ? WEEKDAY_CLOCK : CLOCK, time);
}

/** When a queued job can start, if that time is in the future: "again in 4 min", "at 18:00"; else
    "". */
export function formatStart(job, now) {
  const time = Date.parse(job.not_before ?? "");
  if (job.status !== "queued" || !(time > now)) {
    return "";
  }
  const word = job.attempt > 1 ? "again " : "";
  if (time - now > HOUR) {
    return `${word}at ${formatClock(time, now)}`;
  }
  return `${word || "starts "}in ${formatRoughly(time - now + SECOND)}`;
}

export function formatCount(number) {
  return COUNT.format(number);
}

export function formatBytes(bytes) {
  const units = [bytes === 1 ? "byte" : "bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let amount = bytes;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? amount : amount.toFixed(1)} ${units[unit]}`;
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st … */
export function formatOrdinal(number) {
  const lastTwo = number % 100;
  const teen = lastTwo > 10 && lastTwo < 14;
  const ending = teen ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

export function formatStatus(status) {
  return status.replace("_", " ");
}

export function isEnded(job) {
  return job.status !== "queued" && job.status !== "running";
}

export function endedBadly(job) {
  return ["failed", "timed_out", "lost"].includes(job.status);
}

export function startTime(job) {
  return Date.parse(job.started_at);
}

/** When a job ended; `now` if it has not. */
export function endTime(job, now) {
  return Date.parse(job.finished_at) || now;
}

/** How long a job has run, in milliseconds; null if it has not started. */
export function elapsed(job, now) {
  return job.started_at ? endTime(job, now) - startTime(job) : null;
}

export function formatElapsed(job, now) {
  const time = elapsed(job, now);
  return time === null ? "" : formatDuration(time);
}

export function formatExit(job) {
  return job.exit_code === null || job.exit_code === undefined ? "" : `exit ${job.exit_code}`;
}

/** The attempt and the maximum number of attempts: "2 of 3". */
export function formatAttempt(job) {
  return `${job.attempt} of ${job.retries + 1}`;
}

/** A status's { icon, colour }. An unknown status looks like `lost`. */
export function statusLook(status, statuses) {
  return statuses[status] ?? statuses.lost ?? { icon: "?", colour: "#64748b" };
}

/** A status's icon in its colour, with its name for screen readers. */
export function statusIcon(status, statuses) {
  const { icon, colour } = statusLook(status, statuses);
  return (
    `<i class="icon" aria-hidden="true" style="background:${escapeHtml(colour)}">` +
    `${escapeHtml(icon)}</i><span class="unseen">${escapeHtml(formatStatus(status))}</span>`
  );
}
