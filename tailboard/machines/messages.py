"""What the relay of a machine and Redis exchange."""

from __future__ import annotations

import errno
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

from tailboard.errors import RecordDamaged, StoreError
from tailboard.job import parse_record
from tailboard.journal import parse_journal
from tailboard.judge import delay_before_start, judge
from tailboard.logs import LAST_SIZE
from tailboard.status import FINISHED, Status
from tailboard.values import LAST_TIME, utc
from tailboard.workers import WorkerInfo

RESTORE_TIME = 30.0  # seconds without starts, at most, after Redis returned to an older state
# Errors of Redis if a key holds something other than our command or script expects.
DAMAGE_RE = re.compile(
    "WRONGTYPE|attempt to |bad argument|not an integer|equal or smaller|no such key"
)
STATE_FIELDS = ("status", "queue", "token", "log_size", "log_start", "not_before")
NO_STATE = (None,) * 6  # these fields of a damaged state
DAMAGED = "its record in Redis is damaged"


@dataclass(slots=True)
class Assignment:
    """A job that Redis has assigned to a spool, which has not confirmed it yet."""

    id: str
    token: str
    log_size: int | None  # of earlier attempts on other machines; None: there is no log
    record: bytes  # what was asked, as a line
    journal: bytes

    @property
    def queue(self) -> str:
        return parse_record(self.record, self.id).queue


@dataclass(slots=True)
class LogTail:
    """The end of the log that a job's earlier attempts wrote on other machines."""

    offset: int = 0  # where `end` begins
    end: bytes = b""
    times: bytes = b""


@dataclass(slots=True)
class Instance:
    """One run of a spool's relay. Redis knows the one that speaks for a spool."""

    name: str  # random
    since: float = 0.0  # seconds since 1970, by the clock of Redis; 0: not accepted yet
    beats: int = 0  # the number of the last report of this spool that is known to be accepted
    epoch: str = ""  # of Redis then

    @property
    def known(self) -> tuple[str, int, float]:
        """What shows whether Redis has returned to an older state, and how long restoring lasts."""
        return self.epoch, self.beats, RESTORE_TIME


class RedisIsOlder(StoreError):
    """Redis has returned to an older state."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "Redis has returned to an older state")


class SpoolInUse(OSError):
    """Another instance of this spool reported to Redis a moment ago."""

    def __init__(self, instance: str, beats: int) -> None:
        super().__init__(errno.EBUSY, "another worker reported for this spool a moment ago")
        self.instance, self.beats = instance, beats


@dataclass(slots=True)
class MachineOrders:
    """The orders of Redis for a machine."""

    epoch: str  # it changes when Redis was emptied
    cancel_requests: dict[str, str]  # jobs to cancel, and why
    deletions: list[str]  # jobs to delete
    paused: dict[str, bytes]  # queues, and what is said of each
    restoring: int  # machines that are putting back what an older state of Redis lacks
    must_restore: bool  # this one is among them


@dataclass(slots=True)
class MachineReport:
    """A machine as it has reported itself to Redis."""

    spool: str
    reported_at: float  # the last time, in seconds since 1970 by the clock of Redis
    silence: int  # seconds since then
    workers: Sequence[WorkerInfo]


def is_full(error: Exception) -> bool:
    """Has Redis refused to write because of its maxmemory?"""
    return isinstance(error, StoreError) and error.errno == errno.ENOSPC


def none_if_damaged(answer: Any) -> Any:
    """An answer about one job; None if its key holds something else. Other errors are raised."""
    if isinstance(answer, RecordDamaged):
        return None
    if isinstance(answer, OSError):
        raise answer
    return answer


def parse_count(text: bytes | str | None) -> int:
    """A number of bytes or jobs from Redis; 0 if it is not a number."""
    with suppress(ValueError):
        return max(0, min(int(text or 0), LAST_SIZE))
    return 0


def parse_score(text: bytes | str | None) -> float:
    """A time in seconds since 1970 from Redis; 0 if it is not a valid time."""
    with suppress(ValueError):
        found = float(text or 0)
        return found if 0 <= found < LAST_TIME else 0.0
    return 0.0


def parse_status(text: str) -> tuple[Status, str | None]:
    """(status, problem) from the text in Redis. A job with a damaged status is lost; the problem of
    a good one is None."""
    with suppress(ValueError):
        return Status(text), None
    why = f"its status is {text[:40]!r}" if text else "it has no status"
    return Status.LOST, f"{DAMAGED}: {why}"


def damaged_line(why: str) -> str:
    """The journal's line for a job whose record is damaged."""
    ended = {"status": Status.LOST, "reason": f"{DAMAGED}: {why}", "finished_at": utc()}
    return f"\n{json.dumps({'ended': ended})}\n"


def flat_pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs in a flat list, as Redis sends them."""
    return zip(flat[::2], flat[1::2], strict=True)


@dataclass(slots=True)
class SpoolInstances:
    """The file `instances` of a spool, beside what differs in a copy."""

    names: list[str]  # of the last instances, the newest last
    admitted: bool  # Redis has accepted one
    beats: int = 0  # see Instance, as are
    epoch: str = ""


@dataclass(slots=True)
class SpoolEntry:
    """One job in the spool, as the relay read it at one moment."""

    id: str
    status: Status
    place: str  # the spool's folder that holds it: taken, returned or its status
    folder: str
    token: str
    queue: str
    record: bytes
    journal: bytes
    log_size: int | None  # None: it has no log
    log_start: int
    log_at: float

    @property
    def is_waiting(self) -> bool:
        """Does it wait for a worker of this machine, confirmed or about to be?"""
        return self.place in ("taken", "queued")

    @property
    def is_over(self) -> bool:
        """Has its attempt ended, and may Redis know of that only with its whole log?"""
        return self.status in FINISHED or self.place == "returned"

    @property
    def status_for_redis(self) -> Status:
        """The status to report to Redis."""
        return Status.RUNNING if self.is_waiting else self.status

    def seconds_to_retry(self) -> float:
        """Seconds until its next attempt may start, where it has had one that ended badly."""
        with suppress(ValueError, RecursionError):  # a job's doing
            job = parse_record(self.record, self.id)
            verdict = judge(job.retries, parse_journal(self.journal)[-1], None, "", 0.0)
            delay = delay_before_start(job, verdict, 0.0)
            return delay.seconds_left(time.time()) if isfinite(delay.at_most) else 0.0
        return 0.0

    @property
    def worker(self) -> str | None:
        """The worker that claimed its last attempt."""
        return parse_journal(self.journal)[-1].worker
