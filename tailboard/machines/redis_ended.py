"""The ended jobs in Redis, as the rules of keep_rules.py need them, and which of them others wait
for."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, islice

from tailboard.folder.ended_table import EndedTable, Origins
from tailboard.folder.listing import IDs
from tailboard.job import Job
from tailboard.machines import redis_jobs
from tailboard.machines.answers import text_of
from tailboard.machines.redis_jobs import SEARCH_STEP, RedisJobs
from tailboard.prune_pass import Scan
from tailboard.status import FINISHED, Status
from tailboard.values import parse_time

DayOfStatus = tuple[str, Status]


class RedisEnded:
    """Finds the ended jobs, newest first. Each job's record is read once per process."""

    def __init__(self, jobs: RedisJobs) -> None:
        self._jobs = jobs
        self._tables: dict[DayOfStatus, EndedTable] = {}
        self._origins = Origins()

    def scan(self) -> Scan:
        days: dict[DayOfStatus, IDs] = {}
        for status in FINISHED:
            yield from self._find_days(status, days)
        for gone in self._tables.keys() - days.keys():
            del self._tables[gone]
        for _, day in groupby(sorted(days, reverse=True), key=lambda key: key[0]):
            parts = []
            for key in day:
                table = self._tables.setdefault(key, EndedTable())
                yield from table.align(days[key])
                yield from self._read_unknown(table)
                parts.append(table.iter_jobs(key[1]))
            yield from heapq.merge(*parts, reverse=True)

    def _find_days(self, status: Status, days: dict[DayOfStatus, IDs]) -> Iterator[None]:
        """Add the IDs of the jobs with this status to `days`."""
        before: bytes | None = None
        found: dict[str, list[str]] = {}
        while ids := self._jobs.ids_before(before, redis_jobs.ID_STEP, status):
            before = ids[-1]
            for job_id in self._jobs.link.checked(ids):
                found.setdefault(job_id[:8], []).append(job_id)
            for day in sorted(found)[1:]:  # complete, as the IDs come newest first
                days[day, status] = IDs(reversed(found.pop(day)))
            yield
        for day, names in found.items():
            days[day, status] = IDs(reversed(names))

    def _read_unknown(self, table: EndedTable) -> Iterator[None]:
        unknown = table.unknown()
        while places := list(islice(unknown, SEARCH_STEP)):
            by_id = {table.names[place]: place for place in places}
            files_bytes = self._jobs.sent_bytes(list(by_id))
            for job in self._jobs.load(list(by_id)):
                if job.status in FINISHED:
                    size, files = job.log_size - job.log_start, files_bytes.get(job.id, 0)
                    origin = self._origins.of(job)
                    table.put(by_id[job.id], origin, self._ended_at(job), size, files)
            yield

    @staticmethod
    def _ended_at(job: Job) -> float:
        for text in (job.finished_at, job.submitted_at):
            with suppress(ValueError):  # of a damaged journal
                return parse_time(text or "")
        return float("inf")  # never too old


class RedisAwaited:
    """Which jobs the queued jobs in Redis wait for. The field `after` of each is read once."""

    def __init__(self, jobs: RedisJobs) -> None:
        self._jobs = jobs
        self.seen = ""  # how many jobs that wait for others had been submitted, see submit.lua
        self._after: dict[str, Sequence[str]] = {}  # of each queued job, by ID
        self.waiting: Mapping[str, str] = {}  # parent -> one of the jobs that wait for it

    def count_submitted(self) -> str:
        link = self._jobs.link
        return text_of(link.ask(("HGET", link.key("awaiting"), "submitted"))[0])

    def refresh(self) -> Iterator[None]:
        """Bring `waiting` up to date. A generator: there may be many queued jobs."""
        link, seen = self._jobs.link, self.count_submitted()
        (found,) = link.ask(("ZRANGE", link.key(f"status:{Status.QUEUED}"), 0, -1))
        ids = link.checked(found)
        after = {job_id: self._after[job_id] for job_id in ids if job_id in self._after}
        unknown = iter([job_id for job_id in ids if job_id not in after])
        while step := list(islice(unknown, redis_jobs.ID_STEP)):
            answers = link.try_all(
                [("HGET", link.key(f"state:{job_id}"), "after") for job_id in step]
            )
            for job_id, answer in zip(step, answers, strict=True):
                after[job_id] = text_of(answer).split()[1:]  # "STATUS ID ID"
            yield
        self._after, self.seen = after, seen
        self.waiting = {parent: child for child, parents in after.items() for parent in parents}

    def waiting_for(self, job_id: str) -> str | None:
        """A queued job that waits for this one; None if there is none."""
        if self.seen != self.count_submitted():
            for _ in self.refresh():
                pass
        child = self.waiting.get(job_id)
        if child is None:
            return None
        link = self._jobs.link
        state = text_of(link.ask(("HGET", link.key(f"state:{child}"), "status"))[0])
        return child if state == Status.QUEUED else None
