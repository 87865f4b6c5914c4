"""The markers in the logs of the jobs that were asked for last."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import NamedTuple

import storage
from tailboard.errors import JobNotFound
from tailboard.explain.locks import acquire_until
from tailboard.explain.log_marks import LogMarks
from tailboard.explain.progress_tail import OwnProgress, ProgressTail
from tailboard.job import Job
from tailboard.status import FINISHED, Status

MOST_LOGS = 1_000
MOST_WEIGHT = 32 << 20  # bytes, approximately, of what was found in all of them
READ_INTERVAL = 1.0  # seconds after which the log of a running job is read again


class LiveLog:
    """What is known of the log of one attempt of a job."""

    def __init__(self) -> None:
        self.marks = LogMarks()
        self.tail = ProgressTail()
        self.lock = threading.Lock()  # held while the tail is read
        self.tail_state: tuple[int, float | None] | None = None  # the log's size and time then
        # On the monotonic clock:
        self.tail_read_at = float("-inf")
        self.searched_at = float("-inf")  # to its end


class Results(NamedTuple):
    """The results in a log."""

    results: dict[str, str]
    is_partial: bool  # the log was not read to its end yet


class LiveMarks:
    """Remembers how far each log was searched, and what was found. Several threads may use it."""

    def __init__(self, store: storage.Logs) -> None:
        self.store = store
        # By ID and attempt; the one used last comes last.
        self._kept: dict[tuple[str, int], LiveLog] = {}
        self._lock = threading.Lock()

    def of(self, job: Job) -> LiveLog:
        key = (job.id, job.attempt)
        with self._lock:
            found = self._kept.pop(key, None)
            self._kept[key] = found or LiveLog()
            if found is None:
                self._forget_oldest()
            return self._kept[key]

    def forget(self, job: Job) -> None:
        """Search the log again from its beginning: the job has truncated it."""
        with self._lock:
            self._kept.pop((job.id, job.attempt), None)

    def read_at(self, job: Job) -> float:
        """When the end of a job's log was last read for its progress, on the monotonic clock."""
        known = self._kept.get((job.id, job.attempt))
        return float("-inf") if known is None else known.tail_read_at

    def progress(self, job: Job, deadline: float) -> OwnProgress | None:
        """The progress that a running job has written in its current attempt, as of a second ago at
        most. After the `deadline` on the monotonic clock: as it was when it was last read."""
        if job.status is not Status.RUNNING or not job.log_size:
            return None
        if job.attempt > 1 and job.pid is None:
            return None  # the worker is about to write that a further attempt begins
        live, state = self.of(job), (job.log_size, job.log_changed_at)
        with acquire_until(live.lock, deadline) as is_acquired:
            now = time.monotonic()
            is_due = now >= live.tail_read_at + READ_INTERVAL and state != live.tail_state
            if is_acquired and is_due and now < deadline:
                live.tail_read_at = now
                with suppress(OSError, JobNotFound), self.store.open_log(job.id) as log:
                    live.tail_state = state if live.tail.read(log, deadline) else None
        return live.tail.shown

    def results(self, job: Job, deadline: float) -> Results:
        """The results in a job's log, as of a second ago at most. A log that is not searched to its
        end by the `deadline` on the monotonic clock is searched on in the next call."""
        if not job.log_size:
            return Results({}, False)
        live, has_ended = self.of(job), job.status in FINISHED
        is_known = live.marks.has_searched(job.log_size, has_ended)
        if not has_ended and time.monotonic() < live.searched_at + READ_INTERVAL:
            is_known = True
        if not is_known and time.monotonic() < deadline:
            is_known = self._search(job, live.marks, has_ended, deadline)
            if is_known:
                live.searched_at = time.monotonic()
        return Results(dict(live.marks.found.results), not is_known)

    def _search(self, job: Job, marks: LogMarks, has_ended: bool, deadline: float) -> bool:
        """Returns True if the log was searched to its end, or cannot be read."""
        try:
            with self.store.open_log(job.id) as log:
                return marks.work(log, log.size, has_ended, deadline)
        except (OSError, JobNotFound):
            return True
        finally:
            with self._lock:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Forget the logs that have not been asked for the longest, if there are too many or if too
        much was found in them."""
        weights = {key: live.marks.found.weight for key, live in self._kept.items()}
        total = sum(weights.values())
        while total > MOST_WEIGHT or len(self._kept) > MOST_LOGS:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest)
            total -= weights[oldest]  # not its weight now: another thread may be searching it
