"""Responses that continue until something happens: they hold a follower's place, and JSON among
them begins with white space."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from flask import Response, abort, stream_with_context

from tailboard.web.state import state

WHITE_SPACE = b"\n"  # before JSON: it lets the server and the client see that the other is alive
SPACE_INTERVAL = 1.0  # seconds between white space while an answer is prepared in steps
NO_BUFFERING = {"X-Accel-Buffering": "no"}  # for nginx: send each chunk at once
T = TypeVar("T")


def take_place() -> None:
    """Take one of the followers' places; 503 if none is free. `long_answer` gives it back."""
    if not state().followers.acquire(blocking=False):
        abort(503, "too many clients are following logs or waiting for jobs; try again later")


def long_answer(
    body: Iterator[bytes], kind: str, headers: dict[str, str] | None = None
) -> Response:
    """The response to a request that has a follower's place, which is free again when the response
    ends or the client disconnects."""
    headers = (headers or {}) | NO_BUFFERING
    response = Response(stream_with_context(body), headers=headers, mimetype=kind)
    response.call_on_close(state().followers.release)
    return response


def with_white_space(steps: Generator[None, None, T]) -> Generator[bytes, None, T]:
    """White space while these steps are taken. Returns their result. Each step is followed by a
    chunk, if only by an empty one, so that the thread is free in between."""
    yield b""  # so that the headers are sent at once
    sent_at = time.monotonic()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() - sent_at > SPACE_INTERVAL:
            yield WHITE_SPACE
            sent_at = time.monotonic()
        else:
            yield b""


def encode_json(answer: dict[str, Any]) -> bytes:
    """The JSON of a response, as Flask sends it."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
