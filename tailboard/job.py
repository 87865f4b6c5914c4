"""What a job is: its states, its fields, its record on disk and its form on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tailboard.journal import Attempt
from tailboard.status import Status
from tailboard.values import cut_text, is_count, is_queue_name, is_text, is_time, plain_number

VERSION = 2  # of job.json; a record of another one is shown, but never run
MAX_RETRY_DELAY = 3_600.0  # seconds between two attempts
LISTED_COMMAND = 2_000  # bytes of a command, as JSON, in a list
LISTED_TEXT = 4_000  # characters of any other text in a list
SECONDS = ("timeout", "retry_delay")  # fields that clients may send as 60 or as 60.0


WIRE = [
    "id",
    "command",
    "name",
    "queue",
    "cwd",
    "env",
    "timeout",
    "retries",
    "retry_delay",
    "not_before",
    "attempt",
    "status",
    "submitted_at",
    "started_at",
    "finished_at",
    "exit_code",
    "reason",
    "hint",
    "worker",
    "host",
    "pid",
    "submitted_by",
    "rerun_of",
    "saved",
    "cpu_seconds",
    "max_rss_bytes",
    "log_size",
    "log_start",
]
RECORD = [
    "id",
    "command",
    "name",
    "queue",
    "cwd",
    "env",
    "timeout",
    "retries",
    "retry_delay",
    "not_before",
    "submitted_at",
    "submitted_by",
    "rerun_of",
    "saved",
    "submit_reason",
    "version",
]


@dataclass(slots=True, kw_only=True)
class Job:
    """One job. Times are RFC 3339 in UTC; None where a thing is not known or does not apply."""

    # What was asked, as job.json has it:
    id: str = ""
    command: str | list[str]  # a shell line, or a program and its arguments
    name: str | None = None
    queue: str = "default"
    cwd: str | None = None  # None: the worker's own folder
    env: dict[str, str] = field(default_factory=dict)
    timeout: float | int | None = None  # seconds
    retries: int = 0
    retry_delay: float | int = 0  # seconds before the first retry, doubled before each further one
    not_before: str | None = None  # when its first attempt may start at the earliest
    submitted_at: str | None = None
    submitted_by: str | None = None
    rerun_of: str | None = None
    saved: str | None = None  # the saved command that it was started from
    submit_reason: str | None = None  # why it was submitted, where that needs a sentence
    # What happened, as its folder and its journal have it:
    status: Status = Status.QUEUED
    attempt: int = 1
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None  # 128+n after signal n, as shells say it
    reason: str | None = None  # a sentence where the status needs one
    hint: str | None = None  # the line of its log that tells why it ended badly
    worker: str | None = None
    host: str | None = None
    pid: int | None = None  # of the shim, which leads the job's process group
    cpu_seconds: float | int | None = None
    max_rss_bytes: int | None = None
    log_size: int = 0  # bytes
    log_start: int = 0  # offset of the first byte that is kept
    # Not on the wire as they are:
    version: int = VERSION  # of job.json; 0: it is damaged
    retried_at: str | None = None  # of one that is queued again: when its next attempt may start
    attempts: list[Attempt] = field(default_factory=list)  # claimed ones, oldest first
    is_short: bool = False  # as `shorten` makes it
    is_command_cut: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The job as JSON on the wire; while it is queued, `not_before` is of its next attempt."""
        shown = {name: getattr(self, name) for name in WIRE}
        shown["not_before"] = self.retried_at or self.not_before
        shown["reason"] = self.whole_reason
        for name in SECONDS:
            shown[name] = plain_number(shown[name])
        if self.is_short:
            del shown["env"]
        if self.is_command_cut:
            shown["command_cut"] = True
        return shown

    @property
    def whole_reason(self) -> str | None:
        """Why it was submitted and why it is as it is, where there is anything to say."""
        said = [reason for reason in (self.submit_reason, self.reason) if reason]
        return "; ".join(said) or None

    def attempts_as_dicts(self) -> list[dict[str, Any]]:
        """Its attempts as JSON on the wire, oldest first, without claims that never started."""
        dicts = [attempt.as_dict() for attempt in self.attempts if not attempt.never_started]
        if self.status is Status.RUNNING and dicts:
            dicts[-1]["status"] = Status.RUNNING
        return dicts


def parse_record(data: bytes, job_id: str) -> Job:
    """The Job in the bytes of a job.json; ValueError says why they are not one."""
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    known = {name: record[name] for name in RECORD if name in record}
    job = Job(**{"command": None, "version": None} | known | {"id": job_id})
    for name, is_good in RECORD_CHECKS.items():
        if not is_good(getattr(job, name)):
            raise ValueError(f"its {name} is not what it should be")
    if job.version != VERSION:
        job.reason = f"its record is of version {job.version}, made by another version of Tailboard"
    return job


def matches(job: Job, status: Status | None, queue: str | None, needle: str) -> bool:
    """Does `Jobs.list` with these conditions list the job? `needle` is its `text`, casefolded."""
    if status not in (None, job.status) or queue not in (None, job.queue):
        return False
    return not needle or needle in f"{job.name or ''}\n{job.command}\n{job.id}".casefold()


def shorten(job: Job) -> Job:
    """The job as a list shows it: without env and attempts, and with long texts cut. A command may
    have a megabyte, and what a job writes into its own journal may, too."""
    texts = {name: getattr(job, name) for name in WIRE if isinstance(getattr(job, name), str)}
    cut = {name: text[:LISTED_TEXT] for name, text in texts.items() if len(text) > LISTED_TEXT}
    command = cut_command(job.command)
    changes: dict[str, Any] = cut | {"command": command, "is_command_cut": command != job.command}
    if job.submit_reason:
        changes["submit_reason"] = job.submit_reason[:LISTED_TEXT]
    return replace(job, env={}, attempts=[], is_short=True, **changes)


def cut_command(command: str | list[str]) -> str | list[str]:
    """The beginning of a command, at most LISTED_COMMAND bytes as JSON, of the same type."""
    if isinstance(command, str):
        return cut_text(command, LISTED_COMMAND)
    kept: list[str] = []
    room = LISTED_COMMAND
    for word in command:
        room -= len('"", ')
        if room <= 0:
            break
        kept.append(cut_text(word, room))
        if kept[-1] != word:
            break
        room -= len(json.dumps(word))
    return kept or [""]


def is_command(value: Any) -> bool:
    words = [value] if isinstance(value, str) else value
    return isinstance(words, list) and bool(words) and all(isinstance(w, str) for w in words)


def is_timeout(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 1e9)


def is_retry_delay(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_RETRY_DELAY


RECORD_CHECKS: dict[str, Callable[[Any], bool]] = {  # a record may be written by hand
    "command": is_command,
    "name": is_text,
    "queue": is_queue_name,
    "cwd": is_text,
    "env": lambda value: isinstance(value, dict),
    "timeout": is_timeout,
    "retries": is_count,
    "retry_delay": is_retry_delay,
    "not_before": is_time,
    "submitted_at": is_text,
    "submitted_by": is_text,
    "rerun_of": is_text,
    "saved": is_text,
    "submit_reason": is_text,
    "version": is_count,
}


def encode_record(job: Job) -> bytes:
    """A job's record as one line, without fields that have their default."""
    plain = Job(command="")
    record = {name: getattr(job, name) for name in RECORD}
    kept = {n: v for n, v in record.items() if n in ("id", "version") or v != getattr(plain, n)}
    return json.dumps(kept, ensure_ascii=True).encode() + b"\n"
