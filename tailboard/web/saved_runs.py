"""The last runs of each saved command, for the list of them.

The page asks for that list every few seconds, and reading the records of 500 jobs takes a third of
a second. Ended jobs do not change, so each is read only once and kept in a short form."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import storage
from tailboard.errors import JobNotFound
from tailboard.status import FINISHED
from tailboard.web.waiting import Waiting, shown_job

RUNS_SHOWN = 5  # of a saved command, newest first
VERIFIED_FOR = 60.0  # seconds after which the kept jobs are looked for again
RUN_FIELDS = (
    "id",
    "status",
    "submitted_at",
    "started_at",
    "finished_at",
    "exit_code",
    "reason",
    "hint",
)
Summary = dict[str, Any]


class SavedRuns:
    """The runs of saved commands in a store."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.lock = threading.Lock()  # so that two requests do not read the same records
        # By ID: the summary of a job that has ended; None if there is no such job.
        self.known: dict[str, Summary | None] = {}
        self.used: set[str] = set()  # the IDs in `known` that were asked for since the last check
        self.stamp: object = None

    def forget_deleted(self) -> None:
        """Look for the kept jobs if any job was deleted since the last call. Call this once per
        request, before `last`."""
        with self.lock:
            stamp = self._deletion_stamp()
            if stamp == self.stamp:
                return
            self.stamp = stamp
            kept = {job_id: self.known[job_id] for job_id in self.used if self.known.get(job_id)}
            self.known = {job_id: found for job_id, found in kept.items() if self._exists(job_id)}
            self.used = set()

    def _deletion_stamp(self) -> object:
        """A value that changes if a job is deleted, and every VERIFIED_FOR seconds."""
        counts, totals = self.store.counts(), self.store.finished_totals()
        deleted = [totals[status] - counts[status] for status in FINISHED]
        return deleted, time.monotonic() // VERIFIED_FOR

    def _exists(self, job_id: str) -> bool:
        with suppress(JobNotFound):
            self.store.status(job_id)
            return True
        return False

    def last(self, ids: Sequence[str], waiting: Waiting) -> list[Summary]:
        """Summaries of the first of these jobs. Deleted jobs are left out."""
        with self.lock:
            found = (self._summary(job_id, waiting) for job_id in ids)
            return list(islice(filter(None, found), RUNS_SHOWN))

    def _summary(self, job_id: str, waiting: Waiting) -> Summary | None:
        self.used.add(job_id)
        if job_id in self.known:
            return self.known[job_id]
        try:
            job = self.store.get(job_id)
        except JobNotFound:
            self.known[job_id] = None
            return None
        shown = shown_job(job, waiting)
        summary = {name: shown[name] for name in RUN_FIELDS}
        if job.status in FINISHED:
            self.known[job_id] = summary
        return summary
