"""Samples what the running jobs of a worker use. A thread does so, beside the worker's loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from tailboard import intervals
from tailboard.files import is_damage
from tailboard.folder.usage_files import UsageFile
from tailboard.program_log import RepeatedErrors
from tailboard.run.job_processes import JobProcesses
from tailboard.run.process_states import ProcessState
from tailboard.run.running import Running
from tailboard.run.usage_account import UsageAccount
from tailboard.usage import UsageSample
from tailboard.values import parse_time

log = logging.getLogger("worker")

SHARE_PER_JOB = 0.002  # of a processor core, for sampling one job
MOST_SHARE = 0.05  # for sampling all jobs


def pause_after(cost: float, jobs: int) -> float:
    """Seconds until the next round, after a round that has cost so much processor time for so many
    jobs."""
    return max(intervals.SAMPLE_INTERVAL, cost / min(SHARE_PER_JOB * max(jobs, 1), MOST_SHARE))


class SampledAttempt:
    """An attempt of a job while its worker supervises it."""

    def __init__(self, entry: Running, leader: int) -> None:
        self.job_id, self.folder = entry.job.id, entry.claim.folder
        self.leader = leader  # the pid of its shim
        self.started_at = start_of(entry)
        self.account = UsageAccount()
        self.file: UsageFile | None = None  # None: there is no sample of this attempt yet

    def look(self, states: Mapping[int, ProcessState], at: float) -> None:
        """Count what its processes have used, and add a sample."""
        self.account.update(states)
        if self.file is not None:
            self.file.add(self._sample(at))
        elif at - self.started_at >= intervals.SAMPLE_INTERVAL or at < self.started_at:
            self._begin(at)

    def _begin(self, at: float) -> None:
        """The first sample of an attempt is its start, so that a reader sees where it begins. A job
        that ends soon has none, and costs no file. If an earlier worker has begun, its samples
        continue: the processes that have ended since then are not lost."""
        file = UsageFile(self.folder)
        if file.latest is not None and file.latest.at >= self.started_at:
            self.account.seconds = max(self.account.seconds, file.latest.cpu_seconds)
            file.append([self._sample(at)])
        else:
            file.append([UsageSample(self.started_at, 0.0, 0), self._sample(at)])
        self.file = file

    def end(self, reported: float | None) -> None:
        """Add the last sample, at the end of the attempt. `reported`: the processor time of its
        shim and of all that were waited for, if the system has said it."""
        if self.file is None:
            return
        if reported is not None:
            self.account.seconds = self.account.final_seconds(self.leader, reported)
        self.file.append([self._sample(time.time())])

    def _sample(self, at: float) -> UsageSample:
        return UsageSample(at, self.account.seconds, self.account.memory_bytes)


def start_of(entry: Running) -> float:
    """When the attempt of a job started, in seconds since 1970; now, if its journal is damaged."""
    with suppress(ValueError, OverflowError):
        return parse_time(entry.claim.attempt.started_at or "")
    return time.time()


class UsageSampler:
    """Samples all jobs of a worker in rounds. The more a round costs, the longer is the pause after
    it. The worker's loop calls `add`, `end` and `remove`. What a job does to its file affects only
    its own samples."""

    def __init__(self, tracking_env: Callable[[str], Mapping[str, str]]) -> None:
        """`tracking_env`: see `WorkerStore.tracking_env`."""
        self.tracking_env = tracking_env
        self.processes = JobProcesses()
        self.attempts: dict[str, SampledAttempt] = {}  # by job ID
        self.lock = threading.Lock()  # for `attempts`; also held while a sample is written
        self.errors = RepeatedErrors(log)
        self.has_failed = False  # to write a sample, in this round
        self.has_jobs = threading.Event()
        self.stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="usage", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread, without waiting for it."""
        self.stopped.set()
        self.has_jobs.set()

    # Called by the worker's loop

    def add(self, entry: Running) -> None:
        if entry.pid is None:  # its journal is damaged
            return
        attempt = SampledAttempt(entry, entry.pid)
        with self.lock:
            self.attempts[attempt.job_id] = attempt
        self.has_jobs.set()

    def end(self, job_id: str, reported: float | None) -> None:
        """Add the last sample of an attempt, whose folder is still in its place. `reported`: see
        `SampledAttempt.end`."""
        with self.lock:
            attempt = self.attempts.pop(job_id, None)
            if attempt is not None:
                self._report_error(lambda: attempt.end(reported))

    def remove(self, job_id: str) -> None:
        """Stop sampling a job, unless `end` has done so."""
        with self.lock:
            self.attempts.pop(job_id, None)

    # The thread

    def _run(self) -> None:
        pause = intervals.SAMPLE_INTERVAL
        while not self.stopped.is_set():
            self.has_jobs.wait()
            self.stopped.wait(pause)
            pause = intervals.SAMPLE_INTERVAL
            if jobs := self._count_jobs():
                begun = time.thread_time()
                self.errors.run("step=usage", self.sample_all)
                pause = pause_after(time.thread_time() - begun, jobs)

    def _count_jobs(self) -> int:
        """How many jobs are to be sampled. If there are none, the thread waits for one."""
        with self.lock:
            if not self.attempts and not self.stopped.is_set():
                self.has_jobs.clear()
            return len(self.attempts)

    def sample_all(self) -> None:
        """Look once at the processes of all jobs."""
        with self.lock:
            attempts = dict(self.attempts)
        leaders = {job_id: attempt.leader for job_id, attempt in attempts.items()}
        storage = self.tracking_env("")["JOB_STORAGE"]
        at, self.has_failed = time.time(), False
        for job_id, states in self.processes.find(leaders, storage).items():
            with self.lock:
                if self.attempts.get(job_id) is attempts[job_id]:
                    self._report_error(partial(attempts[job_id].look, states, at))
        if not self.has_failed:
            self.errors.resolved("usage of jobs")

    def _report_error(self, step: Callable[[], None]) -> None:
        """Run a step for one job. An error that the job can have caused is not logged; another,
        such as a full disk, is logged once for all jobs."""
        try:
            step()
        except Exception as error:
            if not (isinstance(error, OSError) and is_damage(error)):
                self.has_failed = True
                self.errors.report("usage of jobs", error)
