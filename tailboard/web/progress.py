"""The progress and the results that jobs have written to their logs, in one response."""

from __future__ import annotations

import time
from typing import Any

from tailboard.explain.live_marks import LiveMarks
from tailboard.job import Job

READ_TIME = 0.05  # seconds for reading logs, in one response


class ShownMarks:
    """The fields `progress` and `results` of the jobs of one response. The logs that are not read
    in time are read for one of the next responses."""

    def __init__(self, marks: LiveMarks) -> None:
        self.marks = marks
        self.deadline = time.monotonic() + READ_TIME

    def progress(self, job: Job) -> dict[str, Any]:
        """Null unless the job is running and has written progress in this attempt."""
        own = self.marks.progress(job, self.deadline)
        if own is None:
            return {"progress": None}
        return {"progress": own.progress._asdict() | {"source": own.source, "seconds_left": None}}

    def results(self, job: Job) -> dict[str, Any]:
        found = self.marks.results(job, self.deadline)
        return {"results": found.results, "results_partial": found.is_partial}
