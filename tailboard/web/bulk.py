"""One action on many jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flask import abort

from tailboard.job import Job
from tailboard.keys import own_key
from tailboard.status import FINISHED, Status
from tailboard.web.models import Bulk
from tailboard.web.state import state

BULK_STEP = 500  # jobs listed at a time
BULK_STATUSES: dict[str, Sequence[Status]] = {
    "rerun": FINISHED,
    "cancel": (Status.QUEUED, Status.RUNNING),
    "delete": FINISHED,
}
BULK_DONE = {"rerun": "run again", "cancel": "cancelled", "delete": "deleted"}


class Chosen(NamedTuple):
    """The jobs that filters choose for an action, in the order in which to do it."""

    jobs: list[Job]
    left_out: int  # jobs that were run again already
    complete: bool  # False: these are the newest of them


def choose(query: Bulk, limit: int, deadline: float) -> Chosen:
    """Find the jobs; 400 for a status whose jobs do not allow that."""
    allowed = BULK_STATUSES[query.to]
    if query.status not in (None, *allowed):
        message = f"only such jobs can be {BULK_DONE[query.to]}"
        abort(400, f"status must be one of {', '.join(allowed)}: {message}")
    statuses = [query.status] if query.status else allowed
    found: dict[str, Job] = {}  # by ID: one that moves meanwhile is met twice
    complete = True
    for status in statuses:
        count = 0
        for page in iter_pages(status, query.queue, query.q, query.first_id()):
            found |= {job.id: job for job in page}
            count += len(page)
            if count > limit or time.monotonic() > deadline:
                complete = False
                break
    jobs = sorted(found.values(), key=lambda job: job.id, reverse=True)
    complete = complete and len(jobs) <= limit
    return in_order(query.to, jobs[:limit], complete, deadline)


def in_order(action: str, jobs: list[Job], complete: bool, deadline: float) -> Chosen:
    """Of jobs that are newest first. Reruns stand in line as the jobs did. What waits is cancelled
    before what runs, else a free worker would start it."""
    if action == "cancel":
        return Chosen(sorted(jobs, key=lambda job: job.status is Status.RUNNING), 0, complete)
    if action == "delete" or not jobs:
        return Chosen(jobs[::-1], 0, complete)
    again: set[str | None] = set()  # a rerun is younger than its job
    for page in iter_pages(None, None, "", jobs[-1].id):
        again |= {job.rerun_of for job in page}
        if time.monotonic() > deadline:
            complete = False
            break
    left = [job for job in jobs[::-1] if job.id not in again]
    return Chosen(left, len(jobs) - len(left), complete)


def iter_pages(
    status: Status | None, queue: str | None, text: str, since: str | None
) -> Iterator[Sequence[Job]]:
    """All jobs, as Store.list gives them, a few at a time."""
    before = None
    while True:
        jobs, before = state().store.list(status, queue, text, BULK_STEP, before, since, short=True)
        yield jobs
        if before is None:
            return


def bulk_key(job_id: str) -> str:
    """The key of a rerun among many: each job is run again once, also if two people do it at a
    time."""
    return own_key(f"rerun {job_id}")
