/* Notifications in words: the panel of the header, the details of a job, and the rules of a saved
   command. Pure. */

import { escapeHtml, formatMoment, formatRoughly, statusLook } from "./format.js";

export const EVENT_GROUPS = {
  "When a job ends": {
    failed: "it exits with a code other than 0",
    timed_out: "it runs longer than its time limit",
    lost: "its process disappears without an exit code",
    cancelled: "it is cancelled, except by the user who submitted it",
    succeeded: "it exits with code 0",
    recovered: "the first success after one or more bad ends",
  },
  Warnings: {
    late: "it runs for longer than usual, or than the limit below",
    silent: "it writes nothing for longer than usual",
    missed: "a scheduled time passes without a run",
    waiting: "it is queued for longer than the limit below",
  },
};
const SAME_LOOK = { recovered: "succeeded", waiting: "queued" }; // events that look like a status
const WARNING = { icon: "△", colour: "#b4480a" };
const PING = { icon: "↗", colour: "#64748b" };
const BAD_ENDS = ["failed", "timed_out", "lost"]; // only these jobs have a hint

export function eventWord(event) {
  return event.replace("_", " ");
}

/** The event and what else is known of it: "failed", "late · usually 36 s, now 2 min". */
export function noticeText({ event, text }) {
  const word = eventWord(event);
  if (!text) {
    return word;
  }
  return text.startsWith(word) ? text : `${word} · ${text}`;
}

/** What became of a message: "sent to ops", "not sent to ops: connection refused, trying again". */
export function deliveryText({ to, sent_at: sentAt, error, pending }, now = null) {
  if (sentAt) {
    const when = now === null ? "" : ` ${formatMoment(Date.parse(sentAt), now)}`;
    return `sent to ${to}${when}`;
  }
  if (!error) {
    return pending ? `not yet sent to ${to}` : `not sent to ${to}`;
  }
  return `not sent to ${to}: ${error}${pending ? ", trying again" : ""}`;
}

function isUndelivered({ sent_at: sentAt, error }) {
  return !sentAt && Boolean(error);
}

function deliveriesHtml(deliveries, now) {
  const items = deliveries.map((delivery) => {
    const kind = isUndelivered(delivery) ? ' class="undelivered"' : "";
    return `<span${kind}>${escapeHtml(deliveryText(delivery, now))}</span>`;
  });
  return items.join("");
}

// --- The panel of the header ---

/** `context` has the statuses, the time `now`, `link(change)`, which returns a link of the page, and
    `seen`, the time up to which this visitor has seen notifications, in milliseconds. */
export function noticesHtml(notices, context) {
  return `<ul class="notice-list">${notices.map((each) => noticeHtml(each, context)).join("")}</ul>`;
}

function noticeHtml(notice, { statuses, now, link, seen }) {
  const { icon, colour } = eventLook(notice.event, statuses);
  const at = BAD_ENDS.includes(notice.event) ? "hint" : "";
  const href = escapeHtml(link({ job: notice.job, at }));
  const time = Date.parse(notice.at);
  const isNew = time > seen;
  return (
    `<li${isNew ? ' class="new"' : ""}>` +
    `<a href="${href}" data-job="${escapeHtml(notice.job)}" data-at="${at}">` +
    `<i class="icon" aria-hidden="true" style="background:${escapeHtml(colour)}">${icon}</i>` +
    `<b>${escapeHtml(notice.title || notice.job)}</b></a>` +
    `<time datetime="${escapeHtml(notice.at)}" title="${escapeHtml(notice.at)}">` +
    `${isNew ? '<span class="unseen">new, </span>' : ""}${formatRoughly(now - time)} ago</time>` +
    `<p>${escapeHtml(noticeText(notice))}</p>` +
    `<p class="notice-to">${deliveriesHtml(notice.deliveries, null)}</p></li>`
  );
}

function eventLook(event, statuses) {
  if (event.startsWith("ping ")) {
    return PING;
  }
  const status = SAME_LOOK[event] ?? event;
  return status in statuses ? statusLook(status, statuses) : WARNING;
}

/** How many of these times are after a time in milliseconds. */
export function countNew(times, seen) {
  return times.filter((text) => Date.parse(text) > seen).length;
}

// --- The details of a job ---

/** A table of the notifications of a job; "" if there are none. */
export function noticesTable(notices, now) {
  if (notices.length === 0) {
    return "";
  }
  const rows = notices.map((notice) => {
    const time = escapeHtml(notice.at);
    const when = escapeHtml(formatMoment(Date.parse(notice.at), now));
    return (
      `<tr><th scope="row">${escapeHtml(eventWord(notice.event))}</th><td>` +
      `<time datetime="${time}" title="${time}">${when}</time>` +
      `${notice.text ? `<p>${escapeHtml(notice.text)}</p>` : ""}` +
      `<p class="notice-to">${deliveriesHtml(notice.deliveries, now)}</p></td></tr>`
    );
  });
  return `<table><caption>Notifications</caption><tbody>${rows.join("")}</tbody></table>`;
}

// --- The rules of a saved command ---

/** Who is notified of what: "failed, lost → ops; recovered → anna". `rules` is null for the default. */
export function rulesSummary(rules) {
  if (rules === null || rules === undefined) {
    return "as TAILBOARD_NOTIFY says";
  }
  if (rules.length === 0) {
    return "nobody";
  }
  const parts = rules.map(({ on, to }) => `${on.map(eventWord).join(", ")} → ${to}`);
  return parts.join("; ");
}
