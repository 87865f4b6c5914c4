"""What is usual for the running jobs of a response, and since when they have written nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from tailboard.job import Job
from tailboard.notify.usual import UNKNOWN, UsualTimes
from tailboard.status import Status
from tailboard.values import parse_time, utc

READ_TIME = 0.05  # seconds for reading the pauses of earlier runs, in one response


class ShownUsual:
    """The field `usual` of the jobs of one response."""

    def __init__(self, times: UsualTimes) -> None:
        self.times = times
        self.deadline = time.monotonic() + READ_TIME

    def in_list(self, job: Job) -> dict[str, Any]:
        """The field in a list: only running jobs have it."""
        return self.on_its_own(job) if job.status is Status.RUNNING else {}

    def on_its_own(self, job: Job) -> dict[str, Any]:
        usual = self.times.usual_of(job, self.deadline)
        if usual == UNKNOWN:
            return {"usual": None}
        return {"usual": usual._asdict() | {"silent_since": silent_since(job)}}


def silence(job: Job) -> dict[str, Any]:
    """The field `silent_since` of a job, also if nothing is usual for it; left out if it is not
    running."""
    return {"silent_since": silent_since(job)} if job.status is Status.RUNNING else {}


def silent_since(job: Job) -> str | None:
    """When the log of a running job last grew in this attempt, or else when the attempt started.
    None if that is not known: the job does not run, or its machine does not report."""
    if job.status is not Status.RUNNING or job.reason or not job.started_at:
        return None
    with suppress(ValueError):
        return utc(max(parse_time(job.started_at), job.log_changed_at or 0.0))
    return None
