"""Following a log over HTTP, as text or as server-sent events."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from flask import Response, abort, request

from tailboard.errors import JobNotFound
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.status import FINISHED
from tailboard.web.disconnect import wait_for_change
from tailboard.web.log_read import begin_at, log_headers, open_log, trim_partial_utf8
from tailboard.web.long_answer import long_answer, take_place
from tailboard.web.models import LogQuery
from tailboard.web.state import state
from tailboard.web.views import whole_job

KEEPALIVE_INTERVAL = 5.0  # seconds; shows the client, and proxies, that the connection is alive
RECONNECT = 1_000  # milliseconds until a browser reconnects


class Chunk(NamedTuple):
    """The next thing to send to a follower of a log. A chunk with nothing but its place is a
    keepalive."""

    at: int  # the offset after it, from which to continue
    data: bytes = b""
    # (from, to): these bytes no longer exist; if `to` is lower, the log was truncated.
    gap: tuple[int, int] | None = None
    is_change: bool = False  # the job has started, or waits for its next attempt


def follow(job: Job, log: Log, query: LogQuery) -> Response:
    """Send the log from the selected offset, then new output until the job has ended. 503
    if too many clients follow logs."""
    if (last := request.headers.get("Last-Event-ID")) is not None:
        if not re.fullmatch("[0-9]{1,18}", last):
            abort(400, "Last-Event-ID must be the id of an event, a whole number of bytes")
        query = LogQuery.parse({"offset": last, "timestamps": query.timestamps})
    size = log.size
    begin = begin_at(log, query, size)
    headers = log_headers(job, log, begin, begin, size)
    take_place()
    chunks = follow_log(job.id, begin, query.timestamps)
    events = "text/event-stream" in request.headers.get("Accept", "")
    kind = "text/event-stream" if events else "text/plain"
    return long_answer(stream(job.id, begin, chunks, events), kind, headers)


def stream(job_id: str, at: int, chunks: Iterator[Chunk], events: bool) -> Iterator[bytes]:
    """The text, or server-sent events: `data` is a JSON string, because log text contains \\r and
    \\n; `id` is the offset to resume from; the event `gap` reports bytes that no longer exist; the
    events `change` and `end` contain the job."""
    yield b"retry: %d\n\n" % RECONNECT if events else b""  # so that the headers are sent at once
    with suppress(JobNotFound):
        if not events:
            yield from plain_text(chunks)
            return
        for chunk in chunks:
            at = chunk.at
            yield job_event("change", job_id, at) if chunk.is_change else make_event(chunk)
        yield job_event("end", job_id, at)


def job_event(name: str, job_id: str, at: int) -> bytes:
    job = json.dumps(whole_job(state().store.get(job_id)))
    return f"event: {name}\nid: {at}\ndata: {job}\n\n".encode()


def make_event(chunk: Chunk) -> bytes:
    if chunk.gap:
        gap = json.dumps({"from": chunk.gap[0], "to": chunk.gap[1]})
        return f"event: gap\nid: {chunk.at}\ndata: {gap}\n\n".encode()
    if not chunk.data:
        return b": ping\n\n"
    shown = json.dumps(chunk.data.decode(errors="replace"), ensure_ascii=False)
    return f"id: {chunk.at}\ndata: {shown}\n\n".encode()


def plain_text(chunks: Iterator[Chunk]) -> Iterator[bytes]:
    """The bytes, with a separate line for each gap. An empty chunk sends nothing, but lets the
    server notice that the client has disconnected."""
    last = b"\n"
    for chunk in chunks:
        if chunk.gap:
            begin, end = chunk.gap
            message = "the log was truncated" if end < begin else f"{end - begin} bytes missing"
            line = f"[{message}]\n".encode()
            yield line if last == b"\n" else b"\n" + line
            last = b"\n"
        else:
            yield chunk.data
            last = chunk.data[-1:] or last


def follow_log(job_id: str, at: int, timestamps: bool) -> Iterator[Chunk]:
    """The log from an offset on, then new output as the job writes it, until the job has ended.
    JobNotFound if the job is deleted meanwhile."""
    watch, log = state().store.watch(job_id), open_log(job_id)
    sent_at = time.monotonic()
    known = state().store.status(job_id)
    try:
        while True:
            status = state().store.status(job_id)  # before the size
            ended = status in FINISHED
            if at == 0:  # perhaps the job had no log yet when we opened it
                log.close()
                log = open_log(job_id)
            log.holds_back = not ended
            for chunk in read_on(log, at, timestamps, ended):
                yield chunk
                at, sent_at = chunk.at, time.monotonic()
            if ended:
                return
            if status is not known:
                yield Chunk(at, is_change=True)
                known, sent_at = status, time.monotonic()
            has_gone = wait_for_change(watch, KEEPALIVE_INTERVAL)
            if has_gone or time.monotonic() - sent_at > KEEPALIVE_INTERVAL - 1:
                yield Chunk(at)  # if the client has disconnected, the server ends the response
                sent_at = time.monotonic()
    finally:
        watch.close()
        log.close()


def read_on(log: Log, at: int, timestamps: bool, ended: bool) -> Iterator[Chunk]:
    """The chunks of a log from an offset to its current end. `ended`: nothing can follow."""
    if log.is_truncated_below(at):
        size = log.size
        yield Chunk(size, gap=(at, size))
        return
    while True:
        begin, data = log.read(at, log.read_size)
        if begin > at:
            yield Chunk(begin, gap=(at, begin))
        data = trim_partial_utf8(data, ended and len(data) < log.read_size)
        if not data:
            return
        at = begin + len(data)
        yield Chunk(at, log.add_timestamps(begin, data) if timestamps else data)
