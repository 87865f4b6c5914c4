"""What the tests of the API share: a real server over a folder, jobs of every state, raw HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from conftest import Processes, end_jobs, wait_until

from storage import FINISHED, Claim, FolderStore, Job, Outcome, Status

UNKNOWN = "20200101-000000-00000000"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
BY_HAND = "by-hand"  # a queue that no worker of the tests serves


class Hand:
    """Brings jobs into any state, doing a worker's part, so that a test writes a log itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = FolderStore(folder)

    def queued(self, **fields: Any) -> Job:
        return self.storage.submit(Job(**{"command": "true", "queue": BY_HAND} | fields))

    def start(self, job: Job) -> Claim:
        claim = self.storage.claim_job(job.id, job.queue, "hand", "another-host")
        assert claim is not None
        return claim

    def running(self, content: bytes = b"", **fields: Any) -> Claim:
        held = self.start(self.queued(**fields))
        self.write(held, content)
        return held

    def write(self, held: Claim, content: bytes) -> None:
        with held.open_log_for_append() as log:
            log.write(content)

    def finish(self, held: Claim, status: Status = Status.SUCCEEDED, code: int = 0) -> Job:
        with held:
            return held.finish(Outcome(status, code))

    def ended(self, content: bytes = b"", status: Status = Status.SUCCEEDED, **fields: Any) -> str:
        return self.finish(self.running(content, **fields), status).id

    def log(self, job_id: str) -> Path:
        (folder,) = self.folder.glob(f"*/**/{job_id}")
        return folder / "output.log"


@dataclass
class Site:
    """The API, served as the Procfile serves it, over a folder of its own."""

    url: str
    folder: Path
    hand: Hand
    processes: Processes
    headers: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request on a connection of its own."""
        headers = self.headers | options.pop("headers", {})
        return requests.request(
            method, self.url + path, headers=headers, timeout=60, allow_redirects=False, **options
        )

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> requests.Response:
        return self.ask("POST", path, **({"json": body or {}} | options))

    def submit(self, command: str | list[str], **fields: Any) -> str:
        """Submit a job, which a worker is to run."""
        answer = self.post("/jobs", {"command": command} | fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, job_id: str, *status: str, timeout: float = 30) -> dict[str, Any]:
        """The job once it has one of these (no: a final) status."""

        def look() -> dict[str, Any] | None:
            job: dict[str, Any] = self.get(f"/jobs/{job_id}").json()
            return job if job["status"] in (status or FINISHED) else None

        found: dict[str, Any] = wait_until(look, timeout, self.processes.text)
        return found

    def connect(self, data: bytes = b"", timeout: float = 30) -> socket.socket:
        """A raw connection, with what it sends first."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout)
        connection.sendall(data)
        return connection

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Send these bytes as they are; everything that comes back until the server closes."""
        with self.connect(data, timeout) as connection:
            return receive(connection)


def receive(connection: socket.socket) -> bytes:
    """Everything until the other side closes the connection."""
    answer = b""
    try:
        while data := connection.recv(1 << 16):
            answer += data
    except ConnectionResetError:
        pass  # it closed while we still sent
    return answer


@contextmanager
def site(tmp: Path, *worker: str, patience: int | None = None, **env: str) -> Iterator[Site]:
    """A server over a new folder, and a worker where options for one are given; both are ended,
    as are the jobs."""
    folder = tmp / "jobs"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
    clean |= {"TAILBOARD_STORAGE": str(folder)} | env
    hand = Hand(folder)
    processes = Processes(tmp / "output.txt", clean)
    token = env.get("TAILBOARD_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        if worker:
            processes.worker(*worker)
        yield Site(processes.api(patience=patience), folder, hand, processes, headers)
    finally:
        processes.end()
        end_jobs(hand.storage)


def is_problem(answer: Any, status: int, *words: str) -> dict[str, Any]:
    """The answer (of requests, or of Flask's test client) is these problem details, which say
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


EVENTS = {"Accept": "text/event-stream"}


class Stream:
    """An answer that goes on, read by a thread as it comes."""

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
        """All that came, once the server has ended the answer."""
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


def admitted(site: Site, path: str, **headers: str) -> Stream:
    """A follower that got a place; one that was just freed may take a moment."""

    def ask() -> Stream | None:
        stream = Stream(site, path, **headers)
        return stream if stream.answer.status_code == 200 else None

    found: Stream = wait_until(ask, 60)
    return found


def stalled(site: Site, path: str) -> socket.socket:
    """A follower that got a place, and reads no more than that."""

    def ask() -> socket.socket | None:
        connection = site.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if connection.recv(12) == b"HTTP/1.1 200":
            return connection
        connection.close()
        return None

    found: socket.socket = wait_until(ask, 60)
    return found
