"""A job's journal: its lines, and the attempts that they describe.

The top of storage.py says which process writes which line.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tailboard.status import Status
from tailboard.values import CONTROL_RE, finite_number, is_text, utc, whole_number

HINT_LENGTH = 200  # characters of the log line that explains why a job failed


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: the line `ended` of the journal."""

    status: Status  # a final status; QUEUED if the claim's command never started
    exit_code: int | None = None  # 128+n after signal n
    reason: str | None = None
    finished_at: str | None = None  # None: now
    cpu_seconds: float | int | None = None
    max_rss_bytes: int | None = None
    files_count: int | None = None  # MAX_LISTED: at least that many; None: not known
    files_bytes: int | None = None
    log_start: int = 0
    final: bool = False  # never retried, because the command cannot start
    hint: str | None = None  # the log line that explains why it failed
    failed_starts: int = 0  # if QUEUED: how many shims of this attempt ended before their command

    def add_files(self, count: int, size: int) -> None:
        """Add how many files the job had at its end, and their bytes on disk."""
        self.files_count, self.files_bytes = count, size

    def ended_line(self) -> dict[str, Any]:
        """The value of the line `ended`, without the fields that most lines do not need."""
        line: dict[str, Any] = {
            "status": self.status,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "finished_at": self.finished_at,
            "cpu_seconds": self.cpu_seconds,
            "max_rss_bytes": self.max_rss_bytes,
            "log_start": self.log_start,
        }
        if self.status is Status.QUEUED:
            line = {"status": self.status}
            if self.failed_starts:
                line |= {"failed_starts": self.failed_starts, "finished_at": self.finished_at}
            return line
        if self.final:
            line["final"] = True
        if self.hint is not None:
            line["hint"] = self.hint
        if self.files_count is not None:
            line |= {"files_count": self.files_count, "files_bytes": self.files_bytes}
        return line


@dataclass(slots=True)
class Attempt:
    """One attempt: a `claimed` line of the journal and the lines after it."""

    number: int = 0  # 0: the job was never claimed
    worker: str | None = None
    host: str | None = None
    boot: str | None = None
    started_at: str | None = None
    started_monotonic: float | None = None  # on the clock of that boot
    pid: int | None = None
    stopping: Outcome | None = None  # why its supervisor ended it, written before the exit
    exit_code: int | None = None
    ended: Outcome | None = None  # the last `ended` line
    result: Outcome | None = None  # the attempt's own end, even if a later cancel added another
    pid_namespace: str | None = None  # the one in which `pid` is valid; None or "": unknown

    def claimed_line(self) -> dict[str, Any]:
        """The value of the line `claimed`."""
        line = {
            "attempt": self.number,
            "worker": self.worker,
            "host": self.host,
            "boot": self.boot,
            "started_at": self.started_at,
            "started_monotonic": self.started_monotonic,
        }
        if self.pid_namespace:
            line["pid_namespace"] = self.pid_namespace
        return line

    @property
    def never_started(self) -> bool:
        """Was it put back into the queue before its command started?"""
        return self.ended is not None and self.ended.status is Status.QUEUED

    def as_dict(self) -> dict[str, Any]:
        """The attempt as the API shows it; fields that are not known (yet) are None."""
        result = self.result
        return {
            "number": self.number,
            "started_at": self.started_at,
            "finished_at": result.finished_at if result else None,
            "exit_code": result.exit_code if result else None,
            "status": result.status if result else None,
            "hint": result.hint if result else None,
        }


@dataclass(slots=True)
class CancelRequest:
    """The content of the file `cancel`, which may be empty: `touch` creates one."""

    reason: str = "cancelled by a file in its folder"


def parse_journal(data: bytes) -> list[Attempt]:
    """The attempts in a journal, oldest first. The first one has number 0 and contains the lines
    before any claim. Lines that are torn, foreign or impossible are skipped."""
    attempts = [Attempt()]
    for line in filter(None, data.split(b"\n")):
        with suppress(ValueError, TypeError, KeyError, RecursionError, OverflowError):
            _parse_line(attempts, json.loads(line))
    return attempts


