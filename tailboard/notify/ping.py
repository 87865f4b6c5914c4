"""Pings: what is sent to the ping URL of a saved command, in the form that Healthchecks expects
(https://healthchecks.io/docs/http_api/)."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from storage import Store
from tailboard.errors import CommandNotFound, JobNotFound
from tailboard.job import Job
from tailboard.masking import SecretsDamaged
from tailboard.status import Status

PING_START, PING_END = "ping start", "ping end"  # the events of their notices
PING_BYTES = 10_000  # of the end of the log


def ping_url(store: Store, job: Job) -> str | None:
    """The ping URL that the job's saved command has now; None if it has none."""
    if not job.pings or job.saved is None:
        return None
    with suppress(CommandNotFound):
        return store.saved.load(job.saved).ping
    return None


def ping_task(store: Store, job: Job, event: str) -> dict[str, str]:
    """The ping, for tailboard/notify/deliver.py. ValueError if there is no URL to call."""
    url = ping_url(store, job)
    if url is None:
        raise ValueError("the saved command has no ping URL")
    if not re.match("https?://", url, re.IGNORECASE):
        raise ValueError("the ping URL does not begin with http:// or https://")
    if event == PING_START:
        return {"url": add_to_path(url, "start"), "data": ""}
    # JSON has no bytes: each becomes one character.
    data = end_of_log(store, job.id).decode("latin-1")
    return {"url": add_to_path(url, outcome_of(job)), "data": data}


def outcome_of(job: Job) -> str:
    """The last part of the URL: the exit code, or "fail" if the job has failed without one."""
    if job.status is Status.SUCCEEDED:
        return "0"
    return str(job.exit_code) if job.exit_code else "fail"


def add_to_path(url: str, part: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{part}", fragment=""))


def end_of_log(store: Store, job_id: str) -> bytes:
    with suppress(FileNotFoundError, JobNotFound, SecretsDamaged), store.open_log(job_id) as log:
        return log.read(log.size - PING_BYTES, PING_BYTES)[1]
    return b""
