"""Which ended jobs may be deleted, and when. This file decides and counts; pruning.py deletes."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass, field, fields
from typing import Literal, Self

from tailboard import values
from tailboard.files import read_descriptor
from tailboard.logs import lock_log
from tailboard.status import Status
from tailboard.values import RESOURCE_ERRNOS, finite_number, known_fields, utc, whole_number

log = logging.getLogger("storage")

CLOCK_TOLERANCE = 60.0  # seconds that the clock may differ from the monotonic clock
CLOCK_TRIAL = 3_600.0  # seconds of agreement before jobs are deleted by their age
MIN_KEPT = 3_600.0  # seconds after its end in which no job is deleted to save bytes
LARGE_LOG_SHARE = 10  # a log above this share of all bytes is trimmed before a job is deleted
DELETED_AN_HOUR = 1_000  # jobs deleted by age per hour at most; a tenth of all if that is more
Bound = Literal["age", "bytes"]


@dataclass(slots=True)
class Retention:
    """The file `retention`: whether the clock can be trusted, and how many jobs were deleted by age
    in this hour. A clock that jumps by 40 days must not delete the history, so it is trusted only
    after it has agreed with the monotonic clock for an hour."""

    boot: str
    offset: float  # seconds by which the clock is ahead of the monotonic one
    agreed_since: float  # on the monotonic clock, as is the next
    hour_began: float
    deleted: int = 0  # since then

    @classmethod
    def read(cls, ledger: int, boot: str, wall_clock: float) -> Self:
        """Read the file; start over if it is empty or damaged, after a reboot, or after a clock
        jump. `wall_clock`: seconds since 1970, by the clock that measures ages."""
        now = time.monotonic()
        offset = wall_clock - now
        fresh = cls(boot, offset, now, now)
        try:
            known = cls(**known_fields(cls, json.loads(read_descriptor(ledger))))
            for number in (known.offset, known.agreed_since, known.hour_began):
                finite_number(number)
            whole_number(known.deleted, 0, 1 << 31)
        except (OSError, ValueError, TypeError, RecursionError):
            return fresh
        if known.boot != boot or known.agreed_since > now:
            return fresh
        moved = offset - known.offset
        if abs(moved) > CLOCK_TOLERANCE:
            log.warning("clock moved_by=%.0fs: nothing is deleted by age for an hour", moved)
            fresh.hour_began, fresh.deleted = known.hour_began, known.deleted
            return fresh
        known.offset = offset
        return known

    def write(self, ledger: int) -> None:
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        data = json.dumps(record).encode().ljust(256)
        os.pwrite(ledger, data, 0)
        os.ftruncate(ledger, len(data))

    def believes_clock(self) -> bool:
        return time.monotonic() - self.agreed_since >= CLOCK_TRIAL

    def may_delete(self, total: int) -> bool:
        """May one more of `total` jobs be deleted by age in this hour?"""
        deleted = 0 if self._hour_is_over() else self.deleted
        return deleted < max(DELETED_AN_HOUR, total // 10)

    def count_deleted(self) -> None:
        """Count one job that was deleted by age."""
        if self._hour_is_over():
            self.hour_began, self.deleted = time.monotonic(), 0
        self.deleted += 1

    def _hour_is_over(self) -> bool:
        return time.monotonic() - self.hour_began >= CLOCK_TRIAL


@dataclass(slots=True)
class Sweep:
    """One pass of retention over all ended jobs, newest first: what it has deleted, and why."""

    max_bytes: int  # of the logs of all jobs that are kept; 0: no bound
    oldest: float  # jobs that ended before it (seconds since 1970) are too old; 0: none is
    retention: Retention  # limits how many are deleted by age in an hour
    total: int  # jobs that have ended
    kept: int = 0  # bytes
    by_bytes: int = 0  # jobs
    by_age: int = 0
    deleted_bytes: int = 0
    trimmed: int = 0  # logs
    trimmed_bytes: int = 0
    large: list[tuple[int, str]] = field(default_factory=list)  # (size in bytes, path) of each log

    @property
    def log_limit(self) -> int:
        """Bytes above which one log is trimmed before another job is deleted for it."""
        return max(self.max_bytes // LARGE_LOG_SHARE, values.BLOCK)

    def bound(self, ended_at: float, now: float) -> Bound | None:
        """The bound that requires a job that ended at this time to be deleted, once its bytes are
        counted in `kept`; None if it is kept. Both times are in seconds since 1970, by the same
        clock. A job that ended within the last hour is never deleted to save bytes."""
        is_recent = abs(now - ended_at) < MIN_KEPT  # a time in the future is wrong
        if self.is_full() and not is_recent:
            return "bytes"
        if ended_at < self.oldest and self.retention.may_delete(self.total):
            return "age"
        return None

    def _reason(self, bound: Bound) -> str:
        """The bound, as the reason for a deletion."""
        if bound == "bytes":
            return f"the logs are above {self.max_bytes:,} bytes"
        return f"it ended before {utc(self.oldest)}"

    def is_full(self) -> bool:
        return 0 < self.max_bytes < self.kept

    def count_deleted(self, job_id: str, status: Status, size: int, bound: Bound) -> None:
        """Count and log a job that was deleted for this bound; `size`: bytes of its log."""
        log.info("deleted job=%s status=%s reason=%r", job_id, status, self._reason(bound))
        self.kept -= size
        self.deleted_bytes += size
        if bound == "age":
            self.by_age += 1
        else:
            self.by_bytes += 1

    def count_trimmed(self, freed: int) -> None:
        self.kept -= freed
        self.trimmed += 1
        self.trimmed_bytes += freed

    def write_log(self) -> None:
        """Log one line if this pass has changed anything."""
        if self.by_age or self.by_bytes or self.trimmed:
            log.info(
                "retention deleted_by_age=%d deleted_by_bytes=%d deleted_bytes=%d trimmed_logs=%d "
                "trimmed_bytes=%d kept_bytes=%d max_bytes=%d",
                self.by_age,
                self.by_bytes,
                self.deleted_bytes,
                self.trimmed,
                self.trimmed_bytes,
                self.kept,
                self.max_bytes,
            )


def is_being_read(path: str) -> bool:
    """Is a process reading this log? A log that is not a regular file is never read."""
    try:
        with lock_log(path, os.O_RDONLY):
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in RESOURCE_ERRNOS:
            raise
        return False
