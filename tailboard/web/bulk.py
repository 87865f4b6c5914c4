"""Finding the jobs for a bulk action: rerun, cancel or delete."""

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
    """The jobs that filters select for an action, in the order in which to act on them."""

    jobs: list[Job]
    left_out: int  # jobs that already have a rerun
    complete: bool  # False: the limit or the deadline was reached, and these are the newest jobs


def choose(query: Bulk, limit: int, deadline: float) -> Chosen:
    """Find at most `limit` jobs until the deadline, on the monotonic clock. 400 if the status is
    one whose jobs do not allow the action."""
    allowed = BULK_STATUSES[query.to]
    if query.status not in (None, *allowed):
        message = f"only such jobs can be {BULK_DONE[query.to]}"
        abort(400, f"status must be one of {', '.join(allowed)}: {message}")
    statuses = [query.status] if query.status else allowed
    found: dict[str, Job] = {}  # by ID, because a job that changes its status is listed twice
    complete = True
    for status in statuses:
        count = 0
        for page in iter_pages(status, query.queue, query.q, query.first_id(), query.by):
            found |= {job.id: job for job in page}
            count += len(page)
            if count > limit or time.monotonic() > deadline:
                complete = False
                break
    jobs = sorted(found.values(), key=lambda job: job.id, reverse=True)
    complete = complete and len(jobs) <= limit
    return in_order(query.to, jobs[:limit], complete, deadline)


def in_order(action: str, jobs: list[Job], complete: bool, deadline: float) -> Chosen:
    """The jobs, which come newest first, in the order of the action. Reruns are queued in the order
    of the old jobs. Queued jobs are cancelled before running ones: a worker that becomes free would
    start them."""
    if action == "cancel":
        return Chosen(sorted(jobs, key=lambda job: job.status is Status.RUNNING), 0, complete)
    if action == "delete" or not jobs:
        return Chosen(jobs[::-1], 0, complete)
    again: set[str | None] = set()  # jobs that have a rerun, which is younger than the job
    for page in iter_pages(None, None, "", jobs[-1].id):
        again |= {job.rerun_of for job in page}
        if time.monotonic() > deadline:
            complete = False
            break
    left = [job for job in jobs[::-1] if job.id not in again]
    return Chosen(left, len(jobs) - len(left), complete)


def iter_pages(
    status: Status | None,
    queue: str | None,
    text: str,
    since: str | None,
    by: str | None = None,
) -> Iterator[Sequence[Job]]:
    """All jobs that the filters of `Jobs.list` select, BULK_STEP at a time."""
    before = None
    while True:
        jobs, before = state().store.list(
            status, queue, text, BULK_STEP, before, since, short=True, by=by
        )
        yield jobs
        if before is None:
            return


def bulk_key(job_id: str) -> str:
    """The key for the rerun of one of many jobs. It makes each job run again only once, even if two
    people rerun the same jobs at the same time."""
    return own_key(f"rerun {job_id}")
