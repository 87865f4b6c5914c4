"""The jobs that have ended, in a short form and by command: what a command usually does follows
from them, and what the page's home shows of them.

The records of the jobs are read once per process, newest first. Later calls read only the jobs that
have ended since."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple

import storage
from tailboard.job import Job
from tailboard.keep_rules import group_of, title_of
from tailboard.status import FINISHED, Status
from tailboard.values import first_id

WINDOW = 14 * 86_400  # seconds since the submission of the oldest job that is remembered
MOST_JOBS = 20_000  # that are remembered, about 10 MB
READ_TIME = 1.0  # seconds that one call may spend reading records
READ_STEP = 50  # records between two checks of the clock
LONGEST_TEXT = 300  # characters of a reason or a hint


class Run(NamedTuple):
    """An ended job, in the short form."""

    id: str
    name: str  # its group: of its saved command, else the title of the job
    title: str
    is_saved: bool  # was it started from a saved command?
    status: Status
    seconds: float | None  # from start to end; None if it never started
    finished_at: str  # RFC 3339
    exit_code: int | None
    reason: str | None
    hint: str | None
    queue: str
    rerun_of: str | None  # the ID of the job that it repeats


def run_of(job: Job) -> Run:
    return Run(
        id=job.id,
        name=group_of(job),
        title=title_of(job),
        is_saved=job.saved is not None,
        status=job.status,
        seconds=seconds_of(job),
        finished_at=str(job.finished_at or job.submitted_at),
        exit_code=job.exit_code,
        reason=job.reason and job.reason[:LONGEST_TEXT],
        hint=job.hint and job.hint[:LONGEST_TEXT],
        queue=job.queue,
        rerun_of=job.rerun_of,
    )


def seconds_of(job: Job) -> float | None:
    """How long the job ran, to the millisecond; None if it never started."""
    with suppress(ValueError, TypeError):
        begun = datetime.fromisoformat(str(job.started_at))
        lasted = datetime.fromisoformat(str(job.finished_at)) - begun
        return max(0.0, round(lasted.total_seconds(), 3))
    return None


def finish_time(run: Run) -> float:
    """When the job ended, in seconds since 1970; 0 if its record is damaged."""
    with suppress(ValueError):
        return datetime.fromisoformat(run.finished_at).timestamp()
    return 0.0


class Stamp(NamedTuple):
    """What changes in the storage if a job ends or is deleted; and the hour, since jobs become too
    old."""

    totals: dict[Status, int]  # how many jobs have ever ended with each status
    deleted: int  # how many of them were deleted
    hour: float


def count_new(before: Stamp | None, after: Stamp) -> int | None:
    """How many jobs have ended, if nothing else has changed; else None."""
    if before is None or (before.deleted, before.hour) != (after.deleted, after.hour):
        return None
    new = [after.totals[status] - before.totals[status] for status in FINISHED]
    return sum(new) if min(new) >= 0 else None


class History:
    """The jobs of the last WINDOW seconds that have ended, MOST_JOBS at most, by group. Several
    threads may use it."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.lock = threading.Lock()  # so that two threads do not read the same records
        self.known: dict[str, Run] = {}  # by ID
        # By group, newest first. A list is never changed, only replaced.
        self.groups: dict[str, Sequence[Run]] = {}
        self.stamp: Stamp | None = None  # when all records had been read; None: not all are
        self.is_complete = False  # are these all runs that the history can hold?

    def runs_of(self, group: str) -> Sequence[Run]:
        """The runs of a group as they are now, newest first. While `is_complete` is False, the
        records of older ones are still to be read."""
        self.refresh()
        return self.groups.get(group, ())

    def refresh(self) -> None:
        """Bring the runs up to date."""
        with self.lock:
            self._refresh(READ_TIME)

    def try_refresh(self, read_time: float) -> None:
        """The same, unless another thread is doing it. Reads records for `read_time` seconds."""
        if self.lock.acquire(blocking=False):
            try:
                self._refresh(read_time)
            finally:
                self.lock.release()

    def _refresh(self, read_time: float) -> None:
        stamp = self._storage_stamp()
        if stamp != self.stamp:
            unread = self._read_new(read_time, count_new(self.stamp, stamp))
            self.stamp = None if unread else stamp
            self.is_complete = len(unread) <= READ_STEP

    def _storage_stamp(self) -> Stamp:
        counts, totals = self.store.counts(), self.store.finished_totals()
        deleted = sum(totals.values()) - sum(counts[status] for status in FINISHED)
        return Stamp(totals, deleted, time.time() // 3600)

    def _read_new(self, seconds: float, count: int | None) -> list[str]:
        """Read the records of jobs that have ended: so many; or, if `count` is None, all that are
        new, and forget deleted jobs and old ones. Returns the IDs that were not read: the time was
        too short, or the job moved or vanished meanwhile."""
        until = time.monotonic() + seconds
        oldest = first_id(time.time() - WINDOW)
        recent = takewhile(lambda job_id: job_id >= oldest, self.store.iter_finished_ids())
        if count is None:
            ids = list(islice(recent, MOST_JOBS))
            self._forget(self.known.keys() - set(ids))
            unread = [job_id for job_id in ids if job_id not in self.known]
        else:  # they are among the newest, so not all IDs are read
            unread = list(islice((job_id for job_id in recent if job_id not in self.known), count))
        new: list[Run] = []
        for begin in range(0, len(unread), READ_STEP):
            # The first ones are always read: listing the IDs can take all of the time, and so few
            # records that are unread count as complete.
            if begin > 0 and time.monotonic() > until:
                break
            step = unread[begin : begin + READ_STEP]
            new += [run_of(job) for job in self.store.get_many(step) if job.status in FINISHED]
        self._add(new)
        return [job_id for job_id in unread if job_id not in self.known]

    def _forget(self, ids: Iterable[str]) -> None:
        changed = {self.known.pop(job_id).name for job_id in ids}
        for group in changed:
            self._replace(group, [run for run in self.groups[group] if run.id in self.known])

    def _add(self, runs: Iterable[Run]) -> None:
        by_group: dict[str, list[Run]] = {}
        for run in runs:
            self.known[run.id] = run
            by_group.setdefault(run.name, []).append(run)
        for group, new in by_group.items():
            self._replace(group, sorted([*new, *self.groups.get(group, ())], reverse=True))

    def _replace(self, group: str, runs: Sequence[Run]) -> None:
        if runs:
            self.groups[group] = runs
        else:
            del self.groups[group]
