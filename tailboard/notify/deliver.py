"""The process that sends messages: it reads one delivery per line and writes one answer per line.

python -m tailboard.notify.deliver

A line is {"number": 1, "url": …} with `title`, `body` and `kind` for a message that Apprise sends,
or with `data` for a ping, which is a plain POST. The answer is {"number": 1, "ok": true, "answer":
…}. Each delivery has a thread. The process ends when its standard input ends, so that it never
outlives the process that started it, and that process kills it if a delivery takes too long."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from tailboard.notify.targets import (
    NOT_FOLLOWED,
    captured_log,
    open_target,
    reason_of,
    without_secrets,
)

NICENESS = 5
SOCKET_TIME = 10.0  # seconds without a byte until a ping fails


def main() -> None:
    # Ctrl-C and `systemctl stop` signal all processes; this one is ended by its parent.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    answers = Answers(os.dup(1))
    os.dup2(2, 1)  # what a library prints is no answer
    follow_no_redirect()
    for line in sys.stdin.buffer:
        task = json.loads(line)
        threading.Thread(target=answers.handle, args=(task,), daemon=True).start()
    os._exit(0)  # at once: a message that is sent now would be sent again by the next worker


def follow_no_redirect() -> None:
    """Let `requests` follow no redirect in this process, whatever a plugin of Apprise asks for: it
    could lead to a server inside this machine's network."""
    import requests

    def no_target(_self: object, _response: object) -> None:
        return None

    setattr(requests.Session, "get_redirect_target", no_target)  # noqa: B010


class Answers:
    """Handles deliveries, and writes their answers."""

    def __init__(self, fd: int) -> None:
        self.fd, self.lock = fd, threading.Lock()

    def handle(self, task: dict[str, Any]) -> None:
        try:
            error = ping(task) if "data" in task else send(task)
        except Exception as caught:
            text = f"{type(caught).__name__}: {caught}"
            error = without_secrets(text, task["url"])
        answer = {"number": task["number"], "ok": error is None, "answer": error or "accepted"}
        line = json.dumps(answer).encode() + b"\n"
        with self.lock:
            os.write(self.fd, line)


def send(task: dict[str, Any]) -> str | None:
    """Let Apprise send a message. Returns None, or why it was not sent."""
    try:
        target = open_target(task["url"])
    except ValueError as error:
        return str(error)
    from apprise import NotifyFormat

    with captured_log() as lines:
        is_sent = target.notify(
            title=task["title"],
            body=task["body"],
            notify_type=task["kind"],
            body_format=NotifyFormat.TEXT,
        )
    return None if is_sent else reason_of(lines, task["url"]) or "the service refused the message"


def ping(task: dict[str, Any]) -> str | None:
    """POST the data to the URL. Returns None, or why it was not accepted. The text of an error of
    `requests` would reveal the URL, and the response may be endless."""
    import requests

    data = task["data"].encode("latin-1")
    try:
        with requests.post(
            task["url"], data=data, timeout=SOCKET_TIME, allow_redirects=False, stream=True
        ) as response:
            if response.is_redirect:
                return f"HTTP {response.status_code}{NOT_FOLLOWED}"
            return None if response.ok else f"HTTP {response.status_code}"
    except requests.RequestException as error:
        return type(error).__name__


if __name__ == "__main__":
    main()
