"""When a queued job may start: the limits of queues, keys, and the jobs that it waits for.

These rules are the same for each storage. A folder follows them in folder/turn.py, Redis in
machines/lua/take.lua, and web/waiting.py describes to people what a job waits for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tailboard.job import AfterStatus, Job
from tailboard.status import FINISHED, Status
from tailboard.values import QUEUE_NAMES, is_queue_name

MAX_LIMIT = 10_000  # jobs
DAMAGED_LIMIT = 1  # of a queue whose record cannot be read: too few jobs are safer than too many
FAILURE_WORDS = {
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "was cancelled",
    Status.TIMED_OUT: "timed out",
    Status.LOST: "was lost",
}
EXCLUDES = "!"  # before the name of a queue that a worker does not serve


class RunningJob(NamedTuple):
    """A job that counts towards the limit of its queue: it runs, or a machine has taken it."""

    id: str
    queue: str
    key: str | None


class Parents(NamedTuple):
    """The state of the jobs that a job waits for."""

    open: Sequence[str]  # IDs of those that have not ended
    failure: str | None  # why the job can never start: "ID failed"


def look_at_parents(job: Job, status_of: Callable[[str], Status | None]) -> Parents:
    """`status_of` returns the status of a job by its ID, and None if it was deleted."""
    still_open = []
    for parent in job.after:
        status = status_of(parent)
        if status is not None and status not in FINISHED:
            still_open.append(parent)
        elif job.after_status == AfterStatus.SUCCEEDED and status is not Status.SUCCEEDED:
            word = "was deleted" if status is None else FAILURE_WORDS[status]
            return Parents(still_open, f"{parent} {word}")
    return Parents(still_open, None)


def replaced_by(job_id: str) -> str:
    """The reason of a cancelled job that a newer one with its key has replaced."""
    return f"replaced by {job_id}"


# --- Limits ---------------------------------------------------------------------------------------


def check_limit(limit: int | None) -> None:
    """ValueError if this cannot be the limit of a queue."""
    if limit is not None and (type(limit) is not int or not 1 <= limit <= MAX_LIMIT):
        raise ValueError(f"limit must be a whole number from 1 to {MAX_LIMIT:,}, or null")


def encode_limit(limit: int) -> bytes:
    return json.dumps({"limit": limit}).encode() + b"\n"


def parse_limit(content: bytes) -> int | None:
    """The limit in the record of a queue; None if it has none, DAMAGED_LIMIT if the record is
    damaged."""
    try:
        limit = json.loads(content)["limit"]
        check_limit(limit)
    except (ValueError, KeyError, TypeError, RecursionError):
        return DAMAGED_LIMIT
    return None if limit is None else int(limit)


# --- The queues that a worker serves --------------------------------------------------------------


class ServedQueues:
    """The queues of a worker's --queues: those that are named, or all but those after a "!"."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """ValueError if a name is wrong, or if some are excluded and others are not."""
        plain = [name.removeprefix(EXCLUDES) for name in names]
        if not all(map(is_queue_name, plain)):
            raise ValueError(
                f"queues must be separated by commas, and each must be {QUEUE_NAMES}; "
                "a ! before each excludes them"
            )
        excluded = [name for name in names if name.startswith(EXCLUDES)]
        if excluded and len(excluded) < len(names):
            raise ValueError("queues must either all begin with ! or none of them")
        self.names = frozenset(plain)
        self.excludes = bool(excluded)

    def __contains__(self, queue: str) -> bool:
        if not self.names:
            return True
        return (queue in self.names) is not self.excludes
