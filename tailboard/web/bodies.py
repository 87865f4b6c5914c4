"""Receiving the bodies of requests: their limits, and the errors if one does not arrive.

The event loop receives a body as a whole before a thread runs Flask, so a client that sends slowly
holds no thread."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

BODY_TIME = 10  # seconds for a whole body
MAX_BODY_BYTES = 1 << 20
MAX_BODIES_BYTES = 64 << 20  # of all arriving bodies; above it only small ones may grow
SMALL_BODY_BYTES = 64 << 10
Receive = Callable[[], Awaitable[dict[str, Any]]]


class BodyBroken(Exception):
    """The client disconnected halfway through a body, or sent invalid chunks."""


class BodyLate(Exception):
    """The body did not arrive in time."""


class BodiesTooMany(Exception):
    """The request bodies that are arriving now take up too much memory."""


class FailedBody:
    """A file that replaces a body that did not arrive. Flask reads it while it handles the request,
    so the error is sent only after the request has been authorized."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int = -1) -> NoReturn:
        raise self.error

    readinto = readline = read


class BodyReader:
    """Receives the bodies of all requests, within limits of time and memory."""

    def __init__(self) -> None:
        self.arriving_bytes = 0  # received of all bodies that are not complete

    async def read(self, environ: Mapping[str, Any], receive: Receive) -> io.BytesIO | FailedBody:
        """The body as a file. If it did not arrive, reading the file raises the reason."""
        if not environ.keys() & {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}:
            return io.BytesIO()
        if int(environ.get("CONTENT_LENGTH", 0)) > MAX_BODY_BYTES:
            return io.BytesIO()  # Flask answers 413 without reading it
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME):
                await self._receive_all(body, receive)
        except TimeoutError:
            return FailedBody(BodyLate())
        except (BodyBroken, BodiesTooMany) as error:
            return FailedBody(error)
        finally:
            self.arriving_bytes -= len(body)
        return io.BytesIO(body)

    async def _receive_all(self, body: bytearray, receive: Receive) -> None:
        """Fill `body`. Stops a little above MAX_BODY_BYTES: Flask then answers 413."""
        more = True
        while more and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                raise BodyBroken
            body += message["body"]
            self.arriving_bytes += len(message["body"])
            if len(body) > SMALL_BODY_BYTES and self.arriving_bytes > MAX_BODIES_BYTES:
                raise BodiesTooMany
            more = message["more_body"]
