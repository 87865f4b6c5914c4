"""The progress of a running job, estimated from its last success."""

from __future__ import annotations

import time
from typing import Any

from tailboard.explain.comparison import SHORTEST_RUN, Comparison, Estimate, Match
from tailboard.explain.part import Part, Place, Subject
from tailboard.explain.places import LineNumbers, read_line
from tailboard.logs import Log
from tailboard.status import Status

WINDOW = 8 << 20  # bytes of a log that are compared; the newest ones


class ForecastPart(Part):
    """The progress of a running job, estimated from its last success."""

    def __init__(self) -> None:
        self.comparison: Comparison | None = None
        self.estimate: Estimate | None = None
        self.numbers = LineNumbers()

    def work(self, subject: Subject, deadline: float) -> bool:
        self.estimate = None
        job, run = subject.job, next(iter(subject.earlier), None)
        if job.status is not Status.RUNNING or job.reason or run is None:
            return True
        if run.seconds is None or run.seconds < SHORTEST_RUN:
            return True
        if self.comparison is None or self.comparison.profile.run != run:
            profile = subject.profiles.of(run)
            profile.work(subject.store, deadline)
            if not profile.is_done or not profile.is_whole:
                return profile.is_done
            self.comparison = Comparison(profile, WINDOW)
        is_complete = self.comparison.work(job, subject.log, deadline)
        self.estimate = self.comparison.estimate(job, subject.log.changed_at, time.time())
        since = self.estimate and self.estimate.since
        if since and since.number is None:
            return self.numbers.work(subject.log, [since.offset], deadline) and is_complete
        return is_complete

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if self.estimate is None or self.comparison is None:
            return None
        return {
            "run": self.comparison.profile.run.id,
            "matched": self.estimate.matched,
            "percent": round(self.estimate.percent, 1),
            "seconds_left": round(self.estimate.seconds_left, 1),
            "seconds_behind": round(self.estimate.seconds_behind, 1),
            "since": self._place(subject.log, self.estimate.since),
        }

    def _place(self, log: Log, match: Match | None) -> dict[str, Any] | None:
        line = None if match is None else read_line(log, match.offset)
        if match is None or line is None:
            return None
        number = match.number or self.numbers.known.get(match.offset)
        return Place.of(line._replace(number=number))._asdict()
