"""The webhook: a POST when a job has ended badly."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from tailboard.job import Job

log = logging.getLogger("worker")

WEBHOOK_BACKOFF = (0, 1, 5, 25, 125)  # seconds before each try of the webhook
WEBHOOK_TIME = 10.0  # seconds for one try, whatever the other side does


def send_webhooks(url: str, jobs: queue.Queue[Job | None]) -> None:
    """Tell a URL which jobs ended, as JSON whose `text` Slack and Mattermost show. In a thread of
    its own, so that a slow or dead URL is never in the way of jobs."""
    for job in iter(jobs.get, None):
        code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
        fields = job.as_dict()
        why = f": {fields['reason']}" if fields["reason"] else ""
        text = f"{job.name or job.command} {job.status}{code}{why} (job {job.id})"
        if job.hint:
            text += f"\n{job.hint}"
        del fields["env"]  # env may hold secrets
        for pause in WEBHOOK_BACKOFF:
            time.sleep(pause)
            error = post(url, {"text": text, "job": fields})
            if error is None:
                break
            log.error("webhook failed job=%s error=%s", job.id, error)


def post(url: str, body: dict[str, Any], seconds: float = WEBHOOK_TIME) -> str | None:
    """Send it; None, or the error's name: its text would reveal the URL, which is a secret. It runs
    in a thread because the time-outs of requests start anew with each byte received; `seconds` is
    for all of it. The body of the answer, which may be endless, is not read."""
    answer: queue.Queue[str | None] = queue.Queue()
    connections: list[Any] = []

    def send() -> None:
        import requests  # here: it needs 15 MB, and few workers have a webhook

        try:
            with requests.Session() as session:
                note_connections(session, connections)
                with session.post(
                    url, json=body, timeout=seconds, allow_redirects=False, stream=True
                ) as response:
                    is_taken = response.ok and not response.is_redirect
                    answer.put(None if is_taken else str(response.status_code))
        except Exception as error:
            answer.put(type(error).__name__)

    threading.Thread(target=send, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        for connection in connections:  # else a receiver that sends headers slowly keeps the thread
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
