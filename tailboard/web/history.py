"""What the page's home shows of ended jobs: the last runs of each name, and recent failures.

The records of the jobs are read once per process, newest first, and kept in a short form. Later
requests read only the jobs that have ended since."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile
from statistics import median
from typing import Any, NamedTuple

import storage
from tailboard.job import Job
from tailboard.status import FINISHED, Status
from tailboard.titles import long_title
from tailboard.values import first_id

WINDOW = 14 * 86_400  # seconds since the submission of the oldest job that is remembered
MOST_JOBS = 20_000  # that are remembered, about 10 MB
READ_TIME = 1.0  # seconds that one request may spend reading records
READ_STEP = 50  # records between two looks at the clock
RUNS_SHOWN = 20  # of each name
MOST_FAILURES = 50  # names with failures in one response
MOST_BYTES = 56 << 10  # of the names in one response, as JSON
FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.LOST)
LONGEST_TEXT = 300  # characters of a reason or a hint


class Run(NamedTuple):
    """An ended job, in the short form."""

    id: str
    name: str  # of its saved command, else the title of the job
    title: str
    is_saved: bool  # was it started from a saved command?
    status: Status
    seconds: float | None  # from start to end; None if it never started
    finished_at: str  # RFC 3339
    exit_code: int | None
    reason: str | None
    hint: str | None

    def as_failure(self) -> dict[str, Any]:
        names = ("id", "title", "status", "exit_code", "reason", "hint", "finished_at")
        return {name: getattr(self, name) for name in names}


def run_of(job: Job) -> Run:
    title = long_title(job.name, job.command) or job.id
    return Run(
        id=job.id,
        name=job.saved or title,
        title=title,
        is_saved=job.saved is not None,
        status=job.status,
        seconds=seconds_of(job),
        finished_at=str(job.finished_at or job.submitted_at),
        exit_code=job.exit_code,
        reason=job.reason and job.reason[:LONGEST_TEXT],
        hint=job.hint and job.hint[:LONGEST_TEXT],
    )


def seconds_of(job: Job) -> float | None:
    """How long the job ran, to the millisecond; None if it never started."""
    with suppress(ValueError, TypeError):
        begun = datetime.fromisoformat(str(job.started_at))
        lasted = datetime.fromisoformat(str(job.finished_at)) - begun
        return max(0.0, round(lasted.total_seconds(), 3))
    return None


class History:
    """The jobs of the last WINDOW seconds that have ended, MOST_JOBS at most."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.lock = threading.Lock()  # so that two requests do not read the same records
        self.known: dict[str, Run] = {}  # by ID
        self.runs: list[Run] = []  # the same, newest first
        self.stamp: object = None  # of the storage when all records were read; None: not all are
        self.is_complete = False

    def names(self) -> dict[str, Any]:
        """The last runs of each name, the name with the newest run first. `more`: how many names
        are left out, because the response would be too large."""
        runs, complete = self._load()
        shown, size = [], 0
        groups = group_by_name(runs)
        for name, group in groups.items():
            row = describe_name(name, group)
            size += len(json.dumps(row))
            if size > MOST_BYTES:
                break
            shown.append(row)
        return {"names": shown, "more": len(groups) - len(shown), "complete": complete}

    def failures(self, since: float) -> dict[str, Any]:
        """The jobs that failed, timed out or were lost after `since`, in seconds since 1970. They
        are folded by name, the newest first."""
        runs, complete = self._load()
        recent = (run for run in runs if run.status in FAILURES and is_after(run, since))
        groups = group_by_name(sorted(recent, key=finish_time, reverse=True))
        failures = [
            {"name": name, "count": len(group), "newest": group[0].as_failure()}
            for name, group in islice(groups.items(), MOST_FAILURES)
        ]
        return {"failures": failures, "complete": complete}

    def _load(self) -> tuple[list[Run], bool]:
        """The runs, newest first, and whether they are all that the history can hold."""
        with self.lock:
            stamp = self._storage_stamp()
            if stamp != self.stamp:
                unread = self._read_new()
                self.stamp = None if unread else stamp
                self.is_complete = len(unread) <= READ_STEP
                self.runs = [self.known[job_id] for job_id in sorted(self.known, reverse=True)]
            return self.runs, self.is_complete

    def _storage_stamp(self) -> object:
        """A value that changes if a job ends or is deleted, and every hour."""
        return self.store.counts(), self.store.finished_totals(), time.time() // 3600

    def _read_new(self) -> list[str]:
        """Read the records of jobs that have ended, and forget deleted jobs and old ones. Returns
        the IDs that were not read: READ_TIME was too short, or the job moved or vanished
        meanwhile."""
        until = time.monotonic() + READ_TIME
        oldest = first_id(time.time() - WINDOW)
        recent = takewhile(lambda job_id: job_id >= oldest, self.store.iter_finished_ids())
        ids = list(islice(recent, MOST_JOBS))
        kept = set(ids)
        self.known = {job_id: run for job_id, run in self.known.items() if job_id in kept}
        unread = [job_id for job_id in ids if job_id not in self.known]
        for begin in range(0, len(unread), READ_STEP):
            if time.monotonic() > until:
                break
            for job in self.store.get_many(unread[begin : begin + READ_STEP]):
                if job.status in FINISHED:
                    self.known[job.id] = run_of(job)
        return [job_id for job_id in unread if job_id not in self.known]


def group_by_name(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each name, in the order in which they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def describe_name(name: str, runs: list[Run]) -> dict[str, Any]:
    """A row of the names; `runs` are all runs of the name, newest first."""
    good = [run for run in runs if run.status is Status.SUCCEEDED]
    times = [run.seconds for run in good if run.seconds is not None]
    newest = runs[0]
    return {
        "name": name,
        "title": newest.title,
        "saved": newest.is_saved,
        "runs": [[run.id, run.status, run.seconds] for run in runs[:RUNS_SHOWN]][::-1],
        "median": round(median(times), 3) if times else None,
        "succeeded": len(good),
        "ended": len(runs),
        "last_at": newest.finished_at,
    }


def finish_time(run: Run) -> float:
    """When the job ended, in seconds since 1970; 0 if its record is damaged."""
    with suppress(ValueError):
        return datetime.fromisoformat(run.finished_at).timestamp()
    return 0.0


def is_after(run: Run, since: float) -> bool:
    return finish_time(run) > since
