"""Notices: what Tailboard has noticed about a job, and to whom it has sent a message about it.

A notice begins as a request: whoever ends a job, starts it or finds that a scheduled time was
missed stores that someone has to look at the job. One process at a time, the sender, looks at these
jobs, decides which notices they give rise to and to whom each is sent, and stores that in the job's
record before it sends anything. Only the sender writes records, so a message is sent once; if it
dies between sending and storing that, its successor sends the message again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from tailboard.job import Job
from tailboard.notify_rules import mask_target
from tailboard.values import is_count, is_text, known_fields, parse_time

LEAD_TIME = 10.0  # seconds without a call of `lead` after which another process can succeed


class Kind(StrEnum):
    """Why the sender has to look at a job."""

    END = "end"  # it has ended, or is about to
    START = "start"  # it has started, and its saved command has a ping URL
    WAIT = "wait"  # it may have been queued for longer than `warn_waiting`
    MISSED = "missed"  # it replaces, or prevents, scheduled runs; the text says which
    SEND = "send"  # a message about it is to be sent again


class Request(NamedTuple):
    """The request to look at a job. There is at most one of each kind for a job."""

    job_id: str
    kind: Kind
    at: float = 0.0  # not before this time, in seconds since 1970
    text: str = ""  # one line for the notice


def wait_request(job: Job) -> Request | None:
    """The request to look at a new job when it may have been queued for too long; None if it has
    no `warn_waiting`."""
    if job.warn_waiting is None:
        return None
    times = [parse_time(text) for text in (job.submitted_at, job.not_before) if text]
    return Request(job.id, Kind.WAIT, max(times) + job.warn_waiting)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One message to one target."""

    to: str  # a URL or the name of one, as in the rule; it may contain a secret
    tries: int = 0
    next_at: float | None = 0.0  # of the next try, in seconds since 1970; None: no more tries
    sent_at: str | None = None  # RFC 3339; None: not sent (yet)
    error: str | None = None  # of the last try, without secrets

    @property
    def is_open(self) -> bool:
        """Will it be tried (again)?"""
        return self.next_at is not None

    def as_dict(self) -> dict[str, Any]:
        """The delivery as JSON for clients."""
        return {
            "to": mask_target(self.to),
            "tries": self.tries,
            "sent_at": self.sent_at,
            "error": self.error,
            "pending": self.is_open,
        }


@dataclass(slots=True, kw_only=True)
class Notice:
    """An event of a job. `deliveries` is empty if nobody is to be notified of it, for example
    because the command has been failing for less than a day since the last message."""

    event: str  # one of notify_rules.Event; or "ping start", "ping end"
    at: str  # when it was noticed, RFC 3339
    text: str = ""  # one line that says more than the event, such as "usually 36 s, now 2 min"
    deliveries: list[Delivery] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The notice as JSON for clients."""
        deliveries = [delivery.as_dict() for delivery in self.deliveries]
        return {"event": self.event, "at": self.at, "text": self.text, "deliveries": deliveries}


@dataclass(slots=True, kw_only=True)
class NoticeRecord:
    """The notices of one job, oldest first."""

    job: str  # its ID
    title: str = ""
    saved: str | None = None  # its saved command
    notices: list[Notice] = field(default_factory=list)

    def find(self, event: str) -> Notice | None:
        return next((notice for notice in self.notices if notice.event == event), None)

    @property
    def changed_at(self) -> str:
        """When the newest notice was added, RFC 3339; "" if there is none."""
        return max((notice.at for notice in self.notices), default="")

    def next_try(self) -> float | None:
        """When a delivery is to be tried next, in seconds since 1970; None if none is open."""
        open_ones = [d.next_at for n in self.notices for d in n.deliveries if d.next_at is not None]
        return min(open_ones, default=None)


def encode_notices(record: NoticeRecord) -> bytes:
    """The record as a line of JSON."""
    return json.dumps(asdict(record)).encode() + b"\n"


def parse_notices(data: bytes) -> NoticeRecord:
    """The record in a line of JSON; ValueError says why if it is invalid."""
    known = known_fields(NoticeRecord, json.loads(data))
    listed = known.pop("notices", [])
    record = NoticeRecord(**{"job": None} | known)
    if not isinstance(record.job, str) or not is_text(record.saved) or not isinstance(listed, list):
        raise ValueError("it is invalid")
    record.notices = [_parse_notice(each) for each in listed]
    return record


def _parse_notice(record: Any) -> Notice:
    known = known_fields(Notice, record)
    listed = known.pop("deliveries", [])
    notice = Notice(**{"event": None, "at": None} | known)
    words = (notice.event, notice.at, notice.text)
    if not all(isinstance(word, str) for word in words) or not isinstance(listed, list):
        raise ValueError("a notice is invalid")
    parse_time(notice.at)
    notice.deliveries = [_parse_delivery(each) for each in listed]
    return notice


def _parse_delivery(record: Any) -> Delivery:
    delivery = Delivery(**{"to": None} | known_fields(Delivery, record))
    words = (delivery.sent_at, delivery.error)
    is_due = delivery.next_at is None or type(delivery.next_at) in (int, float)
    if not isinstance(delivery.to, str) or not all(map(is_text, words)) or not is_due:
        raise ValueError("a delivery is invalid")
    if not is_count(delivery.tries):
        raise ValueError("a delivery is invalid")
    return delivery
