"""The progress of a running job, estimated from its last success."""

from __future__ import annotations

import time
from typing import Any

from tailboard.explain.estimator import AnchorMatch, Estimate, Estimator, Limits
from tailboard.explain.growth import MOST_SAMPLES
from tailboard.explain.part import Part, Place, Subject
from tailboard.explain.places import LineNumbers, read_line
from tailboard.explain.reference import Reference
from tailboard.logs import Log
from tailboard.status import Status

LIMITS = Limits(window=8 << 20, matches=2_000, samples=MOST_SAMPLES)


class ForecastPart(Part):
    """The progress of a running job, estimated from its last success."""

    def __init__(self) -> None:
        self.reference: Reference | None = None
        self.estimator: Estimator | None = None
        self.estimate: Estimate | None = None
        self.since: AnchorMatch | None = None  # the line after which the job fell behind
        self.numbers = LineNumbers()

    def work(self, subject: Subject, deadline: float) -> bool:
        self.estimate = self.since = None
        job, log = subject.job, subject.log
        if job.status is not Status.RUNNING or job.reason:
            return True
        if self.reference is None or self.reference.earlier != subject.earlier:
            self.reference = Reference(subject.earlier)
        if not self.reference.work(subject.store, subject.profiles, deadline):
            return False
        profile = self.reference.profile
        if profile is None:
            return True
        if self.estimator is None or self.estimator.profile is not profile:
            self.estimator = Estimator(profile, LIMITS)
        is_complete = self.estimator.work(job, log, deadline)
        self.estimate = self.estimator.estimate(job, time.time())
        if self.estimate is not None:
            self.since = self.estimator.since(job, self.estimate)
        if self.since is not None and self.since.number is None:
            return self.numbers.work(log, [self.since.offset], deadline) and is_complete
        return is_complete

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if self.estimate is None or self.estimator is None:
            return None
        return {
            "run": self.estimator.profile.run.id,
            "matched": self.estimate.matched,
            "percent": round(self.estimate.percent, 1),
            "seconds_left": round(self.estimate.seconds_left, 1),
            "seconds_behind": round(self.estimate.seconds_behind, 1),
            "since": self._place(subject.log),
        }

    def _place(self, log: Log) -> dict[str, Any] | None:
        line = None if self.since is None else read_line(log, self.since.offset)
        if self.since is None or line is None:
            return None
        number = self.since.number or self.numbers.known.get(line.offset)
        return Place.of(line._replace(number=number))._asdict()
