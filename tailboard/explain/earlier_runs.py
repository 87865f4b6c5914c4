"""The earlier runs that a job is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from tailboard.job import Job
from tailboard.keep_rules import group_of
from tailboard.notify.history import Run
from tailboard.notify.usual import RUNS_COUNTED
from tailboard.status import Status

Groups = dict[str, Sequence[Run]]


def earlier_successes(groups: Groups, job: Job) -> Sequence[Run]:
    """The last ten successes of the same saved command, or of the same name and queue, that were
    submitted before the job; newest first. `groups`: as in History."""
    runs = (run for run in groups.get(group_of(job), ()) if run.id < job.id)
    good = (run for run in runs if run.status is Status.SUCCEEDED and is_alike(run, job))
    return list(islice(good, RUNS_COUNTED))


def is_alike(run: Run, job: Job) -> bool:
    """Is a run of the same group comparable? Runs of a saved command are, in whatever queue."""
    if job.saved is not None:
        return run.is_saved
    return not run.is_saved and run.queue == job.queue
