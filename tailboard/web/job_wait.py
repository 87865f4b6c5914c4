"""Waiting for the end of a job: GET /jobs/ID?wait=60."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from flask import Response

from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.status import FINISHED
from tailboard.web import log_follow
from tailboard.web.disconnect import wait_for_change
from tailboard.web.long_answer import WHITE_SPACE, encode_json, long_answer, take_place
from tailboard.web.state import state
from tailboard.web.views import job_with_log

LOOK_PAUSE = 0.02  # seconds between two looks at a job that writes all the time


def wait_for_job(job: Job, seconds: int) -> Response:
    """The job as soon as it has ended, or as it is after this many seconds. If the job is deleted
    meanwhile: the job as it was before. 503 if too many clients follow logs or wait for jobs."""
    before = job_with_log(job)
    take_place()
    body = shown_at_end(job.id, before, time.monotonic() + seconds)
    return long_answer(body, "application/json")


def shown_at_end(job_id: str, shown: dict[str, Any], deadline: float) -> Iterator[bytes]:
    """White space until the job has ended or the deadline, on the monotonic clock, has come; then
    the job as JSON: `shown` if it was deleted."""
    yield b""  # so that the headers are sent at once
    with suppress(JobNotFound):
        yield from white_space_until_end(job_id, deadline)
        shown = job_with_log(state().store.get(job_id))
    yield encode_json(shown)


def white_space_until_end(job_id: str, deadline: float) -> Iterator[bytes]:
    store, interval = state().store, log_follow.KEEPALIVE_INTERVAL
    sent_at = time.monotonic()
    with closing(store.watch(job_id)) as watch:
        while store.status(job_id) not in FINISHED:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            has_gone = wait_for_change(watch, min(left, interval))
            if has_gone or time.monotonic() - sent_at > interval - 1:
                yield WHITE_SPACE  # if the client has disconnected, the server ends the response
                sent_at = time.monotonic()
            time.sleep(LOOK_PAUSE)
