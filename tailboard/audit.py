"""The audit log: who did what, when and from where. Each action is one line of JSON.

A line contains names, IDs and filters, and never a value that can be secret: no command, no
variable, no param, no URL, no token."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tailboard.values import ID_RE, utc

Entry = dict[str, Any]  # a line of the audit log

MAX_TEXT = 200  # characters of each text in a line
AT_RE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z")
MAX_LINE = 64 << 10  # bytes; a longer line in a file is damaged
SUBJECTS = ("job", "saved", "queue", "target", "token", "machine")  # what an action is about
ALWAYS = {"at", "action", "by", "via", "from"}
KINDS: dict[str, Any] = {  # of the fields of a line; those of a later version can have any type
    **dict.fromkeys(("at", "action", "via", *SUBJECTS), str),
    **dict.fromkeys(("by", "from"), str | None),
    **dict.fromkeys(("rerun_of", "role", "first_job", "last_job", "forwarded_for", "agent"), str),
    **dict.fromkeys(("count", "dependents"), int),
    "limit": int | None,
    "filter": dict,
    "fields": list,
}


class Action(StrEnum):
    """What somebody did. What it was done to is in the line's subject: `pause` with `queue` pauses
    a queue, with `saved` the schedule of a saved command."""

    NOTHING = ""  # the operation changes nothing, so it has no line
    SUBMIT = "submit"
    RUN = "run"  # a saved command
    CANCEL = "cancel"
    RERUN = "rerun"
    DELETE = "delete"
    URGENT = "urgent"
    ORDINARY = "ordinary"  # no longer urgent
    SAVE = "save"
    PAUSE = "pause"
    RESUME = "resume"
    LIMIT = "limit"
    SET = "set"  # the URL of a target
    REMOVE = "remove"  # a target
    TEST = "test"  # a target, or a URL
    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    MAKE = "make"  # a token
    REPLACE = "replace"  # a token
    ROLE = "role"  # of a token
    REVOKE = "revoke"  # a token
    MARK_LOST = "mark_lost"  # a machine


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and how the request came."""

    by: str | None  # the name, if it is known
    via: str  # the kind of credential, as `token` of GET /me
    address: str | None  # of the client; for a command on the storage, the name of its machine
    forwarded_for: str | None = None  # what a proxy or the page reports, or a client invents
    agent: str | None = None  # "page": the request came through the page

    def as_fields(self) -> Entry:
        """The fields of a line."""
        fields: Entry = {"by": self.by, "via": self.via, "from": self.address}
        extra = {"forwarded_for": self.forwarded_for, "agent": self.agent}
        return fields | {name: text for name, text in extra.items() if text is not None}


def new_entry(action: Action, actor: Actor, subject: Mapping[str, Any]) -> Entry:
    """A line for an action that has just been done."""
    return {"at": utc(), "action": str(action), **actor.as_fields(), **subject}


def encode_entry(entry: Entry) -> bytes:
    """The line, without a newline. Long texts are cut."""
    text = json.dumps(cut_texts(entry), ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")


def cut_texts(value: Any) -> Any:
    """The value with each text in it cut to MAX_TEXT characters."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {name: cut_texts(each) for name, each in value.items()}
    return [cut_texts(each) for each in value] if isinstance(value, list) else value


def parse_entry(line: bytes) -> Entry:
    """The entry of a line. ValueError if the line is damaged."""
    if len(line) > MAX_LINE:
        raise ValueError("it is too long")
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if not found.keys() >= ALWAYS:
        raise ValueError("it lacks a field")
    for name, value in found.items():
        if not isinstance(value, KINDS.get(name, object)):
            raise ValueError(f"{name} has another type")
    if not AT_RE.fullmatch(found["at"]):
        raise ValueError("at is not a time as `utc` writes it")
    return found


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines are wanted; None: all."""

    since: float | None = None  # seconds since 1970
    by: str | None = None
    job: str | None = None  # an ID

    def matches(self, entry: Entry) -> bool:
        if self.since is not None and entry["at"] < utc(self.since):
            return False
        if self.by is not None and entry.get("by") != self.by:
            return False
        return self.job is None or self._concerns(entry, self.job)

    @staticmethod
    def _concerns(entry: Entry, job: str) -> bool:
        """Is the line about this job, as far as it says? A line about many jobs names only the
        lowest and the highest ID."""
        if job in (entry.get("job"), entry.get("rerun_of")):
            return True
        first, last = str(entry.get("first_job", "~")), str(entry.get("last_job", ""))
        return first <= job <= last


@dataclass(slots=True)
class AuditPage:
    """A part of the audit log, newest line first."""

    entries: list[Entry] = field(default_factory=list)
    next: str | None = None  # the `before` of the part that follows; None: there is none
    damaged: int = 0  # lines that cannot be read, and were skipped

    def add(self, line: bytes, wanted: AuditFilter) -> None:
        """Add a line if it is wanted."""
        try:
            entry = parse_entry(line)
        except ValueError:
            self.damaged += 1
            return
        if wanted.matches(entry):
            self.entries.append(entry)


def parse_place(place: str, form: re.Pattern[str]) -> Sequence[int]:
    """The numbers of a place in the log, the `next` of an AuditPage. ValueError if it has another
    form: it belongs to another storage."""
    parts = form.fullmatch(place)
    if parts is None:
        raise ValueError("before must be the value of `next` of an earlier response")
    return [int(part) for part in parts.groups()]


def job_range(ids: Sequence[str]) -> Entry:
    """The fields of a line by which one can find the jobs that an action has changed."""
    known = [each for each in ids if ID_RE.fullmatch(each)]
    return {"first_job": min(known), "last_job": max(known)} if known else {}
