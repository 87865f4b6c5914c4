"""Submitting jobs: new ones, and the responses to requests that submit one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flask import abort, current_app

from tailboard.errors import JobNotFound, KeyBusy
from tailboard.job import Job
from tailboard.web.audit import note_new_job, note_nothing
from tailboard.web.state import state
from tailboard.web.views import whole_job

Created = tuple[dict[str, Any], int, dict[str, str]]
SKIPPED = "Tailboard-Skipped"  # a header: the ID of the job that is in the way


def submit(job: Job, key: str | None, sent: str | None) -> Created:
    """Submit a job: 201. If its `if_busy` is "skip" and another job has its key: 200 and that job.
    400 if a job of `after` does not exist. `key`, `sent`: see `Jobs.submit`."""
    try:
        return created(state().store.submit(job, key, sent))
    except KeyBusy as busy:
        with suppress(JobNotFound):
            return skipped(busy.job_id)
    except ValueError as error:
        abort(400, str(error))
    return submit(job, key, sent)  # that job was deleted in this moment, so the key is free


def created(job: Job) -> Created:
    if job.is_repeat:
        note_nothing()
    else:
        note_new_job(job.id)
    location = current_app.url_for("tailboard.show", job_id=job.id)
    return whole_job(job), 201, {"Location": location}


def skipped(job_id: str) -> Created:
    """The response if nothing was queued because this job has the key."""
    note_nothing()
    return whole_job(state().store.get(job_id)), 200, {SKIPPED: job_id}
