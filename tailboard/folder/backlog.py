"""A worker's view of the queues: which jobs it can try to claim, and which it has to wait for."""

from __future__ import annotations

import heapq
import os
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import isfinite

from tailboard.errors import JobError
from tailboard.folder.cancel import cancel_queued
from tailboard.folder.claim import read_cancel_request
from tailboard.folder.job_folders import JobFolders
from tailboard.folder.lanes import Entry, entry_in, queue_of
from tailboard.folder.pauses import PauseFiles
from tailboard.folder.turns import Turns, Wait
from tailboard.judge import Delay
from tailboard.notifier import Notifier
from tailboard.order import ServedQueues
from tailboard.status import Status
from tailboard.values import ID_RE, RESOURCE_ERRNOS

SCAN_INTERVAL = 5.0  # seconds between full scans of the queues


@dataclass(slots=True)
class DelayedJob:
    """A queued job that is not due yet."""

    attempt: int  # the number of the attempt that is delayed
    delay: Delay
    due: float = float("inf")  # on the monotonic clock


class DelayedJobs:
    """The queued jobs whose delay has not ended. A claimer reads each of them once and not in every
    scan of its queue."""

    def __init__(self) -> None:
        self.jobs: dict[Entry, DelayedJob] = {}
        self.heap: list[tuple[float, Entry]] = []  # by when they are due; forgotten ones may remain

    def hold_until_due(self, entry: Entry, attempt: int, delay: Delay) -> bool:
        """Remember this job until its delay ends. Returns True, and forgets the job, if the delay
        has ended."""
        delayed = self.jobs.get(entry)
        if delayed is None or delayed.attempt != attempt:
            delayed = DelayedJob(attempt, delay)
        if self._hold(entry, delayed):
            return False
        self.forget(entry)
        return True

    def _hold(self, entry: Entry, delayed: DelayedJob) -> bool:
        """Remember until when this job is delayed. Returns False if it is due."""
        due = time.monotonic() + delayed.delay.seconds_left(time.time())
        # The wall clock may have been set back since the job was first seen: the pause before a
        # retry must not grow. A job that waits for a time of day follows only the wall clock.
        delayed.due = min(due, delayed.due) if isfinite(delayed.delay.at_most) else due
        self.jobs[entry] = delayed
        heapq.heappush(self.heap, (delayed.due, entry))
        return delayed.due > time.monotonic()

    def forget(self, entry: Entry) -> None:
        """Forget a job that starts, or that has entered its queue again: the next claim reads
        it."""
        self.jobs.pop(entry, None)

    def without_delayed(self, found: Sequence[Entry]) -> Sequence[Entry]:
        """The jobs of `found`, a list of all queued jobs, that are not known to be delayed. Forgets
        delayed jobs that are no longer queued, and computes the delays of the others again, since
        the wall clock may have been changed."""
        known, self.jobs, self.heap = self.jobs, {}, []
        return [e for e in found if e not in known or not self._hold(e, known[e])]

    def pop_due(self) -> Iterator[Entry]:
        """The jobs whose delay has ended since the last call."""
        while self.next_due() <= time.monotonic():
            yield heapq.heappop(self.heap)[1]

    def next_due(self) -> float:
        """When the next delay ends, on the monotonic clock; infinity if no job is delayed."""
        while self.heap:
            due, entry = self.heap[0]
            delayed = self.jobs.get(entry)
            if delayed is not None and delayed.due == due:
                return due
            heapq.heappop(self.heap)
        return float("inf")


class WaitingJobs:
    """The queued jobs that wait for others to end. A claimer reads each of them again only when one
    of those may have ended."""

    def __init__(self) -> None:
        self.jobs: dict[Entry, Wait] = {}
        self._waiters: dict[str, list[Entry]] = {}  # by the ID of the job that they wait for

    def hold(self, entry: Entry, wait: Wait) -> None:
        self.jobs[entry] = wait
        for job_id in wait.ids:
            self._waiters.setdefault(job_id, []).append(entry)

    def pop_waiting_for(self, job_id: str, closed: Container[str]) -> Sequence[Entry]:
        """The jobs to try again because this job has ended, or left its queue. Of the jobs with one
        key, that is only the first; the rest then wait for it. `closed`: queues whose jobs cannot
        start now."""
        waiting = [entry for entry in self._waiters.pop(job_id, ()) if entry in self.jobs]
        return self._pop(waiting, closed)

    def without_waiting(
        self, found: Sequence[Entry], closed: Container[str], unfinished: Container[str]
    ) -> Sequence[Entry]:
        """The jobs of `found`, a list of all queued jobs, that are to be tried. `unfinished` has
        the IDs of all queued and running jobs. Forgets jobs that are no longer queued."""
        known, self.jobs, self._waiters = self.jobs, {}, {}
        others = [entry for entry in found if entry not in known]
        ready = []
        for entry in found:
            if entry in known:
                self.hold(entry, known[entry])
                if known[entry].key is not None or not all(
                    job_id in unfinished for job_id in known[entry].ids
                ):
                    ready.append(entry)
        return [*others, *self._pop(ready, closed)]

    def _pop(self, ready: Sequence[Entry], closed: Container[str]) -> Sequence[Entry]:
        by_key: dict[str, list[Entry]] = {}
        popped = [entry for entry in ready if self.jobs[entry].key is None]
        for entry in ready:
            key = self.jobs[entry].key
            if key is not None:
                by_key.setdefault(key, []).append(entry)
        for group in by_key.values():
            first = min([entry for entry in group if entry.queue not in closed] or group)
            self._waiters.setdefault(first.id, []).extend(e for e in group if e != first)
            popped.append(first)
        for entry in popped:
            self.forget(entry)
        return popped

    def forget(self, entry: Entry) -> None:
        self.jobs.pop(entry, None)


