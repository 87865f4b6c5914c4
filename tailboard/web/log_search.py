"""Searching one log, or all logs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Self

from flask import request

from tailboard.errors import JobNotFound, StoreError
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.values import RESOURCE_ERRNOS
from tailboard.web.auth import visitor
from tailboard.web.line_counts import LINE_NUMBER_TIME
from tailboard.web.log_read import open_log
from tailboard.web.models import PLACE, Grep, LogQuery
from tailboard.web.search_turns import Searcher
from tailboard.web.state import state
from tailboard.web.views import job_summary

COUNT_BLOCK = 1 << 20  # bytes at a time in which matches are counted
GREP_BYTES = 256 << 20  # of logs, searched for one answer
GREP_JOB_BYTES = 1 << 30  # the newest bytes of one log that are searched with all others
GREP_STEP = 100  # jobs listed at a time
SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines
LONG_LOG_BYTES = 1 << 20  # shorter ones are searched in milliseconds


def search_in_turn(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The matches in a log, or their number. 503 if the log is long and too many searches run."""
    if log.size - log.start <= LONG_LOG_BYTES:
        return search_or_count(log, needle, query)
    with state().searches.turn(searcher()):
        return search_or_count(log, needle, query)


def searcher() -> Searcher:
    """Whose turn this request uses."""
    if name := visitor():
        return Searcher(name, name)
    peer = request.remote_addr or ""
    return Searcher(peer, last_hop() or peer)


def last_hop() -> str:
    """The last address in X-Forwarded-For, which our own proxy or the page has added; the client
    can have made up all others. Empty if the header has no address."""
    added = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    with suppress(ValueError):
        return str(ip_address(added))
    return ""


def search_or_count(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    return count_matches(log, needle) if query.count else search(log, needle, query)


def search(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The lines that contain a text, newest first. `line` counts from 1; it is None if the
    beginning of the log was removed or if counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    before = log.size if query.before is None else min(query.before, log.size)
    hits, following = log.search(needle.encode(), before, query.limit, deadline)
    return {"matches": number_hits(log, hits, deadline + SEARCH_TIME), "next": following}


def number_hits(
    log: Log, hits: Sequence[tuple[int, bytes]], deadline: float
) -> list[dict[str, Any]]:
    """The lines that Log.search found, newest first, as the API shows them."""
    numbered: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in reversed(hits):
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        numbered.append({"offset": offset, "line": number, "text": shown})
    return numbered[::-1]


def count_matches(log: Log, needle: str) -> dict[str, Any]:
    """How often the log contains a text; ASCII case is ignored. `complete` is False if the time was
    not enough for the whole log."""
    wanted = needle.encode().lower()
    deadline = time.monotonic() + SEARCH_TIME
    at, size, count = log.start, log.size, 0
    while at < size and time.monotonic() < deadline:
        length = min(COUNT_BLOCK, size - at)
        overlap = len(wanted) - 1  # a match can extend beyond its block
        count += log.pread(length + overlap, at).lower().count(wanted)
        at += length
    return {"count": count, "complete": at >= size}


class GrepPage:
    """One page of a search of all logs, newest jobs first. It ends when enough lines are found,
    when GREP_BYTES are searched, or when time is up. Then `next` says where to continue."""

    def __init__(self, query: Grep, seconds: float, is_numbered: bool = True) -> None:
        self.query = query
        self.is_numbered = is_numbered  # whether lines get their numbers
        self.deadline = time.monotonic() + seconds
        self.hits: list[dict[str, Any]] = []
        self.more_in: list[str] = []  # IDs of jobs with `per_job` such lines, and perhaps more
        self.unreadable: list[str] = []  # IDs of jobs whose logs cannot be read
        self.jobs = self.bytes = 0  # searched so far
        self.next: str | None = None  # the `before` of the next page; None: no log is left

    def as_dict(self) -> dict[str, Any]:
        counts = {"jobs": self.jobs, "bytes": self.bytes, "unreadable": len(self.unreadable)}
        return {
            "hits": self.hits,
            "more_in": self.more_in,
            "next": self.next,
            "searched": counts,
        }

    def search(self) -> Self:
        """Fill the page."""
        last = self._search_begun_job()
        while self.next is None:
            jobs, following = state().store.list(
                self.query.status,
                self.query.queue,
                "",
                GREP_STEP,
                last,
                self.query.first_id(),
                short=True,
            )
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

    def _search_begun_job(self) -> str | None:
        """Search the rest of the log in which the page before has ended, if it was in the middle of
        one. Returns the ID of the job below which to continue; None: with the newest job."""
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
        """Search a log backwards from an offset. Pages before have `found` so many of its lines."""
        size = log.size
        end = min(before, size)
        lowest = size - GREP_JOB_BYTES  # a log can be one huge hole
        floor = max(0, lowest, end - (GREP_BYTES - self.bytes))
        wanted = max(0, min(self.query.per_job - found, self.query.limit - len(self.hits)))
        lines, following = log.search(self.query.q.encode(), end, wanted, self.deadline, floor)
        self.bytes += max(0, end - (log.start if following is None else following))
        patience = LINE_NUMBER_TIME if self.is_numbered else 0.0
        numbered = number_hits(log, lines, time.monotonic() + patience)
        self.hits += [{"job": job_summary(job)} | line for line in numbered]
        found += len(lines)
        if following is None or following <= lowest:
            return
        if found >= self.query.per_job:
            self.more_in.append(job.id)
        else:
            self.next = f"{job.id}.{following}.{found}"
