"""Reading a job's log over HTTP for the client: up to its end now, or as the job writes it.

Imports only `requests`, the standard library and client_http.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import requests

from tailboard.client_http import ApiError, HttpClient, Outage, Unreachable, job_path

READ_BYTES = 4 << 20  # bytes of a log in one response: the most that the API sends


class Event(NamedTuple):
    """A server-sent event. `offset`: of the log's next byte after it; None if it is a ping."""

    name: str
    offset: int | None
    data: str


class Follower:
    """Reads one log as the job writes it, from one connection after another."""

    def __init__(self, http: HttpClient, job_id: str, place: Mapping[str, Any]) -> None:
        """`place`: the parameter of GET /jobs/ID/logs with which to begin."""
        self.http, self.path = http, job_path(job_id)
        self.place = dict(place)  # of the first connection
        self.at: int | None = None  # the offset of the next byte; None: not connected yet
        self.ends_line = True  # the last byte that was returned ends a line
        self.has_ended = False

    def run(
        self, reconnect_for: float, on_outage: Callable[[ApiError], None] | None
    ) -> Iterator[bytes]:
        """The bytes until the job has ended. Raises the last error of an outage of more than
        `reconnect_for` seconds, and the first one if no connection has succeeded before."""
        outage = Outage(reconnect_for, on_outage)
        while not self.has_ended:
            try:
                for data in self._read_one_connection():
                    outage.end()
                    if data:
                        self.ends_line = data.endswith(b"\n")
                        yield data
            except ApiError as error:
                if self.at is None:
                    raise
                outage.endure(error)

    def _read_one_connection(self) -> Iterator[bytes]:
        """The bytes of one response; an empty text for each sign of life."""
        try:
            answer = self._connect()
        except ApiError as error:
            if error.status != 416 or self.at is None:
                raise
            yield self._skip_truncation(self.at)
            return
        with answer:
            yield from self._read_events(answer)
        if not self.has_ended:
            raise Unreachable(f"the server at {self.http.url} closed the connection", True)

    def _read_events(self, answer: requests.Response) -> Iterator[bytes]:
        if self.at is None:
            self.at = log_number(self.http, answer, "X-Log-Offset")
        try:
            for event in iter_events(answer):
                yield self._take(event)
        except requests.RequestException as error:
            raise self.http.explain(error) from None
        except (ValueError, KeyError, TypeError):
            raise self.http.not_tailboard(answer) from None

    def _skip_truncation(self, at: int) -> bytes:
        """Continue at the end of a log that is now shorter than `at` bytes, because the job has
        truncated it during an outage. Returns the line that says so."""
        answer = self.http.request("GET", f"{self.path}/logs", query={"tail": 1})
        self.at = log_number(self.http, answer, "X-Log-Size")
        return gap_line(at, self.at, self.ends_line)

    def _connect(self) -> requests.Response:
        """The response from which to read next."""
        is_again = self.at is not None
        # This shows within seconds that the server responds. A stream may be silent for longer.
        self.http.json("GET", self.path, "status", once=is_again)
        query = {"follow": 1, **({"offset": self.at} if is_again else self.place)}
        headers = {"Accept": "text/event-stream"}
        path = f"{self.path}/logs"
        return self.http.request(
            "GET", path, query=query, headers=headers, stream=True, once=is_again
        )

    def _take(self, event: Event) -> bytes:
        """The bytes that an event brings."""
        content = b""
        if event.name == "gap":
            gap = json.loads(event.data)
            content = gap_line(gap["from"], gap["to"], self.ends_line)
        elif event.name == "message" and event.data:
            content = self._content(event)
        # Only now: if the content could not be read, the next connection begins with it again.
        if event.offset is not None:
            self.at = event.offset
        self.has_ended = event.name == "end"
        return content

    def _content(self, event: Event) -> bytes:
        """The bytes of an event with a part of the log. If they are not UTF-8, the event has
        U+FFFD in their place; then they are read once more, if they still exist."""
        text: str = json.loads(event.data)
        if "\ufffd" not in text or self.at is None or event.offset is None:
            return text.encode()
        return self._read_bytes(self.at, event.offset) or text.encode()

    def _read_bytes(self, at: int, end: int) -> bytes | None:
        """The bytes of the log between two offsets; None if they do not all exist."""
        found = b""
        while at < end:
            query = {"offset": at, "limit_bytes": end - at}
            answer = self.http.request("GET", f"{self.path}/logs", query=query)
            if log_number(self.http, answer, "X-Log-Offset") != at or not answer.content:
                return None
            found += answer.content  # not always all: the API splits no character that is UTF-8
            at += len(answer.content)
        return found


def read_log(http: HttpClient, job_id: str, place: Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of a job's log from a place on, up to the size that it has now."""
    end = None
    expected = None  # the offset at which the next response begins, if nothing is missing
    ends_line = True
    while True:
        query = {"limit_bytes": READ_BYTES, **(place if expected is None else {"offset": expected})}
        answer = http.request("GET", f"{job_path(job_id)}/logs", query=query)
        begin = log_number(http, answer, "X-Log-Offset")
        if expected is not None and begin > expected:
            yield gap_line(expected, begin, ends_line)
        yield answer.content
        ends_line = answer.content.endswith(b"\n")
        expected = log_number(http, answer, "X-Log-Next")
        end = log_number(http, answer, "X-Log-Size") if end is None else end
        if expected >= end or not answer.content:
            return


def iter_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a log, without the newline at their ends. Takes linear time for a long line,
    too."""
    parts: list[bytes] = []  # of the line that has not ended
    for data in chunks:
        first, *others = data.split(b"\n")
        parts.append(first)
        for part in others:
            yield b"".join(parts).decode(errors="replace")
            parts = [part]
    if any(parts):
        yield b"".join(parts).decode(errors="replace")


def gap_line(begin: int, end: int, ends_line: bool) -> bytes:
    """A line that replaces bytes of a log that no longer exist, as the API writes it. `ends_line`:
    it follows the end of a line."""
    message = "the log was truncated" if end < begin else f"{end - begin} bytes missing"
    return f"[{message}]\n".encode() if ends_line else f"\n[{message}]\n".encode()


def log_number(http: HttpClient, answer: requests.Response, name: str) -> int:
    """A number in a header of a response with a log."""
    try:
        return int(answer.headers[name])
    except (KeyError, ValueError):
        raise http.not_tailboard(answer) from None


def iter_events(answer: requests.Response) -> Iterator[Event]:
    """The server-sent events of a response, without the one that all responses begin with, which
    says when to reconnect. A ping has the name "message" and no data."""
    rest = b""
    for chunk in answer.iter_content(None):
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            fields = dict(line.partition(": ")[::2] for line in event.decode().split("\n"))
            if "retry" in fields:
                continue
            offset = fields.get("id")
            name = fields.get("event", "message")
            yield Event(name, int(offset) if offset else None, fields.get("data", ""))
