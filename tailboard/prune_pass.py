"""One pass over all ended jobs that deletes those that the rules no longer keep. Pure: a `Pruner`
finds and deletes the jobs.

A pass looks at the jobs up to three times: for those that are too old or too many; if all take too
many bytes, for the bytes that are left then; and for the jobs that do not fit."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator

from tailboard import values
from tailboard.keep_rules import EndedJob, Facts, Keeper, Prunable, Room, Totals

LARGE_LOG_SHARE = 10  # a log above this share of all bytes is trimmed before a job is deleted
Step = None  # a small part of the work is done
Scan = Iterator[EndedJob | None]  # the ended jobs, newest first; Step between them
Deletion = Generator[None, None, bool]


class Pruner(ABC):
    """What a pass works on."""

    @abstractmethod
    def scan(self) -> Scan:
        """The jobs that have ended, newest first, without those that were deleted meanwhile."""

    @abstractmethod
    def delete(self, found: Prunable) -> Deletion:
        """Delete this job in steps, unless it is in use or is kept by now. Returns whether it is
        deleted."""

    @abstractmethod
    def trim(self, job: EndedJob, limit: int) -> int:
        """Trim its log to `limit` bytes, if that is possible. Returns how many that has freed."""


class PrunePass:
    """One pass. `run` is a generator, so that the caller can spread the work over time."""

    def __init__(self, pruner: Pruner, facts: Facts, most: int) -> None:
        """`most`: how many jobs are deleted by age and runs, the oldest ones."""
        self.pruner, self.facts, self.most = pruner, facts, most
        self.kept = 0  # bytes of all jobs that have ended
        self.count = 0  # such jobs

    @property
    def log_limit(self) -> int:
        """Bytes above which one log is trimmed before another job is deleted for it."""
        return max(self.facts.max_bytes // LARGE_LOG_SHARE, values.BLOCK)

    def is_full(self) -> bool:
        return 0 < self.facts.max_bytes < self.kept

    def run(self) -> Iterator[None]:
        large: list[EndedJob] = []
        yield from self._delete_overdue(large)
        yield from self._trim(large)
        if self.is_full():
            yield from self._make_room()

    def _delete_overdue(self, large: list[EndedJob]) -> Iterator[None]:
        """Delete the jobs that are too old or too many, and add to `large` those with a large
        log."""
        keeper, overdue = Keeper(self.facts), OldestOnly(self.most)
        for job in self.pruner.scan():
            if job is not Step:
                self.count += 1
                self.kept += job.size
                if self.facts.max_bytes and job.log_bytes > self.log_limit:
                    large.append(job)
                finding = keeper.look_at(job)
                if finding.bound is not None and finding.kept is None:
                    overdue.add(keeper.prunable(job, finding.bound, finding))
            yield
        for found in overdue.oldest_first():
            yield from self._delete(found)
            yield

    def _trim(self, large: list[EndedJob]) -> Iterator[None]:
        for job in sorted(large, key=lambda job: -job.log_bytes):
            if not self.is_full():
                return
            self.kept -= self.pruner.trim(job, self.log_limit)
            yield

    def _make_room(self) -> Iterator[None]:
        totals, keeper = Totals(), Keeper(self.facts)
        for job in self.pruner.scan():
            if job is not Step:
                totals.add(self.facts, job, keeper.look_at(job))
            yield
        self.kept = totals.all
        room, keeper = Room(self.facts, totals), Keeper(self.facts)
        for job in self.pruner.scan():
            if job is not Step:
                finding = keeper.look_at(job)
                if not room.has_room(job, finding):
                    found = keeper.prunable(job, "bytes", finding)
                    is_deleted = yield from self._delete(found)
                    if not is_deleted:
                        room.take(job, finding)
            yield

    def _delete(self, found: Prunable) -> Deletion:
        is_deleted = yield from self.pruner.delete(found)
        if is_deleted:
            self.kept -= found.job.size
        return is_deleted


class OldestOnly:
    """The oldest of the jobs that are added, newest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[Prunable] = []

    def add(self, found: Prunable) -> None:
        self._found.append(found)
        if len(self._found) >= 2 * self._most:  # not each time: it copies the list
            self._forget_newest()

    def _forget_newest(self) -> None:
        self._found = self._found[-self._most :] if self._most > 0 else []

    def oldest_first(self) -> Iterator[Prunable]:
        self._forget_newest()
        return reversed(self._found)


class DryRun(Pruner):
    """Deletes and trims nothing: `found` has the jobs that a pass would delete."""

    def __init__(self, scan: Callable[[], Scan], trims: bool) -> None:
        """`trims`: does this storage trim logs?"""
        self._scan, self._trims = scan, trims
        self.found: dict[str, Prunable] = {}  # by ID
        self._log_bytes: dict[str, int] = {}  # of trimmed logs, by ID

    def scan(self) -> Scan:
        for job in self._scan():
            if job is Step:
                yield Step
            elif job.id not in self.found:
                trimmed = self._log_bytes.get(job.id)
                yield job if trimmed is None else job._replace(log_bytes=trimmed)

    def delete(self, found: Prunable) -> Deletion:
        self.found[found.job.id] = found
        yield
        return True

    def trim(self, job: EndedJob, limit: int) -> int:
        if not self._trims or job.id in self.found:
            return 0
        freed = (job.log_bytes - limit) // values.BLOCK * values.BLOCK  # as log_limit.trim_log does
        self._log_bytes[job.id] = job.log_bytes - freed
        return freed


def dry_run(scan: Callable[[], Scan], facts: Facts, trims: bool) -> Iterator[Collection[Prunable]]:
    """What a pass would delete, however many jobs that are. Yields what it has found so far, after
    each step and at the end. Arguments as of DryRun."""
    pruner = DryRun(scan, trims)
    for _ in PrunePass(pruner, facts, sys.maxsize).run():
        yield pruner.found.values()
    yield pruner.found.values()
