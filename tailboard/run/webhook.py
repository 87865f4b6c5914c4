"""The webhook: a POST for each job that has ended with one of the chosen statuses."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Container
from contextlib import suppress
from typing import Any

from tailboard.job import Job
from tailboard.titles import short_title

log = logging.getLogger("worker")

WEBHOOK_BACKOFF = (0, 1, 5, 25, 125)  # seconds before each try of the webhook
WEBHOOK_TIME = 10.0  # seconds for one try, whatever the receiver does
MAX_QUEUED = 1_000  # jobs: a dead URL must not fill the memory
STOP_TIME = 0.5  # seconds for sending the last jobs, when the worker stops


class Webhook:
    """Reports jobs that ended to the URL of TAILBOARD_WEBHOOK. It sends from its own thread, so
    that a slow or dead URL never delays jobs. Does nothing if there is no URL."""

    def __init__(self, url: str, statuses: Container[str]) -> None:
        """`statuses`: of the jobs that are reported."""
        self.url, self.statuses = url, statuses
        self.jobs: queue.Queue[Job | None] = queue.Queue(MAX_QUEUED)
        self.thread = threading.Thread(target=self._send_all, daemon=True)

    def start(self) -> None:
        if self.url:
            self.thread.start()

    def notify(self, job: Job) -> None:
        """Report a job that has ended, if it has one of the statuses. Any thread can call this."""
        if self.url and job.status in self.statuses:
            with suppress(queue.Full):
                self.jobs.put_nowait(job)

    def stop(self) -> None:
        """Send the queued reports, for at most STOP_TIME."""
        if self.url:
            with suppress(queue.Full):
                self.jobs.put_nowait(None)
            self.thread.join(STOP_TIME)

    def _send_all(self) -> None:
        for job in iter(self.jobs.get, None):
            body = webhook_body(job)
            for pause in WEBHOOK_BACKOFF:
                time.sleep(pause)
                error = post(self.url, body)
                if error is None:
                    break
                log.error("webhook failed job=%s error=%s", job.id, error)


def webhook_body(job: Job) -> dict[str, Any]:
    """The JSON that reports a job: `text`, which Slack and Mattermost show, and `job`."""
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    fields = job.as_dict()
    why = f": {fields['reason']}" if fields["reason"] else ""
    title = short_title(job.name, job.command)
    text = f"{title} {job.status}{code}{why} (job {job.id})"
    if job.hint:
        text += f"\n{job.hint}"
    del fields["env"]  # it can contain secrets
    return {"text": text, "job": fields}


def post(url: str, body: dict[str, Any], seconds: float = WEBHOOK_TIME) -> str | None:
    """POST a JSON body. Returns None, or the name of the error: its text would reveal the URL,
    which is a secret. All of it takes `seconds` at most: it runs in a thread, because the timeouts
    of requests restart with each byte received. The response body, which may be endless, is not
    read."""
    result: queue.Queue[str | None] = queue.Queue()
    connections: list[Any] = []

    def send() -> None:
        import requests  # imported here: it takes 15 MB, and few workers have a webhook

        try:
            with requests.Session() as session:
                note_connections(session, connections)
                with session.post(
                    url, json=body, timeout=seconds, allow_redirects=False, stream=True
                ) as response:
                    is_accepted = response.ok and not response.is_redirect
                    result.put(None if is_accepted else str(response.status_code))
        except Exception as error:
            result.put(type(error).__name__)

    threading.Thread(target=send, daemon=True).start()
    try:
        return result.get(timeout=seconds)
    except queue.Empty:
        # Otherwise a receiver that sends its headers slowly would block the thread.
        for connection in connections:
            with suppress(OSError, AttributeError):  # it has no socket
                connection.sock.shutdown(socket.SHUT_RDWR)
        return "Timeout"


def note_connections(session: Any, made: list[Any]) -> None:
    """Append each connection that a requests.Session opens (an http.client.HTTPConnection) to a
    list."""
    from requests.adapters import HTTPAdapter

    class NotingAdapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*arguments, **options)
            make = pool.ConnectionCls

            def make_and_note(*arguments: Any, **options: Any) -> Any:
                made.append(make(*arguments, **options))
                return made[-1]

            pool.ConnectionCls = make_and_note
            return pool

    session.mount("http://", NotingAdapter())
    session.mount("https://", NotingAdapter())
