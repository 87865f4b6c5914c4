"""The errors that a storage raises, about a job or about itself."""

from __future__ import annotations

from tailboard.status import ENDED_WORDS, Status


class JobError(Exception):
    """The job does not allow that."""


class JobNotFound(JobError):
    """There is no such job."""


class JobDamaged(JobError):
    """What stands in the job's folder is not what we wrote there."""


class WrongState(JobError):
    """The job's state does not allow that."""


def cannot_cancel(job_id: str, status: Status) -> WrongState:
    return WrongState(f"job {job_id} {ENDED_WORDS[status]} and can no longer be cancelled")


def cannot_delete(job_id: str, status: str) -> WrongState:
    return WrongState(f"job {job_id} is still {status}: only a job that has ended can be deleted")


class KeyReused(JobError):
    """The Idempotency-Key belongs to a job that another request has submitted."""


class CommandNotFound(JobNotFound):
    """There is no such saved command."""


class TooManySaved(WrongState):
    """No room is left for another saved command, or for a larger one."""


class StoreError(OSError):
    """The storage refuses or fails; the text is a sentence."""

    def __str__(self) -> str:
        return str(self.strerror)


class RecordDamaged(StoreError):
    """A key in Redis does not hold what Tailboard stores there."""


class EvictionAllowed(StoreError):
    """Redis may drop jobs to make room, so it must not get new ones."""


class StoreUnreachable(StoreError, ConnectionError):
    """Redis does not answer."""
