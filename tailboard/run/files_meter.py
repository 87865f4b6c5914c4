"""Measuring the files of running jobs, to stop a job that fills the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tailboard import intervals
from tailboard.folder.files_folder import measure_files
from tailboard.program_log import RepeatedErrors

log = logging.getLogger("worker")

SHARE = 0.01  # of a core: the processor time of all measurements


@dataclass(slots=True)
class Measured:
    """A running job."""

    folder: str
    due: float  # its next measurement, on the monotonic clock
    cost: float = 0.0  # seconds of processor time of the last one
    size: int = 0  # bytes on disk; if it is above the limit, at least so many


class FilesMeter:
    """Measures the files of all running jobs of a worker, in one thread, in turns. A job of a
    million files takes seconds, so it is measured less often."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes on disk that a job's files may take up; 0: nothing is measured."""
        self.limit = limit
        self._jobs: dict[str, Measured] = {}  # by job ID
        self._has_jobs = threading.Event()
        self._errors = RepeatedErrors(log)

    def start(self) -> None:
        if self.limit:
            threading.Thread(target=self._run, name="files", daemon=True).start()

    def add(self, job_id: str, folder: str) -> None:
        """Measure the files of this job from now on."""
        if not self.limit:
            return
        self._jobs[job_id] = Measured(folder, time.monotonic() + intervals.FILES_INTERVAL)
        self._has_jobs.set()

    def remove(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        if not self._jobs:
            self._has_jobs.clear()

    def is_exceeded(self, job_id: str) -> bool:
        """Did the files of this job take up more than the limit when they were last measured?"""
        job = self._jobs.get(job_id)
        return job is not None and job.size > self.limit

    def _run(self) -> None:
        pause = threading.Event()  # is never set
        while True:
            self._has_jobs.wait()
            pause.wait(intervals.FILES_INTERVAL)
            self.measure_due()

    def measure_due(self) -> None:
        """Measure the files of the jobs whose turn it is. One that cannot be measured, because of
        the disk for example, affects no other."""
        jobs, begun = list(self._jobs.values()), time.monotonic()
        due = [job for job in jobs if job.due <= begun]
        for job in sorted(due, key=lambda job: job.cost):  # large ones delay no other
            used = time.thread_time()
            try:
                job.size = measure_files(job.folder, self.limit)
            except Exception as error:
                self._errors.report("files of jobs", error)
            job.cost = time.thread_time() - used
        for job, pause in zip(jobs, pauses_after([job.cost for job in jobs]), strict=True):
            if job.due <= begun:
                job.due = time.monotonic() + pause


def pauses_after(costs: Sequence[float]) -> Sequence[float]:
    """How long to pause after measurements that took so many seconds of processor time, so that all
    together use at most SHARE of a core. Each pause is FILES_INTERVAL if possible; otherwise the
    most costly ones are longer, and share equally what the others leave."""
    pauses = dict.fromkeys(range(len(costs)), intervals.FILES_INTERVAL)
    left, share = SHARE, 0.0
    for place, number in enumerate(sorted(pauses, key=lambda number: costs[number])):
        share = left / (len(costs) - place)
        pauses[number] = max(intervals.FILES_INTERVAL, costs[number] / share)
        left -= costs[number] / pauses[number]
    return [pauses[number] for number in range(len(costs))]
