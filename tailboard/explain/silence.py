"""Whether a job has been silent for longer than any earlier run."""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import suppress
from typing import Any

import storage
from tailboard.errors import JobNotFound
from tailboard.explain.growth import Gap, Growth, moment_of
from tailboard.explain.log_lines import Line
from tailboard.explain.part import Part, Place, Subject
from tailboard.explain.places import LineNumbers, line_before
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.notify.history import Run, finish_time
from tailboard.notify.usual import Usual
from tailboard.status import Status


class SilencePart(Part):
    """Whether a job has been silent for longer than any earlier run: for how long, and after which
    line of which run the longest pause was."""

    def __init__(self) -> None:
        self.seconds: float | None = None  # for which the job has been silent
        self.longest: LongestPause | None = None

    def work(self, subject: Subject, deadline: float) -> bool:
        usual = subject.usual_times.usual_of(subject.job, deadline)
        self.seconds = silent_seconds(subject.job, usual)
        if self.seconds is None:
            return subject.usual_times.is_complete(subject.job)
        found = subject.usual_times.run_with_longest_pause(subject.job)
        if found is None:  # forgotten meanwhile
            self.seconds = None
            return True
        run, seconds = found
        if self.longest is None or self.longest.run != run:
            self.longest = LongestPause(run, seconds)
        return self.longest.work(subject.store, deadline)

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if self.seconds is None or self.longest is None:
            return None
        return {
            "seconds": round(self.seconds, 3),
            "longest_pause": round(self.longest.seconds, 3),
            "run": self.longest.run.id,
            "after": self.longest.place(),
        }


def silent_seconds(job: Job, usual: Usual) -> float | None:
    """For how long a running job has written nothing, if that is unusually long; else None."""
    started = moment_of(job.started_at)
    if job.status is not Status.RUNNING or job.reason or started is None:
        return None
    seconds = time.time() - max(started, job.log_changed_at or 0.0)
    is_silent = usual.silent_after is not None and seconds >= usual.silent_after
    return seconds if is_silent else None


class LongestPause:
    """The longest pause of an earlier run."""

    def __init__(self, run: Run, seconds: float) -> None:
        self.run, self.seconds = run, seconds
        self.line: Line | None = None  # before the pause
        self.numbers = LineNumbers()
        self._is_found = False

    def work(self, store: storage.Logs, deadline: float) -> bool:
        """Find the line before it, and count its number until the `deadline` on the monotonic
        clock. Returns True when that is done."""
        with suppress(OSError, JobNotFound), store.open_log(self.run.id) as log:
            if not self._is_found:
                self._is_found = True
                self.line = line_before(log, longest_gap(self.run, log).size)
            offsets = [] if self.line is None else [self.line.offset]
            return self.numbers.work(log, offsets, deadline)
        return True

    def place(self) -> dict[str, Any] | None:
        if self.line is None:
            return None
        number = self.numbers.known.get(self.line.offset)
        return Place.of(self.line._replace(number=number))._asdict()


def longest_gap(run: Run, log: Log) -> Gap:
    """The longest time for which an ended run wrote nothing, also before its first line and after
    its last."""
    growth = Growth()
    growth.read(log)
    finished = finish_time(run)
    growth.close(log.size, min(log.changed_at, finished))
    started = finished - (run.seconds or 0.0)
    first = bisect_left(growth.times, started)  # the first sample of its last attempt
    size = growth.sizes[first - 1] if first else 0
    gaps = growth.longest_gaps(1, size, log.size)
    if first < len(growth.times):
        last = growth.times[-1]
        gaps.append(Gap(finished - last, last, growth.sizes[-1]))
        if first > 0 or growth.is_whole:
            gaps.append(Gap(growth.times[first] - started, started, size))
    return max(gaps, default=Gap(finished - started, started, 0))
