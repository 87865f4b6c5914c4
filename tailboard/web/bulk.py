"""Finding the jobs for a bulk action: rerun, cancel or delete."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from flask import Response, abort

from tailboard.access_role import Role
from tailboard.job import Job
from tailboard.keys import own_key
from tailboard.status import FINISHED, Status
from tailboard.web.audit import remember_bulk
from tailboard.web.auth import visitor_role
from tailboard.web.long_answer import encode_json, long_answer, take_place, with_white_space
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
    """The jobs that filters select for an action."""

    ids: list[str]  # in the order in which to act on them
    left_out: int  # jobs that already have a rerun
    complete: bool  # False: the limit or the deadline was reached, and these are the newest jobs

    def as_answer(self, query: Bulk) -> dict[str, Any]:
        """The response of GET /bulk, whose `bulk` names these jobs for the audit log."""
        chosen = {"ids": self.ids, "left_out": self.left_out, "complete": self.complete}
        return chosen | {"bulk": remember_bulk(query, self.ids)}


Choosing = Generator[None, None, Chosen]  # a step for each BULK_STEP jobs that are read


def choose(query: Bulk, limit: int, deadline: float) -> Chosen:
    """Find at most `limit` jobs until the deadline, on the monotonic clock."""
    choosing = find_chosen(query, limit, deadline)
    while True:
        try:
            next(choosing)
        except StopIteration as end:
            chosen: Chosen = end.value
            return chosen


def choose_all(query: Bulk) -> Response:
    """Find all jobs, however long it takes. 503 if too many clients follow logs or wait."""
    take_place()
    return long_answer(stream_all(query), "application/json")


def stream_all(query: Bulk) -> Iterator[bytes]:
    chosen = yield from with_white_space(find_chosen(query, sys.maxsize, math.inf))
    yield encode_json(chosen.as_answer(query))


def check_status(query: Bulk) -> None:
    """400 if the query selects jobs with a status that does not allow the action."""
    allowed = BULK_STATUSES[query.to]
    if query.status not in (None, *allowed):
        message = f"only such jobs can be {BULK_DONE[query.to]}"
        abort(400, f"status must be one of {', '.join(allowed)}: {message}")


def find_chosen(query: Bulk, limit: int, deadline: float) -> Choosing:
    """As `choose`, step by step."""
    found: dict[str, Status] = {}  # by ID, because a job that changes its status is listed twice
    complete = True
    # The requests for other jobs would be refused, but the audit log would count them.
    only_saved = visitor_role() is Role.RUN
    for status in [query.status] if query.status else BULK_STATUSES[query.to]:
        count = 0
        for page in iter_pages(status, query.queue, query.q, query.first_id(), query.by):
            chosen = {job.id: job.status for job in page if job.saved or not only_saved}
            found |= chosen
            count += len(chosen)
            if count > limit or time.monotonic() > deadline:
                complete = False
                break
            yield
    newest = sorted(found, reverse=True)[:limit]
    complete = complete and len(newest) == len(found)
    if query.to == "cancel":
        # Queued jobs first: a worker that becomes free would start them.
        running = [each for each in newest if found[each] is Status.RUNNING]
        queued = [each for each in newest if found[each] is not Status.RUNNING]
        return Chosen(queued + running, 0, complete)
    if query.to == "delete" or not newest:
        return Chosen(newest[::-1], 0, complete)
    return (yield from without_rerun(newest, complete, deadline))


def without_rerun(newest: list[str], complete: bool, deadline: float) -> Choosing:
    """Those of the jobs, which come newest first, that have no rerun yet. They are rerun in the
    order in which they were submitted."""
    again: set[str | None] = set()  # jobs that have a rerun, which is younger than the job
    for page in iter_pages(None, None, "", newest[-1]):
        again |= {job.rerun_of for job in page}
        if time.monotonic() > deadline:
            complete = False
            break
        yield
    left = [each for each in newest[::-1] if each not in again]
    return Chosen(left, len(newest) - len(left), complete)


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
