"""Comparing the logs of two jobs over HTTP. Comparisons of long logs wait for their turn, as
searches do."""

from __future__ import annotations

from typing import Any

from flask import abort

from tailboard.explain.compare import OpenRun
from tailboard.explain.earlier_runs import earlier_successes
from tailboard.job import Job
from tailboard.web.log_read import open_log
from tailboard.web.log_search import turn_for
from tailboard.web.models import DiffQuery
from tailboard.web.state import state


def compare_in_turn(job: Job, query: DiffQuery) -> dict[str, Any]:
    """The comparison of a job with another one; 503 if a log is long and too many others are being
    read."""
    other = last_success(job) if query.other is None else state().store.get(query.other)
    with open_log(other.id) as left, open_log(job.id) as right:
        runs = OpenRun(other, left), OpenRun(job, right)
        with turn_for(left, right):
            return state().comparisons.compare(*runs, query.begin)


def last_success(job: Job) -> Job:
    """The newest success of the same command that was submitted before the job. 404 if there is
    none; 503 if the records of older jobs are still being read."""
    history = state().history
    history.refresh()
    found = earlier_successes(history.groups, job)
    if found:
        return state().store.get(found[0].id)
    if not history.is_complete:
        abort(503, "reading the records of earlier runs takes time; repeat the request")
    abort(404, "no earlier run of this command has succeeded in the last 14 days; choose a job")
