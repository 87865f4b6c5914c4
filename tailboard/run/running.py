"""A job that this worker supervises."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

import psutil

from tailboard.folder.claim import Claim
from tailboard.folder.files_folder import FilesCount
from tailboard.job import Job
from tailboard.judge import Verdict
from tailboard.run.end_steps import EndStep, FilesCounting, LogMasking
from tailboard.status import Status


@dataclass
class Running:
    """A job that this worker has started, or adopted from a dead worker, until its end is
    recorded."""

    claim: Claim
    pid: int | None  # of the shim; None: unknown, because the journal is damaged
    process: subprocess.Popen[bytes] | None = None  # None: adopted
    stop_outcome: tuple[Status, str] | None = None  # why this worker ended it: status, reason
    kill_at: float = 0.0  # when to send KILL, on the monotonic clock; 0: it got no TERM
    retry_at: float = 0.0  # after an error, on the monotonic clock
    ended: bool = False  # the shim is dead
    verdict: Verdict | None = None  # how it ended, if that is still to be recorded
    masking: LogMasking | None = None  # its log is being masked, before its end is recorded
    mask_errors: int = 0  # how often that has failed
    counting: FilesCounting | None = None  # its files are being counted, before that, too
    files: FilesCount | None = None  # the result
    keeps_slot: bool = False  # although it has ended: it is to be the next to start
    usage: tuple[float | None, int | None] = (None, None)  # CPU seconds, peak RSS in bytes
    started: set[psutil.Process] = field(default_factory=set)  # found when it was stopped

    @property
    def end_steps(self) -> list[EndStep]:
        """What a thread does, or has done, before the end of the job is recorded."""
        return [step for step in (self.masking, self.counting) if step is not None]

    @property
    def job(self) -> Job:
        return self.claim.job
