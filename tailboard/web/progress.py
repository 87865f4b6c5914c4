"""The progress of jobs, and the results that they have written to their logs, in one response."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from tailboard.explain.live_forecasts import LiveForecasts
from tailboard.explain.live_marks import LiveMarks
from tailboard.job import Job
from tailboard.status import Status

READ_TIME = 0.05  # seconds for reading logs, in one response; as much again for results


class ShownMarks:
    """The fields `progress` and `results` of the jobs of one response. The logs that are not read
    in time are read for one of the next responses."""

    def __init__(self, marks: LiveMarks, forecasts: LiveForecasts) -> None:
        self.marks, self.forecasts = marks, forecasts
        self.deadline = time.monotonic() + READ_TIME
        self.results_deadline = self.deadline + READ_TIME

    def read(self, jobs: Iterable[Job]) -> None:
        """Read the logs of the running ones of these jobs, beginning with those that were not read
        for the longest time. If each response began with the first ones of a long list, there
        would never be enough time for the last ones."""
        running = [job for job in jobs if job.status is Status.RUNNING]
        for job in sorted(running, key=self.marks.read_at):
            if time.monotonic() >= self.deadline:
                break
            self.progress(job)

    def progress(self, job: Job) -> dict[str, Any]:
        """What a running job has written of its progress in this attempt, else an estimate from its
        last success; null if there is neither."""
        if job.status is not Status.RUNNING:
            return {"progress": None}
        own = self.marks.progress(job, self.deadline)
        if own is None:
            return {"progress": self._estimate(job)}
        return {"progress": own.progress._asdict() | {"source": own.source, "seconds_left": None}}

    def _estimate(self, job: Job) -> dict[str, Any] | None:
        found = self.forecasts.of(job, self.deadline)
        if found is None:
            return None
        return {"text": None, "source": "earlier_runs"} | found._asdict()

    def results(self, job: Job) -> dict[str, Any]:
        found = self.marks.results(job, self.results_deadline)
        return {"results": found.results, "results_partial": found.is_partial}
