"""Requests and responses in WSGI's form (PEP 3333), for an application that is called in
threads."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask

from tailboard.web.problems import RETRY_AFTER, encode_problem
from tailboard.web.proxy_user import RAW_HEADERS


class WsgiResponse:
    """The application's response to one request: its head, then its body chunk by chunk. A thread
    makes one chunk and is free again while the event loop sends it."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        # One context for all steps, whichever thread runs them: Flask stores its context there.
        self.context = contextvars.copy_context()
        self.status, self.size = 500, 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: Any = ()
        self.chunks: Iterator[bytes] = iter(())
        self.closed = False

    async def begin(self, app: Flask, environ: dict[str, Any]) -> bytes | None:
        """Make the head and the first chunk, and return the chunk; None if the body is empty. If
        that is the whole body, `closed` is true."""
        return await self._step(self._begin, app, environ)

    async def fail(self, status: int, detail: str) -> bytes:
        """Answer with problem details instead, because `begin` failed; returns the body."""
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
        """The next chunk of the body; None at its end."""
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


def make_environ(scope: dict[str, Any]) -> dict[str, Any]:
    """The WSGI environment of a request whose ASGI scope this is. It lacks `wsgi.input`."""
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
        RAW_HEADERS: scope["headers"],
    }
    for name, value in scope["headers"]:
        if b"_" in name:  # it would be mistaken for the header with a hyphen
            continue
        variable = name.decode("latin-1").upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        before = f"{environ[variable]}," if variable in environ else ""
        environ[variable] = before + value.decode("latin-1")
    return environ
