"""Flask behind granian's ASGI interface.

Flask is a WSGI application, which needs a thread for each request. A client that sends its body or
reads its response slowly must not hold that thread: a hundred such clients would stop the API. So
the event loop receives the whole body and sends the response, and a thread is needed only while
Flask runs: for the head and the first chunk of a response, then for each further chunk. (A client
that follows a log can wait long for the next chunk; hence TAILBOARD_FOLLOWERS.)

What was tried instead, under 900 idle connections, 100 heads sent byte by byte, 90 slow downloads,
and 64 followers beside 1,000 idle connections:
- gunicorn with threads answered no other client under any of the four.
- waitress passed three of them, and was slower.
- granian's own WSGI interface passed all four, but it has no deadline for bodies, and a slow body
  or download still holds a thread.
- a2wsgi was not tried, because it holds a thread while a body arrives.

This file imports nothing about jobs: it can serve any Flask application that has an AppState."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from flask import Flask

from tailboard.errors import StoreError
from tailboard.web.bodies import BodyReader, Receive
from tailboard.web.connections import Connections
from tailboard.web.disconnect import DISCONNECT, Disconnect
from tailboard.web.problems import ERROR_SENTENCES, DownloadBroken
from tailboard.web.server import (
    OTHER_THREADS,
    connection_limit,
    exit_with_parent,
    set_up_listeners,
)
from tailboard.web.state import AppState
from tailboard.web.wsgi import WsgiResponse, make_environ

WAITING_SHARE = 2  # one connection in this many can wait for its client
ACCESS = logging.getLogger("tailboard.access")
# The names of ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html
Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FlaskOverAsgi:
    """The Flask application as an ASGI application."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        state: AppState = app.extensions["tailboard"]
        self.outages = state.outages
        threads = state.settings.followers + OTHER_THREADS
        self.threads = ThreadPoolExecutor(threads, "request")
        self.bodies = BodyReader()
        self.connections = Connections(connection_limit(state.settings) // WAITING_SHARE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.handle_lifespan(receive, send)
        else:
            await self.answer(scope, receive, send)

    async def handle_lifespan(self, receive: Receive, send: Send) -> None:
        """Run the background tasks from the start of the server to its end."""
        await receive()
        tasks = [
            asyncio.create_task(set_up_listeners(self.connections)),
            asyncio.create_task(exit_with_parent()),
        ]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        environ = make_environ(scope)
        environ["wsgi.input"] = await self.bodies.read(environ, receive)
        with self.connections.answering(scope["client"]), closing(Disconnect()) as disconnect:
            environ[DISCONNECT] = disconnect
            await self.answer_complete(scope, environ, receive, send, begun)

    async def answer_complete(
        self, scope: Scope, environ: dict[str, Any], receive: Receive, send: Send, begun: float
    ) -> None:
        """Answer a request whose body has arrived. `begun`: its start, on the monotonic clock."""
        answer = WsgiResponse(self.threads)
        try:
            chunk = await answer.begin(self.app, environ)
        except DownloadBroken as error:
            chunk = await answer.fail(503, f"{error}; try again")
        except StoreError as error:
            self.outages.report(error)
            chunk = await answer.fail(503, f"storage unavailable: {error}")
        except Exception:  # in our own code: Flask answers those of a route
            self.app.logger.exception("no answer to %s %r", scope["method"], scope["raw_path"])
            chunk = await answer.fail(500, ERROR_SENTENCES[500])
        head = {"status": answer.status, "headers": answer.headers}
        await send({"type": "http.response.start"} | head)
        if answer.closed:
            await send({"type": "http.response.body", "body": chunk or b""})
        else:
            try:
                gone = asyncio.create_task(wait_for_disconnect(receive, environ[DISCONNECT]))
                await stream_chunks(answer, chunk, gone, send)
            except StoreError as error:  # the response ends early, and a follower reconnects
                self.outages.report(error)
        log_access(scope, answer, time.monotonic() - begun)


async def stream_chunks(
    answer: WsgiResponse, chunk: bytes | None, gone: asyncio.Task[None], send: Send
) -> None:
    """Send the chunks until the end, or until the task `gone` ends because the client has
    disconnected. The next chunk is made when the client has taken the ones before."""
    try:
        while chunk is not None and not gone.done():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await answer.next_chunk()
    except DownloadBroken as error:
        ACCESS.info("interrupted: %s", error)
        return  # omits the final message, so the server closes the connection
    finally:
        gone.cancel()
        await answer.close()
    await send({"type": "http.response.body", "body": b""})


async def wait_for_disconnect(receive: Receive, disconnect: Disconnect) -> None:
    """Return when the client has disconnected, and wake the thread that waits for something to send
    to it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    disconnect.report()


def log_access(scope: Scope, answer: WsgiResponse, seconds: float) -> None:
    """Log a request without its query, which can contain a ticket."""
    path = scope["raw_path"].decode("latin-1")  # as the client sent it
    asked = f'{scope["client"][0]} "{scope["method"]} {path}"'
    ACCESS.info("%s %d %d bytes %.0f ms", asked, answer.status, answer.size, seconds * 1000)
