"""The markers in the logs of the jobs that were asked for last."""

from __future__ import annotations

import threading

from tailboard.explain.log_marks import LogMarks
from tailboard.job import Job

MOST_LOGS = 200


class LiveMarks:
    """Remembers how far each log was searched, and what was found. Several threads may use it."""

    def __init__(self) -> None:
        self._kept: dict[str, LogMarks] = {}  # by ID and attempt; the one used last comes last
        self._lock = threading.Lock()

    def of(self, job: Job) -> LogMarks:
        """The markers in a job's log, which may still have to be searched."""
        key = f"{job.id}.{job.attempt}"
        with self._lock:
            marks = self._kept.pop(key, None) or LogMarks()
            self._kept[key] = marks
            while len(self._kept) > MOST_LOGS:
                self._kept.pop(next(iter(self._kept)))
        return marks
