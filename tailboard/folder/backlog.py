"""A worker's view of the queues: which jobs it can try to claim, and which are delayed."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import isfinite

from tailboard.errors import JobError
from tailboard.folder.cancel import cancel_queued
from tailboard.folder.claim import read_cancel_request
from tailboard.folder.job_folders import JobFolders
from tailboard.folder.pauses import PauseFiles
from tailboard.judge import Delay
from tailboard.notifier import Notifier
from tailboard.status import Status
from tailboard.values import ID_RE, QUEUE_NAMES, QUEUE_RE, RESOURCE_ERRNOS

SCAN_INTERVAL = 5.0  # seconds between full scans of the queues


@dataclass(slots=True)
class DelayedJob:
    """A queued job that is not due yet."""

    attempt: int  # the number of the attempt that is delayed
    delay: Delay
    due: float = float("inf")  # on the monotonic clock


class DelayedJobs:
    """The queued jobs whose delay has not ended, by (ID, queue). A claimer reads each of them once
    and not in every scan of its queue."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], DelayedJob] = {}
        # (due, ID, queue); forgotten jobs may remain in it
        self.heap: list[tuple[float, str, str]] = []

    def hold_until_due(self, key: tuple[str, str], attempt: int, delay: Delay) -> bool:
        """Remember this job until its delay ends. Returns True, and forgets the job, if the delay
        has ended."""
        delayed = self.jobs.get(key)
        if delayed is None or delayed.attempt != attempt:
            delayed = DelayedJob(attempt, delay)
        if self._hold(key, delayed):
            return False
        self.forget(key)
        return True

    def _hold(self, key: tuple[str, str], delayed: DelayedJob) -> bool:
        """Remember until when this job is delayed. Returns False if it is due."""
        due = time.monotonic() + delayed.delay.seconds_left(time.time())
        # The wall clock may have been set back since the job was first seen: the pause before a
        # retry must not grow. A job that waits for a time of day follows only the wall clock.
        delayed.due = min(due, delayed.due) if isfinite(delayed.delay.at_most) else due
        self.jobs[key] = delayed
        heapq.heappush(self.heap, (delayed.due, *key))
        return delayed.due > time.monotonic()

    def forget(self, key: tuple[str, str]) -> None:
        """Forget a job that starts, or that has entered its queue again: the next claim reads
        it."""
        self.jobs.pop(key, None)

    def without_delayed(self, found: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """The jobs of `found`, a list of all queued jobs, that are not known to be delayed. Forgets
        delayed jobs that are no longer queued, and computes the delays of the others again, since
        the wall clock may have been changed."""
        known, self.jobs, self.heap = self.jobs, {}, []
        return [k for k in found if k not in known or not self._hold(k, known[k])]

    def pop_due(self) -> Iterator[tuple[str, str]]:
        """The jobs whose delay has ended since the last call."""
        while self.next_due() <= time.monotonic():
            _, *key = heapq.heappop(self.heap)
            yield key[0], key[1]

    def next_due(self) -> float:
        """When the next delay ends, on the monotonic clock; infinity if no job is delayed."""
        while self.heap:
            due, *key = self.heap[0]
            delayed = self.jobs.get((key[0], key[1]))
            if delayed is not None and delayed.due == due:
                return due
            heapq.heappop(self.heap)
        return float("inf")


class Backlog:
    """The queued jobs that a worker has yet to try to claim, as (ID, queue), oldest first."""

    def __init__(self, folders: JobFolders, pauses: PauseFiles) -> None:
        self._folders, self._pauses = folders, pauses
        self._entries: list[tuple[str, str]] = []  # a heap
        self._busy: list[tuple[str, str]] = []  # found locked when they were tried
        self._delayed = DelayedJobs()
        self.scanned_at = -SCAN_INTERVAL  # on the monotonic clock
        self._queues: frozenset[str] = frozenset()  # that this worker serves; empty: all
        self._paused: set[str] = set()  # queues, as last seen; nothing is claimed from them
        self._notifier: Notifier | None = None
        self._watched: dict[int, str] = {}  # the notifier's numbers -> queue

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        """See `WorkerStore.listen`, the contract."""
        self._queues = frozenset(queues)
        if not all(map(QUEUE_RE.fullmatch, self._queues)):
            raise ValueError(f"queues must be separated by commas, and each must be {QUEUE_NAMES}")
        self.close()
        self._notifier = Notifier()
        self._scan_queues()
        return None if self._notifier.fileno() is None else self._notifier

    def close(self) -> None:
        """Stop listening."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def refresh(self) -> None:
        """Add the jobs that have entered the queues. The folders are read again every few seconds,
        or on each call if the system reports no changes."""
        needs_scan = time.monotonic() > self.scanned_at + SCAN_INTERVAL
        if self._notifier is None or self._notifier.fileno() is None:
            needs_scan = True
        else:
            for number, name in self._notifier.changes():
                queue = self._watched.get(number)
                if queue and ID_RE.fullmatch(name):
                    self._delayed.forget((name, queue))
                    heapq.heappush(self._entries, (name, queue))
                else:  # a queue was made, removed, paused or resumed, or events were lost
                    needs_scan = True
        if (paused := self._pauses.queues()) != self._paused:
            self._paused, needs_scan = paused, True
        if needs_scan:
            self._scan_queues()
        for entry in chain(self._busy, self._delayed.pop_due()):
            heapq.heappush(self._entries, entry)
        self._busy.clear()

    def pop(self) -> tuple[str, str] | None:
        """The oldest job to try; None if there is none. Jobs of paused queues are left out: the
        scan after a queue is resumed finds them again."""
        while self._entries:
            job_id, queue = heapq.heappop(self._entries)
            if queue not in self._paused:
                return job_id, queue
        return None

    def retry_later(self, entry: tuple[str, str]) -> None:
        """Try a job again after the next `refresh`: it was locked."""
        self._busy.append(entry)

    def hold_until_due(self, job_id: str, queue: str, attempt: int, delay: Delay) -> bool:
        """Offer a job again only when its delay ends. Returns True if the delay has already
        ended."""
        return self._delayed.hold_until_due((job_id, queue), attempt, delay)

    def is_delayed(self, job_id: str, queue: str) -> bool:
        return (job_id, queue) in self._delayed.jobs

    def next_due(self) -> float:
        """When the delay of the next job ends, on the monotonic clock; infinity if none waits."""
        return self._delayed.next_due()

    def _scan_queues(self) -> None:
        self.scanned_at = time.monotonic()
        backlog = []
        if self._notifier is not None:
            self._notifier.add(f"{self._folders.root}/queued")
            with suppress(FileNotFoundError):
                self._notifier.add(f"{self._folders.root}/paused", removals=True)
        for folder in self._folders.folders_of(Status.QUEUED):
            queue = os.path.basename(folder)
            if self._queues and queue not in self._queues:
                continue
            if queue in self._paused:
                self._finish_requested((job_id, queue) for job_id in self._folders.names_in(folder))
                continue
            try:
                if self._notifier is not None:
                    # Watch first, then list, so that no job is missed in between.
                    self._watched[self._notifier.add(folder)] = queue
            except OSError as error:
                if error.errno in RESOURCE_ERRNOS:
                    raise
                continue  # deleted, or not a folder; `names_in` reports an unreadable one
            backlog += [(job_id, queue) for job_id in self._folders.names_in(folder)]
        self._entries = sorted(self._delayed.without_delayed(backlog))
        self._finish_requested(list(self._delayed.jobs))

    def _finish_requested(self, held_back: Iterable[tuple[str, str]]) -> None:
        """Cancel those of these jobs that have a request: the disk was full when they were
        cancelled. No claim reads them for now, because their queue is paused or they are not
        due."""
        for job_id, queue in held_back:
            folder = f"{self._folders.root}/queued/{queue}/{job_id}"
            try:
                if request := read_cancel_request(folder):
                    cancel_queued(self._folders, folder, request.reason)
            except (FileNotFoundError, JobError):
                pass  # another worker got it first
            except OSError as error:  # it affects only this job and must not prevent claims
                if error.errno in RESOURCE_ERRNOS:
                    raise
                self._folders.errors.report(f"queued/{queue}/{job_id}", error)
