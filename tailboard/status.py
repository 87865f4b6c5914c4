"""The states of a job."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker claimed it; its process runs, or is about to
    SUCCEEDED = "succeeded"  # ended with exit code 0
    FAILED = "failed"  # ended with another code, or could not start
    CANCELLED = "cancelled"  # stopped because somebody asked
    TIMED_OUT = "timed_out"  # stopped because it ran longer than its timeout
    LOST = "lost"  # its process is gone and nobody could record how it ended


FINISHED = (
    Status.SUCCEEDED,
    Status.FAILED,
    Status.CANCELLED,
    Status.TIMED_OUT,
    Status.LOST,
)


ENDED_WORDS = {  # the predicate of a sentence about a job that has ended
    Status.SUCCEEDED: "has already succeeded",
    Status.FAILED: "has already failed",
    Status.CANCELLED: "has already been cancelled",
    Status.TIMED_OUT: "has already ended as timed_out",
    Status.LOST: "is already lost",
}
