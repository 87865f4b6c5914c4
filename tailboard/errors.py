"""The errors that a storage raises, and their messages."""

from __future__ import annotations

from tailboard.status import ENDED_WORDS, Status


class JobError(Exception):
    """The job does not allow that."""


class JobNotFound(JobError):
    """There is no such job."""


class JobDamaged(JobError):
    """The files in the job's folder are not as Tailboard wrote them."""


class WrongState(JobError):
    """The job's state does not allow that."""


def cannot_cancel(job_id: str, status: Status) -> WrongState:
    """The error for a cancellation of a job that has ended with this status."""
    return WrongState(f"job {job_id} {ENDED_WORDS[status]} and can no longer be cancelled")


def cannot_delete(job_id: str, status: str) -> WrongState:
    """The error for the deletion of a job that has not ended, and has this status."""
    return WrongState(f"job {job_id} is still {status}: only jobs that have ended can be deleted")


def not_queued(job_id: str, status: Status) -> WrongState:
    """The error for a change of the place in the queue of a job that has left it."""
    happened = ENDED_WORDS.get(status, "is already running")
    return WrongState(f"job {job_id} {happened}: only a job that waits can start before others")


class KeyReused(JobError):
    """The Idempotency-Key belongs to a job that a different request submitted."""


class KeyBusy(JobError):
    """Another job has the key of a job that is not to be queued then: `if_busy` is "skip"."""

    def __init__(self, job_id: str, key: str) -> None:
        super().__init__(f"job {job_id} has the key {key!r}")
        self.job_id = job_id  # of the job that is in the way


class CommandNotFound(JobNotFound):
    """There is no such saved command."""


class NotAFile(JobError):
    """The path in a job's files is a folder, a link, a device or the like, which is not opened."""


class FilesElsewhere(JobError):
    """The files are only on the machine that runs or ran the job. The message names it, and the
    path of the files there."""


class TooManySaved(WrongState):
    """There are too many saved commands, or they are too large."""


class CommandChanged(JobError):
    """The saved command is not the one that the client has seen."""


def check_seen(name: str, seen: str | None, current: str) -> None:
    """CommandChanged if the saved command that is stored under a name is not the one that the
    client has seen. Both are digests, or "" if there is none; `seen` is None if the client does not
    care."""
    if seen is None or seen == current:
        return
    if not seen:
        raise CommandChanged(f"there is already a saved command {name!r}")
    happened = "changed" if current else "deleted"
    raise CommandChanged(f"saved command {name!r} was {happened} after you read it")


class StoreError(OSError):
    """The storage refuses an operation or fails. The message is a sentence."""

    def __str__(self) -> str:
        return str(self.strerror)


class RecordDamaged(StoreError):
    """A key in Redis does not contain what Tailboard stores there."""


class EvictionAllowed(StoreError):
    """Redis is set up to drop keys when its memory is full. It must not get jobs."""


class StoreUnreachable(StoreError, ConnectionError):
    """Redis does not answer."""
