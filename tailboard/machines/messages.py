"""The Python types for what a machine's relay and Redis exchange."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Literal, NamedTuple

from tailboard.errors import StoreError
from tailboard.job import Job, parse_record
from tailboard.journal import parse_journal
from tailboard.judge import delay_before_start, judge
from tailboard.status import FINISHED, Status
from tailboard.workers import WorkerInfo

RESTORE_TIME = 30.0  # seconds without starts, at most, after Redis returned to an older state
SampleFile = Literal["times", "usage"]  # a file of samples in the folder of a job
SPOOL_RE = re.compile("[a-zA-Z0-9-]{1,40}")  # the name of a spool


@dataclass(slots=True)
class Assignment:
    """A job that Redis has assigned to a spool, which has not confirmed it yet."""

    id: str
    token: str
    log_size: int | None  # of earlier attempts on other machines; None: there is no log
    record: bytes  # the line of job.json
    journal: bytes
    has_secret_params: bool


class Taken(NamedTuple):
    """What a machine gets when it asks for jobs."""

    jobs: Sequence[Assignment]
    next_due: float  # seconds until the next job that waits for its time may start; or infinity
    expects_more: bool  # there are no jobs for it, but some that wait for a running one


@dataclass(slots=True)
class LogTail:
    """The end of the log that a job's earlier attempts wrote on other machines, and the samples of
    its size and of what the attempts used."""

    offset: int = 0  # where `end` begins
    end: bytes = b""
    times: bytes = b""
    usage: bytes = b""


@dataclass(slots=True)
class Instance:
    """One run of a spool's relay. Redis accepts one instance of each spool."""

    name: str  # random
    since: float = 0.0  # seconds since 1970, by the clock of Redis; 0: not accepted yet
    beats: int = 0  # the number of this spool's last report that Redis is known to have accepted
    epoch: str = ""  # of Redis at that report

    @property
    def known(self) -> tuple[str, int, float]:
        """The arguments that let a script find out whether Redis has returned to an older state,
        and for how many seconds jobs are then restored."""
        return self.epoch, self.beats, RESTORE_TIME


class RedisIsOlder(StoreError):
    """Redis has returned to an older state."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "Redis has returned to an older state")


class SpoolInUse(OSError):
    """Another instance of this spool has just reported to Redis."""

    def __init__(self, instance: str, beats: int) -> None:
        super().__init__(errno.EBUSY, "another worker has just reported for this spool")
        self.instance, self.beats = instance, beats


@dataclass(slots=True)
class MachineOrders:
    """The orders of Redis for a machine."""

    epoch: str  # it changes if Redis is emptied or returns to an older state
    cancel_requests: dict[str, str]  # the IDs of jobs to cancel, each with the reason
    deletions: list[str]  # the IDs of jobs to delete
    paused: dict[str, bytes]  # the paused queues, each with its pause as JSON
    restoring: int  # how many machines are restoring what Redis has lost
    must_restore: bool  # this machine is one of them
    limits: dict[str, bytes]  # of queues, each as in the file queues/QUEUE.json


class KnownState(NamedTuple):
    """What Redis knows of a job that a machine runs or has run."""

    status: str  # "": Redis does not have the job, or its state is damaged
    token: str
    log_size: int | None  # bytes; None: Redis has no log
    has_files: bool  # Redis has its files, or knows that only the machine has them


@dataclass(slots=True)
class MachineReport:
    """A machine as it has reported itself to Redis."""

    spool: str
    reported_at: float  # the last time, in seconds since 1970 by the clock of Redis
    silence: int  # seconds since then
    workers: Sequence[WorkerInfo]


def is_over(place: str) -> bool:
    """Has the attempt of a job in this folder of the spool ended?"""
    return place in FINISHED or place == "returned"


@dataclass(slots=True)
class SpoolEntry:
    """A snapshot of one job in the spool, as read by the relay."""

    id: str
    status: Status
    place: str  # the spool's folder that contains it: "taken", "returned" or its status
    folder: str
    token: str
    queue: str
    record: bytes
    journal: bytes
    log_size: int | None  # None: it has no log; else without the bytes that are held back
    log_held: int  # bytes at the end of the log that could be the beginning of a secret's value
    log_start: int
    log_at: float
    has_secret_values: bool  # those of its secret params are in its folder
    has_files: bool  # it has ended, and its folder has `files`

    @property
    def is_waiting(self) -> bool:
        """Is it waiting for a worker of this machine? If so, it is confirmed or about to be."""
        return self.place in ("taken", "queued")

    @property
    def is_over(self) -> bool:
        """Has its attempt ended? Redis accepts the end only after the whole log."""
        return is_over(self.place)

    def is_log_at(self, offset: int | None) -> bool:
        """Does a copy of this size lack nothing of the log? It can have bytes that are held back
        only now, because an attempt got another secret."""
        if offset is None or self.log_size is None:
            return offset == self.log_size
        return self.log_size <= offset <= self.log_size + self.log_held

    @property
    def status_for_redis(self) -> Status:
        """The status to report to Redis."""
        return Status.RUNNING if self.is_waiting else self.status

    def seconds_to_retry(self) -> float:
        """Seconds until its next attempt can start; 0 if its last attempt needs no delay."""
        job = self.read_job()
        verdict = judge(job.retries, parse_journal(self.journal)[-1], None, "", 0.0)
        delay = delay_before_start(job, verdict, 0.0)
        return delay.seconds_left(time.time()) if isfinite(delay.at_most) else 0.0

    def read_job(self) -> Job:
        """The job as it was submitted; one without options if its record is damaged."""
        with suppress(ValueError, RecursionError):  # a job can write into its own record
            return parse_record(self.record, self.id)
        return Job(id=self.id, command="")

    @property
    def worker(self) -> str | None:
        """The worker that claimed its last attempt."""
        return parse_journal(self.journal)[-1].worker