class Backlog:
    """The queued jobs that a worker has yet to try to claim: urgent ones first, then the oldest."""

    def __init__(self, folders: JobFolders, pauses: PauseFiles, turns: Turns) -> None:
        self._folders, self._pauses, self._turns = folders, pauses, turns
        self._entries: dict[str, list[Entry]] = {}  # a heap for each queue
        self._busy: list[Entry] = []  # found locked when they were tried
        self._delayed = DelayedJobs()
        self._waiting = WaitingJobs()
        self._unstartable: deque[tuple[Entry, str]] = deque()  # those that can never start, and why
        self.scanned_at = -SCAN_INTERVAL  # on the monotonic clock
        self._served = ServedQueues()
        self._paused: set[str] = set()  # queues, as last seen; nothing is claimed from them
        self._full: set[str] = set()  # queues that had as many running jobs as their limit
        self._notifier: Notifier | None = None
        self._watched: dict[int, str] = {}  # the notifier's numbers -> lane
        self._ends: int | None = None  # the notifier's number of running/, if it is watched

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        """See `WorkerStore.listen`, the contract."""
        self._served = ServedQueues(list(queues))
        self.close()
        self._notifier = Notifier()
        self._scan_queues()
        return None if self._notifier.fileno() is None else self._notifier

    def close(self) -> None:
        """Stop listening."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier, self._ends = None, None

    # What has changed

    def refresh(self) -> None:
        """Add the jobs that have entered the queues. The folders are read again every few seconds,
        or on each call if the system reports no changes."""
        needs_scan = time.monotonic() > self.scanned_at + SCAN_INTERVAL
        if self._notifier is None or self._notifier.fileno() is None:
            needs_scan = True
        elif not all([self._note(*change) for change in self._notifier.changes()]):
            needs_scan = True
        if (paused := self._pauses.queues()) != self._paused:
            self._paused, needs_scan = paused, True
        if self._turns.refresh_limits():
            self._full.clear()
        if needs_scan:
            self._scan_queues()
        for entry in chain(self._busy, self._delayed.pop_due()):
            self._push(entry)
        self._busy.clear()

    def _note(self, number: int, name: str) -> bool:
        """Take note of a change that the notifier has reported. Returns False if only a scan shows
        what has changed: a queue was made, removed, paused or resumed, or events were lost."""
        if not ID_RE.fullmatch(name):
            return False
        if number == self._ends:
            if not os.path.lexists(f"{self._folders.root}/running/{name}"):
                self._full.clear()
                self.wake_waiting_for(name)
            return True
        lane = self._watched.get(number)
        if lane is None:
            return False
        self.wake_waiting_for(name)
        entry = entry_in(lane, name)
        self._delayed.forget(entry)
        self._waiting.forget(entry)
        self._push(entry)
        return True

    def wake_waiting_for(self, job_id: str) -> None:
        """Try again the jobs that wait for this one: it has ended, or left its queue."""
        if not self._waiting.jobs:
            return
        for entry in self._waiting.pop_waiting_for(job_id, self._paused | self._full):
            self._push(entry)

    def watch_ends(self) -> None:
        """Notice from now on that jobs end or leave their queue, because others wait for that."""
        if self._notifier is None or self._ends is not None:
            return
        self._ends = self._notifier.add(f"{self._folders.root}/running", removals=True)
        for lane in set(self._watched.values()):
            with suppress(OSError):  # it was removed
                self._notifier.add(f"{self._folders.root}/queued/{lane}", removals=True)

    def _unwatch_ends(self) -> None:
        if self._notifier is not None and self._ends is not None:
            self._notifier.drop(self._ends)
            self._ends = None

    # The next job

    def _push(self, entry: Entry) -> None:
        heapq.heappush(self._entries.setdefault(entry.queue, []), entry)

    def pop(self) -> Entry | None:
        """The next job to try; None if there is none. Jobs of paused and of full queues are left
        out."""
        best: list[Entry] | None = None
        for queue, entries in self._entries.items():
            if not entries or queue in self._paused or queue in self._full:
                continue
            if best is None or entries[0] < best[0]:
                best = entries
        return heapq.heappop(best) if best else None

    def pop_unstartable(self) -> tuple[Entry, str] | None:
        """A job that can never start, and why; None if there is none."""
        return self._unstartable.popleft() if self._unstartable else None

    # What happens to a job that cannot start now

    def retry_later(self, entry: Entry) -> None:
        """Try a job again after the next `refresh`: it was locked."""
        self._busy.append(entry)

    def hold_until_due(self, entry: Entry, attempt: int, delay: Delay) -> bool:
        """Offer a job again only when its delay ends. Returns True if the delay has already
        ended."""
        return self._delayed.hold_until_due(entry, attempt, delay)

    def hold(self, entry: Entry, wait: Wait) -> None:
        """Offer a job again only when what it waits for may have happened."""
        if wait.failure is not None:
            self._unstartable.append((entry, wait.failure))
        elif wait.is_full:
            self._full.add(entry.queue)
            self._push(entry)
            self.wake_waiting_for(entry.id)  # those with its key: another queue may have room
        else:
            self._waiting.hold(entry, wait)

    def is_held_back(self, entry: Entry) -> bool:
        return entry in self._delayed.jobs or entry in self._waiting.jobs

    def next_due(self) -> float:
        """See `WorkerStore.next_due`, the contract."""
        return time.monotonic() if self._unstartable else self._delayed.next_due()

    def expects_more(self) -> bool:
        """See `WorkerStore.expects_more`, the contract."""
        if self._full or self._unstartable:
            return True
        queued = {
            job_id
            for folder in self._folders.folders_of(Status.QUEUED)
            for job_id in self._folders.names_in(folder)
        }
        waits = self._waiting.jobs.values()
        return any(job_id not in queued for wait in waits for job_id in wait.ids)

    # Scanning the folders

    def _scan_queues(self) -> None:
        self.scanned_at = time.monotonic()
        self._watch_folders()
        self._turns.refresh_limits(again=True)
        if not self._full and not self._waiting.jobs and not self._unstartable:
            self._unwatch_ends()
        self._full.clear()
        self._unstartable.clear()  # the scan finds them again
        running = self._folders.names_in(f"{self._folders.root}/running")
        found: list[Entry] = []
        elsewhere: list[str] = list(running)  # IDs of unfinished jobs that are not in `found`
        for folder in self._folders.folders_of(Status.QUEUED):
            lane, queue = os.path.basename(folder), queue_of(os.path.basename(folder))
            if queue in self._served and queue not in self._paused:
                found += self._watched_entries(folder, lane)
                continue
            if queue in self._served:
                names = self._folders.names_in(folder)
                self._finish_requested(entry_in(lane, job_id) for job_id in names)
            if self._waiting.jobs:
                elsewhere += self._folders.names_in(folder)
        self._entries = {}
        for entry in self._without_held_back(found, elsewhere):
            self._entries.setdefault(entry.queue, []).append(entry)
        for entries in self._entries.values():
            entries.sort()
        self._finish_requested([*self._delayed.jobs, *self._waiting.jobs])

    def _without_held_back(
        self, found: Sequence[Entry], elsewhere: Sequence[str]
    ) -> Sequence[Entry]:
        """The queued jobs that are to be tried."""
        due = self._delayed.without_delayed(found)
        if not self._waiting.jobs:
            return due
        unfinished = {*elsewhere, *(entry.id for entry in found)}
        return self._waiting.without_waiting(due, self._paused, unfinished)

    def _watch_folders(self) -> None:
        if self._notifier is None:
            return
        self._notifier.add(f"{self._folders.root}/queued")
        for name in ("paused", "queues"):
            with suppress(FileNotFoundError):
                self._notifier.add(f"{self._folders.root}/{name}", removals=True)

    def _watched_entries(self, folder: str, lane: str) -> Sequence[Entry]:
        """The jobs in a lane, whose changes are reported from now on."""
        try:
            if self._notifier is not None:
                # Watch first, then list, so that no job is missed in between.
                number = self._notifier.add(folder, removals=self._ends is not None)
                self._watched[number] = lane
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS:
                raise
            return []  # deleted, or not a folder; `names_in` reports an unreadable one
        return [entry_in(lane, job_id) for job_id in self._folders.names_in(folder)]

    def _finish_requested(self, held_back: Iterable[Entry]) -> None:
        """Cancel those of these jobs that have a request: the disk was full when they were
        cancelled. No claim reads them for now, because their queue is paused, or they are not due
        or wait for others."""
        for entry in held_back:
            folder = f"{self._folders.root}/queued/{entry.lane}/{entry.id}"
            try:
                if request := read_cancel_request(folder):
                    cancel_queued(self._folders, folder, request.reason)
            except (FileNotFoundError, JobError):
                pass  # another worker got it first
            except OSError as error:  # it affects only this job and must not prevent claims
                if error.errno in RESOURCE_ERRNOS:
                    raise
                self._folders.errors.report(f"queued/{entry.lane}/{entry.id}", error)
