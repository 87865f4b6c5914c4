"""Whether jobs may be deleted by their age now, and how many in an hour; what a pass has deleted.

keep_rules.py decides which jobs, and pruning.py deletes them."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Self

from tailboard.files import read_descriptor
from tailboard.keep_rules import Bound, KeepLimits, Prunable
from tailboard.logs import lock_log
from tailboard.values import RESOURCE_ERRNOS, finite_number, known_fields, whole_number

log = logging.getLogger("storage")

CLOCK_TOLERANCE = 60.0  # seconds that the clock may differ from the monotonic clock
CLOCK_TRIAL = 3_600.0  # seconds of agreement before jobs are deleted by their age
# Jobs deleted by age and by runs per hour at most; a tenth of all if that is more:
DELETED_AN_HOUR = 1_000


@dataclass(slots=True)
class Retention:
    """The file `retention`: whether the clock can be trusted, and how many jobs were deleted by age
    and by runs in this hour. A clock that jumps by 40 days must not delete the history, so it is
    trusted only after it has agreed with the monotonic clock for an hour."""

    boot: str
    offset: float  # seconds by which the clock is ahead of the monotonic one
    agreed_since: float  # on the monotonic clock, as is the next
    hour_began: float
    deleted: int = 0  # since then
    days: int | None = None  # the limits of the last pass, see KeepLimits
    max_bytes: int | None = None

    @classmethod
    def read(cls, ledger: int, boot: str, wall_clock: float) -> Self:
        """Read the file, see `parse`."""
        try:
            content = read_descriptor(ledger)
        except OSError:
            content = b""
        return cls.parse(content, boot, wall_clock, warns=True)

    @classmethod
    def parse(cls, content: bytes, boot: str, wall_clock: float, warns: bool = False) -> Self:
        """The content of the file. Start over if it is empty or damaged, after a reboot, or after a
        clock jump. `wall_clock`: seconds since 1970, by the clock that measures ages. `warns`: log
        such a jump."""
        now = time.monotonic()
        offset = wall_clock - now
        fresh = cls(boot, offset, now, now)
        try:
            known = cls(**known_fields(cls, json.loads(content)))
            for number in (known.offset, known.agreed_since, known.hour_began):
                finite_number(number)
            whole_number(known.deleted, 0, 1 << 31)
        except (ValueError, TypeError, RecursionError):
            return fresh
        if known.boot != boot or known.agreed_since > now:
            return fresh
        moved = offset - known.offset
        if abs(moved) > CLOCK_TOLERANCE:
            if warns:
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

    def allowance(self, total: int) -> int:
        """How many more of `total` jobs may be deleted by age and by runs in this hour."""
        deleted = 0 if self._hour_is_over() else self.deleted
        return max(0, max(DELETED_AN_HOUR, total // 10) - deleted)

    def count_deleted(self) -> None:
        """Count one job that was deleted by age or by runs."""
        if self._hour_is_over():
            self.hour_began, self.deleted = time.monotonic(), 0
        self.deleted += 1

    def _hour_is_over(self) -> bool:
        return time.monotonic() - self.hour_began >= CLOCK_TRIAL


def limits_in(content: bytes) -> KeepLimits | None:
    """The limits of the last pass in the content of the file `retention`; None if it has none."""
    try:
        record = json.loads(content)
        most = 1 << 62
        days, max_bytes = (whole_number(record[name], 0, most) for name in KeepLimits._fields)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return KeepLimits(days, max_bytes)


@dataclass(slots=True)
class Tally:
    """What one pass has deleted, and why."""

    max_bytes: int  # of the logs and files of all jobs that are kept; 0: no bound
    deleted: Counter[Bound] = field(default_factory=Counter)  # jobs
    deleted_bytes: int = 0
    trimmed: int = 0  # logs
    trimmed_bytes: int = 0

    def count_deleted(self, found: Prunable) -> None:
        """Count and log a job that was deleted."""
        job = found.job
        log.info("deleted job=%s status=%s reason=%r", job.id, job.status, found.reason)
        self.deleted[found.bound] += 1
        self.deleted_bytes += job.size

    def count_trimmed(self, freed: int) -> None:
        self.trimmed += 1
        self.trimmed_bytes += freed

    def write_log(self, kept: int) -> None:
        """Log one line if this pass has changed anything. `kept`: bytes of all jobs."""
        if self.deleted or self.trimmed:
            log.info(
                "retention deleted_by_age=%d deleted_by_runs=%d deleted_by_bytes=%d "
                "deleted_bytes=%d trimmed_logs=%d trimmed_bytes=%d kept_bytes=%d max_bytes=%d",
                self.deleted["age"],
                self.deleted["runs"],
                self.deleted["bytes"],
                self.deleted_bytes,
                self.trimmed,
                self.trimmed_bytes,
                kept,
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
