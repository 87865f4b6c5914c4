"""The statuses of a job."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # claimed by a worker; its process runs or is about to start
    SUCCEEDED = "succeeded"  # ended with exit code 0
    FAILED = "failed"  # ended with another exit code, or could not start
    CANCELLED = "cancelled"  # stopped at a user's request
    TIMED_OUT = "timed_out"  # stopped because it ran longer than its timeout
    LOST = "lost"  # its process disappeared without an exit code


FINISHED = (
    Status.SUCCEEDED,
    Status.FAILED,
    Status.CANCELLED,
    Status.TIMED_OUT,
    Status.LOST,
)

FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.LOST)


ENDED_WORDS = {  # the predicate of a sentence about a job that has ended
    Status.SUCCEEDED: "has already succeeded",
    Status.FAILED: "has already failed",
    Status.CANCELLED: "has already been cancelled",
    Status.TIMED_OUT: "has already timed out",
    Status.LOST: "is already lost",
}
