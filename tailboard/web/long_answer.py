"""Responses that continue until something happens: they hold a follower's place, and JSON among
them begins with white space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, abort, stream_with_context

from tailboard.web.state import state

WHITE_SPACE = b"\n"  # before JSON: it lets the server and the client see that the other is alive
NO_BUFFERING = {"X-Accel-Buffering": "no"}  # for nginx: send each chunk at once


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


def encode_json(answer: dict[str, Any]) -> bytes:
    """The JSON of a response, as Flask sends it."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
