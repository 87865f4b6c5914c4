"""Flask behind an ASGI server."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask

from tailboard.errors import StoreError
from tailboard.web.log_read import DownloadBroken
from tailboard.web.problems import (
    ERROR_SENTENCES,
    MAX_BODY_BYTES,
    RETRY_AFTER,
    BodiesTooMany,
    BodyBroken,
    BodyLate,
    encode_problem,
)
from tailboard.web.server import (
    OTHER_THREADS,
    Connections,
    connection_limit,
    leave_with_parent,
    set_up_listeners,
)
from tailboard.web.state import AppState

BODY_TIME = 10  # seconds for a whole body
MAX_BODIES_BYTES = 64 << 20  # of all that arrive at a time; above that only small ones are taken
SMALL_BODY_BYTES = 64 << 10
WAITING_SHARE = 2  # of all connections, one in so many may wait for its client
ACCESS = logging.getLogger("tailboard.access")
# What ASGI calls them: https://asgi.readthedocs.io/en/latest/specs/www.html
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FlaskOverAsgi:
    """The Flask application as an ASGI application. Bytes are received and sent in the event loop,
    so that a slow client holds no thread; Flask itself runs in threads."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        state: AppState = app.extensions["tailboard"]
        self.outages = state.outages
        threads = state.settings.followers + OTHER_THREADS
        self.threads = ThreadPoolExecutor(threads, "request")
        self.bodies_bytes = 0  # of the bodies that arrive now
        self.connections = Connections(connection_limit(state.settings) // WAITING_SHARE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        else:
            await self.answer(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """The background tasks, from the server's start to its end."""
        await receive()
        tasks = [
            asyncio.create_task(set_up_listeners(self.connections)),
            asyncio.create_task(leave_with_parent()),
        ]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        environ = make_environ(scope)
        environ["wsgi.input"] = await self.read_body(environ, receive)
        with self.connections.answering(scope["client"]):
            await self.answer_whole(scope, environ, receive, send, begun)

    async def answer_whole(
        self, scope: Scope, environ: dict[str, Any], receive: Receive, send: Send, begun: float
    ) -> None:
        """Answer a request whose body has arrived."""
        answer = WsgiResponse(self.threads)
        try:
            chunk = await answer.begin(self.app, environ)
        except DownloadBroken:
            chunk = await answer.fail(503, "the log has lost its beginning meanwhile; try again")
        except StoreError as error:
            self.outages.report(error)
            chunk = await answer.fail(503, f"the storage cannot do that now: {error}")
        except Exception:  # of ours: Flask itself answers those of a route
            self.app.logger.exception("no answer to %s %r", scope["method"], scope["raw_path"])
            chunk = await answer.fail(500, ERROR_SENTENCES[500])
        head = {"status": answer.status, "headers": answer.headers}
        await send({"type": "http.response.start"} | head)
        if answer.closed:
            await send({"type": "http.response.body", "body": chunk or b""})
        else:
            try:
                await stream_chunks(answer, chunk, receive, send)
            except StoreError as error:  # the answer breaks off: a follower reconnects
                self.outages.report(error)
        log_access(scope, answer, time.monotonic() - begun)

    async def read_body(self, environ: dict[str, Any], receive: Receive) -> Any:
        """The body as a file. Where it did not arrive, reading the file raises the reason."""
        if not environ.keys() & {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}:
            return io.BytesIO()
        if int(environ.get("CONTENT_LENGTH", 0)) > MAX_BODY_BYTES:
            return io.BytesIO()  # Flask answers 413 without reading it
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIME):
                await self.receive_body(body, receive)
        except TimeoutError:
            return FailedBody(BodyLate())
        except (BodyBroken, BodiesTooMany) as error:
            return FailedBody(error)
        finally:
            self.bodies_bytes -= len(body)
        return io.BytesIO(body)

    async def receive_body(self, body: bytearray, receive: Receive) -> None:
        """Fill `body`, up to a little more than Flask takes."""
        more = True
        while more and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                raise BodyBroken
            body += message["body"]
            self.bodies_bytes += len(message["body"])
            if len(body) > SMALL_BODY_BYTES and self.bodies_bytes > MAX_BODIES_BYTES:
                raise BodiesTooMany
            more = message["more_body"]


async def stream_chunks(
    answer: WsgiResponse, chunk: bytes | None, receive: Receive, send: Send
) -> None:
    """Send chunk after chunk, each when the client has taken those before, until the end or until
    the client is gone."""
    gone = asyncio.create_task(disconnected(receive))
    try:
        while chunk is not None and not gone.done():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await answer.next_chunk()
    except DownloadBroken as error:
        ACCESS.info("broken off: %s", error)
        return  # before its end, upon which the server closes the connection
    finally:
        gone.cancel()
        await answer.close()
    await send({"type": "http.response.body", "body": b""})


async def disconnected(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def log_access(scope: Scope, answer: WsgiResponse, seconds: float) -> None:
    path = scope["raw_path"].decode("latin-1")  # as it was sent; and no query, which holds tickets
    asked = f'{scope["client"][0]} "{scope["method"]} {path}"'
    ACCESS.info("%s %d %d bytes %.0f ms", asked, answer.status, answer.size, seconds * 1000)


class FailedBody:
    """A body that did not arrive: reading it raises the reason."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int = -1) -> bytes:
        raise self.error

    readinto = readline = read


class WsgiResponse:
    """One WSGI answer (PEP 3333): its head, then its body chunk by chunk. A thread makes one chunk
    and is free again while the chunk is sent."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        # One context for all steps, whichever threads take them: Flask keeps its own there.
        self.context = contextvars.copy_context()
        self.status, self.size = 500, 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: Any = ()
        self.chunks: Iterator[bytes] = iter(())
        self.closed = False

    async def begin(self, app: Flask, environ: dict[str, Any]) -> bytes | None:
        """The head, and the first piece; where that is all, the body is closed."""
        return await self._step(self._begin, app, environ)

    async def fail(self, status: int, detail: str) -> bytes:
        """Answer with problem details, if the first piece is not available."""
        body = encode_problem(status, HTTPStatus(status).phrase, detail)
        self.status, self.size = status, len(body)
        self.headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
        ]
        if status == 503:
            self.headers.append((b"retry-after", RETRY_AFTER.encode()))
        await self.close()
        return body

    async def next_chunk(self) -> bytes | None:
        return await self._step(self._next)

    async def close(self) -> None:
        await self._step(self._close)

    async def _step(self, function: Callable[..., bytes | None], *args: Any) -> bytes | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self.context.run, function, *args)

    def _begin(self, app: Flask, environ: dict[str, Any]) -> bytes | None:
        self.body = app(environ, self._start)  # type: ignore[arg-type]  # Flask needs no write()
        self.chunks = iter(self.body)
        chunk = self._next()
        length = dict(self.headers).get(b"content-length")
        if chunk is None or length == b"%d" % len(chunk):
            self._close()
        return chunk

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status.split()[0])
        self.headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers]

    def _next(self) -> bytes | None:
        chunk = next(self.chunks, None)
        self.size += len(chunk or b"")
        return chunk

    def _close(self) -> None:
        self.closed = True
        if hasattr(self.body, "close"):
            self.body.close()


def make_environ(scope: Scope) -> dict[str, Any]:
    """The WSGI environment of a request that came by ASGI."""
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input_terminated": True,  # it ends where the body ends
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:  # would look like another that has a hyphen
            continue
        variable = name.decode("latin-1").upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        before = f"{environ[variable]}," if variable in environ else ""
        environ[variable] = before + value.decode("latin-1")
    return environ
