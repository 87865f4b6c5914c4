"""Helpers of the API's tests: problem details, and responses that continue."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from typing import Any

import requests
from conftest import Site, wait_until

JSON = {"Content-Type": "application/json"}
UNKNOWN = "20200101-000000-00000000"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def is_problem(answer: Any, status: int, *words: str) -> dict[str, Any]:
    """Checks that a response (of requests, or of Flask's test client) is these problem details with
    these words."""
    text = answer.text
    assert answer.status_code == status, text
    assert answer.headers["Content-Type"] == "application/problem+json", text
    details: dict[str, Any] = json.loads(text)
    assert details["status"] == status
    assert set(details) == {"type", "title", "status", "detail"}, details
    assert "Traceback" not in text
    for word in words:
        assert word in details["detail"], details
    return details


def status_of(answer: bytes) -> int:
    """The status of a response in bytes."""
    assert answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), answer[:200]
    return int(answer.split(b" ", 2)[1])


def raw(
    site: Site,
    method: str,
    path: str | bytes,
    headers: list[tuple[str, str | bytes]] | None = None,
    body: bytes = b"",
) -> bytes:
    """The response to a request that a well-behaved library would not send."""
    lines = [f"{method} ".encode() + (path if isinstance(path, bytes) else path.encode())]
    lines[0] += b" HTTP/1.1"
    for name, value in [*(headers or []), ("Connection", "close")]:
        lines.append(f"{name}: ".encode() + (value.encode() if isinstance(value, str) else value))
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return site.raw(b"\r\n".join(lines) + b"\r\n\r\n" + body)


def count_jobs(site: Site) -> int:
    """The number of jobs with each status."""
    return sum(site.get("/jobs").json()["counts"].values())


EVENTS = {"Accept": "text/event-stream"}


class Stream:
    """A response that continues, read by a thread as it arrives."""

    def __init__(self, site: Site, path: str, **headers: str) -> None:
        self.answer = site.get(path, headers=headers, stream=True)
        self.data = b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for chunk in self.answer.iter_content(None):
                self.data += chunk
        except (requests.RequestException, OSError, AttributeError):
            pass  # closed by the test

    def has(self, data: bytes) -> None:
        wait_until(lambda: data in self.data, describe=lambda: self.data[-1_000:])

    def rest(self) -> bytes:
        """Everything received, once the server has ended the response."""
        wait_until(lambda: not self.thread.is_alive(), describe=lambda: self.data[-1_000:])
        return self.data

    def close(self) -> None:
        # Not answer.close(), which would wait for the thread that reads.
        connection = self.answer.raw.connection
        if connection is not None and connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.answer.close()


def follow(site: Site, job_id: str, query: str = "", **headers: str) -> Stream:
    return Stream(site, f"/jobs/{job_id}/logs?follow=1{query}", **headers)


def admitted_answer(site: Site, path: str, **headers: str) -> requests.Response:
    """The response to a follower that got a place; a place that was just freed may take a
    moment."""

    def ask() -> requests.Response | None:
        answer = site.get(path, headers=headers, stream=True)
        return answer if answer.status_code == 200 else None

    found: requests.Response = wait_until(ask)
    return found


def admitted(site: Site, path: str, **headers: str) -> Stream:
    """A follower that got a place; a place that was just freed may take a moment."""

    def ask() -> Stream | None:
        stream = Stream(site, path, **headers)
        return stream if stream.answer.status_code == 200 else None

    found: Stream = wait_until(ask)
    return found


def stalled(site: Site, path: str) -> socket.socket:
    """A follower that got a place and reads no further."""

    def ask() -> socket.socket | None:
        connection = site.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if connection.recv(12) == b"HTTP/1.1 200":
            return connection
        connection.close()
        return None

    found: socket.socket = wait_until(ask)
    return found


def token_line(name: str, token: str) -> str:
    """A line of the file of named tokens."""
    return f"{name} {hashlib.sha256(token.encode()).hexdigest()}\n"
