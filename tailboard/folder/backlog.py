"""The queued jobs that wait for a time."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from tailboard.judge import Delay


@dataclass(slots=True)
class DelayedJob:
    """A queued job that is not due yet."""

    attempt: int  # that waits
    delay: Delay
    due: float = float("inf")  # on the monotonic clock


class DelayedJobs:
    """The queued jobs whose time has not come, as a claimer remembers them: each is read once, and
    not at every look at its queue. They are known by (ID, queue)."""

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], DelayedJob] = {}
        self.heap: list[tuple[float, str, str]] = []  # (due, ID, queue), also of some forgotten

    def hold_until_due(self, key: tuple[str, str], attempt: int, delay: Delay) -> bool:
        """Remember this job until its delay ends. Returns True, and forgets it, if it has ended."""
        delayed = self.jobs.get(key)
        if delayed is None or delayed.attempt != attempt:
            delayed = DelayedJob(attempt, delay)
        if self._hold(key, delayed):
            return False
        self.forget(key)
        return True

    def _hold(self, key: tuple[str, str], delayed: DelayedJob) -> bool:
        """Remember until when it is delayed. Returns False if it is due."""
        due = time.monotonic() + delayed.delay.seconds_left(time.time())
        # The wall clock may have been set back since it was seen first: a pause stays as long as
        # it is. What waits for a time of the wall clock goes by that alone.
        delayed.due = min(due, delayed.due) if isfinite(delayed.delay.at_most) else due
        self.jobs[key] = delayed
        heapq.heappush(self.heap, (delayed.due, *key))
        return delayed.due > time.monotonic()

    def forget(self, key: tuple[str, str]) -> None:
        """Read it again at the next claim: it starts, or has entered its queue anew."""
        self.jobs.pop(key, None)

    def without_delayed(self, found: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Those of all queued jobs (`found`) that are not known to be delayed. Forgets the delayed
        jobs that are not queued any more; computes the delays of the others again, since the wall
        clock may have been set."""
        known, self.jobs, self.heap = self.jobs, {}, []
        return [k for k in found if k not in known or not self._hold(k, known[k])]

    def pop_due(self) -> Iterator[tuple[str, str]]:
        """Those whose time has come since the last call."""
        while self.next_due() <= time.monotonic():
            _, *key = heapq.heappop(self.heap)
            yield key[0], key[1]

    def next_due(self) -> float:
        """When the next one's time comes, on the monotonic clock; infinity where none waits."""
        while self.heap:
            due, *key = self.heap[0]
            delayed = self.jobs.get((key[0], key[1]))
            if delayed is not None and delayed.due == due:
                return due
            heapq.heappop(self.heap)
        return float("inf")