def _parse_line(attempts: list[Attempt], line: Any) -> None:
    if not isinstance(line, dict) or len(line) != 1:
        raise ValueError("it is not an object with one key")
    key, value = next(iter(line.items()))
    current = attempts[-1]
    if key == "claimed":
        attempts.append(_parse_claimed(value))
    elif key == "pid":
        current.pid = whole_number(value, 1, 1 << 31)
    elif key == "exit":
        current.exit_code = whole_number(value, 0, 255)
    elif key == "stopping" and current.exit_code is None:
        current.stopping = _parse_outcome(value)
    elif key == "ended":
        current.ended = _parse_outcome(value)
        if "exit_code" in value:
            current.result = current.ended


def _parse_claimed(value: Any) -> Attempt:
    """The attempt that a line `claimed` begins. Another version may omit any field except
    `attempt`: if the line were skipped, the job could start twice. ValueError, TypeError or
    KeyError for a bad line."""
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    names = ("worker", "host", "boot", "started_at", "pid_namespace")
    words = {name: value.get(name) for name in names}
    if not all(map(is_text, words.values())):
        raise ValueError("its fields are invalid")
    clock = value.get("started_monotonic")
    clock = None if clock is None else finite_number(clock)
    return Attempt(whole_number(value["attempt"], 1, 1 << 31), started_monotonic=clock, **words)


def _parse_outcome(value: Any) -> Outcome:
    """The outcome in a line `ended` or `stopping`. A missing field has its default. ValueError,
    TypeError or KeyError for a bad line."""
    outcome = Outcome(Status(value["status"]))
    if (code := value.get("exit_code")) is not None:
        outcome.exit_code = whole_number(code, 0, 255)
    if (reason := value.get("reason")) is not None:
        outcome.reason = str(reason)[:1_000]
    if (finished_at := value.get("finished_at")) is not None:
        datetime.fromisoformat(finished_at)
        outcome.finished_at = finished_at
    if (seconds := value.get("cpu_seconds")) is not None:
        outcome.cpu_seconds = finite_number(seconds)
    if (size := value.get("max_rss_bytes")) is not None:
        outcome.max_rss_bytes = whole_number(size, 0, 1 << 62)
    if (count := value.get("files_count")) is not None:
        outcome.files_count = whole_number(count, 0, 1 << 31)
        outcome.files_bytes = whole_number(value.get("files_bytes"), 0, 1 << 62)
    outcome.log_start = whole_number(value.get("log_start", 0), 0, 1 << 62)
    outcome.final = value.get("final") is True
    outcome.failed_starts = whole_number(value.get("failed_starts", 0), 0, 1 << 31)
    if (hint := value.get("hint")) is not None:
        outcome.hint = shorten_hint(str(hint))
    return outcome


def shorten_hint(text: str) -> str | None:
    """A line of a log as a hint: without control characters, HINT_LENGTH characters at most. None
    if the result is empty."""
    text = CONTROL_RE.sub("", text.replace("\t", " ")).strip()
    if len(text) > HINT_LENGTH:
        text = text[: HINT_LENGTH - 1].rstrip() + "…"
    return text or None


def cancelled_line(place: str, last: Attempt, reason: str) -> dict[str, Any]:
    """The value of the line `ended` that makes a job's end a cancellation. `place`: the folder that
    the job is in. The line repeats the result of the last attempt, except for a job in taken/: that
    one waits for its next attempt, and the journal already contains the result of the last."""
    if place == "taken" or last.ended is None:
        return {"status": Status.CANCELLED, "reason": reason, "finished_at": utc()}
    outcome = replace(last.ended, status=Status.CANCELLED, reason=reason, hint=None)
    outcome.finished_at = outcome.finished_at or utc()
    return outcome.ended_line()


def token_in(journal: bytes) -> str:
    """The token in the last line `taken`, with which Redis identifies the job's run on this
    machine; "" if there is no such line."""
    token = ""
    for line in journal.split(b"\n"):
        with suppress(ValueError, RecursionError):
            value = json.loads(line) if line.startswith(b'{"taken"') else None
            if isinstance(value, dict) and isinstance(value.get("taken"), str):
                token = value["taken"]
    return token
