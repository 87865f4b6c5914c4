"""Searching the logs of all jobs, page by page."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from tailboard.errors import JobNotFound, StoreError
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.matching import TextMatcher
from tailboard.values import RESOURCE_ERRNOS
from tailboard.web.line_counts import LINE_NUMBER_TIME
from tailboard.web.log_read import open_log
from tailboard.web.log_search import number_hits
from tailboard.web.models import PLACE, Grep
from tailboard.web.state import state
from tailboard.web.views import job_summary

GREP_BYTES = 256 << 20  # of logs, searched for one page
GREP_JOB_BYTES = 1 << 30  # only the newest bytes of a longer log are searched
GREP_STEP = 100  # jobs listed at a time


class GrepPage:
    """One page of a search of all logs, newest jobs first. It ends when enough lines are found,
    when GREP_BYTES are searched, or when time is up. Then `next` says where to continue."""

    def __init__(self, query: Grep, seconds: float) -> None:
        self.query = query
        self.matcher = TextMatcher(query.q)
        self.deadline = time.monotonic() + seconds
        self.hits: list[dict[str, Any]] = []
        self.more_in: list[str] = []  # IDs of jobs with `per_job` such lines, and perhaps more
        self.unreadable: list[str] = []  # IDs of jobs whose logs cannot be read
        self.jobs = self.bytes = 0  # searched so far
        self.next: str | None = None  # the `before` of the next page; None: all logs are searched

    def search(self) -> Self:
        """Fill the page. At least one job is searched, so that each page makes progress."""
        last = self._search_begun_job()
        while self.next is None:
            jobs, following = self._list_jobs(last)
            for job in jobs:
                if self.jobs > 0 and self._is_full():
                    self.next = last
                    return self
                self._search_job(job)
                last = job.id
                if self.next is not None:
                    return self
            if following is None:
                return self
            last = following
            if self._is_full():
                self.next = last
        return self

    def _list_jobs(self, before: str | None) -> tuple[Sequence[Job], str | None]:
        """The next jobs whose logs are searched, and where the list continues after them."""
        query = self.query
        return state().store.list(
            query.status,
            query.queue,
            "",
            GREP_STEP,
            before,
            query.first_id(),
            short=True,
            by=query.by,
        )

    def _search_begun_job(self) -> str | None:
        """Search the rest of the log in which the previous page ended, if it ended inside one.
        Returns the ID of the job below which to continue; None: with the newest job."""
        place = re.fullmatch(PLACE, self.query.before or "")
        if place is None:
            return None
        job_id, offset, found = place.groups()
        if offset is not None:
            with suppress(JobNotFound):  # it was deleted
                self._search_job(state().store.get(job_id), int(offset), int(found))
        return str(job_id)

    def _is_full(self) -> bool:
        return (
            len(self.hits) >= self.query.limit
            or self.bytes >= GREP_BYTES
            or time.monotonic() > self.deadline
        )

    def _search_job(self, job: Job, before: int | None = None, found: int = 0) -> None:
        self.jobs += 1
        try:
            with open_log(job.id) as log:
                self._search_log(job, log, log.size if before is None else before, found)
        except JobNotFound:
            pass  # it was deleted
        except OSError as error:
            if isinstance(error, StoreError) or error.errno in RESOURCE_ERRNOS:
                raise
            self.unreadable.append(job.id)

    def _search_log(self, job: Job, log: Log, before: int, found: int) -> None:
        """Search a log backwards from an offset. `found`: how many of its lines earlier pages have
        found."""
        size = log.size
        end = min(before, size)
        lowest = size - GREP_JOB_BYTES  # a log can be one huge hole
        floor = max(0, lowest, end - (GREP_BYTES - self.bytes))
        wanted = max(0, min(self.query.per_job - found, self.query.limit - len(self.hits)))
        lines, following = log.search(self.matcher, end, wanted, self.deadline, floor)
        self.bytes += max(0, end - (log.start if following is None else following))
        patience = LINE_NUMBER_TIME if self.query.numbers else 0.0
        numbered = number_hits(log, lines[::-1], time.monotonic() + patience)[::-1]
        self.hits += [{"job": job_summary(job)} | line for line in numbered]
        found += len(lines)
        if following is None or following <= lowest:
            return
        if found >= self.query.per_job:
            self.more_in.append(job.id)
        else:
            self.next = f"{job.id}.{following}.{found}"

    def as_dict(self) -> dict[str, Any]:
        """The page as the API shows it."""
        counts = {"jobs": self.jobs, "bytes": self.bytes, "unreadable": len(self.unreadable)}
        return {
            "hits": self.hits,
            "more_in": self.more_in,
            "next": self.next,
            "searched": counts,
            "unreadable": self.unreadable,
        }
