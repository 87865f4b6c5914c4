"""Why queued jobs do not start: the part of their `reason` that the API adds.

It follows from the storage's contract alone (see tailboard/order.py), so it is the same for each
kind of storage, and nothing is stored for it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import storage
from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.order import RunningJob, look_at_parents
from tailboard.status import Status
from tailboard.values import parse_time
from tailboard.workers import Pause

MOST_LOOKUPS = 100  # statuses that are read one by one; then the IDs of all unfinished jobs are
NAMED_JOBS = 2  # IDs in one sentence; of more jobs, their number


class Waiting:
    """Explains the jobs of one request. Reads each part of the storage at most once, and only if a
    job needs it: most jobs wait for nothing but a free slot."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.statuses: dict[str, Status | None] = {}  # by ID

    def explain(self, job: Job) -> str | None:
        """Why a queued job does not start, as a sentence fragment; None if it waits only for a
        worker, or if the job is not queued."""
        if job.status is not Status.QUEUED:
            return None
        pause = self.pauses.get(job.queue)
        reasons = [self._cause(job), pause.reason if pause else None]
        return "; ".join(filter(None, reasons)) or None

    @cached_property
    def pauses(self) -> dict[str, Pause]:
        return {pause.queue: pause for pause in self.store.pauses.list()}

    def _cause(self, job: Job) -> str | None:
        """The first thing that the job waits for. Until a job is due, keys and limits do not delay
        it."""
        if job.after and (cause := self._parents(job)):
            return cause
        if not is_due(job):
            return None
        return self._key(job) or self._limit(job)

    def _parents(self, job: Job) -> str | None:
        parents = look_at_parents(job, self._status)
        if parents.failure:  # the next worker that looks at the job cancels it
            return f"will be cancelled: {parents.failure}"
        return f"waits for {some_ids(parents.open)}" if parents.open else None

    def _key(self, job: Job) -> str | None:
        if job.key is None:
            return None
        holders = [other for other in self._by_key.get(job.key, ()) if other != job.id]
        return f"waits for {holders[0]}, which has the key {job.key!r}" if holders else None

    def _limit(self, job: Job) -> str | None:
        limit = self._limits.get(job.queue)
        if limit is None:
            return None
        running = self._by_queue.get(job.queue, [])
        if len(running) < limit:
            return None
        verb = "is" if len(running) == 1 else "are"
        turn = f"waits for a turn in queue {job.queue}, whose limit is {limit}"
        return f"{turn}: {some_ids(running)} {verb} running"

    # --- What is read ---

    def _status(self, job_id: str) -> Status | None:
        """The status of a job; None if it was deleted."""
        if job_id not in self.statuses:
            self.statuses[job_id] = self._look_up(job_id)
        return self.statuses[job_id]

    def _look_up(self, job_id: str) -> Status | None:
        """The same, but QUEUED for any job that has not ended, if there are many to look up."""
        if len(self.statuses) >= MOST_LOOKUPS and job_id in self._unfinished:
            return Status.QUEUED
        try:
            return self.store.status(job_id)
        except JobNotFound:
            return None

    @cached_property
    def _unfinished(self) -> set[str]:
        return self.store.unfinished_ids()

    @cached_property
    def _limits(self) -> dict[str, int]:
        return self.store.limits.list()

    @cached_property
    def _running(self) -> Sequence[RunningJob]:
        return self.store.list_running()

    @cached_property
    def _by_queue(self) -> dict[str, list[str]]:
        """The IDs of the running jobs of each queue."""
        found = defaultdict(list)
        for job in self._running:
            found[job.queue].append(job.id)
        return found

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        """The IDs of the running jobs with each key."""
        found = defaultdict(list)
        for job in self._running:
            if job.key is not None:
                found[job.key].append(job.id)
        return found


def shown_job(job: Job, waiting: Waiting) -> dict[str, Any]:
    """A job as JSON for a list. The reason of a queued job also says what it waits for."""
    shown = job.as_dict()
    reasons = [shown["reason"], waiting.explain(job)]
    return shown | {"reason": "; ".join(filter(None, reasons)) or None}


def is_due(job: Job) -> bool:
    start = job.retried_at or job.not_before
    return start is None or parse_time(start) <= time.time()


def some_ids(ids: Sequence[str]) -> str:
    """IDs in a sentence: all of up to two, else the first ones and the number of the others."""
    if len(ids) <= NAMED_JOBS:
        return " and ".join(ids)
    more = len(ids) - NAMED_JOBS
    return f"{', '.join(ids[:NAMED_JOBS])} and {more} {'other' if more == 1 else 'others'}"
