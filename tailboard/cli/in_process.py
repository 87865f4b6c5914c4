"""The transport of the commands for a local folder: it calls the Flask application in this process
instead of sending HTTP. So the commands need no running API, and have only one code path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from flask import Flask
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tailboard.web.auth import COMMAND_USER
from tailboard.web.problems import DownloadBroken

LOCAL_URL = "http://localhost"  # is not connected to: the session has an adapter for it


class InProcessAdapter(BaseAdapter):
    """Responds to a request of a `requests.Session` by calling a WSGI application."""

    def __init__(self, app: Flask, user: str) -> None:
        super().__init__()
        self.app, self.user = app, user

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        builder = EnvironBuilder(
            path=request.path_url,
            base_url=LOCAL_URL,
            method=request.method or "GET",
            headers=Headers(list(request.headers.items())),
            data=request.body,
            environ_base={COMMAND_USER: self.user, "REMOTE_ADDR": "127.0.0.1"},
        )
        environ = builder.get_environ()
        # The builder would replace bytes that are not UTF-8, which the name of a file can have.
        path = unquote_to_bytes(urlsplit(request.path_url).path)
        environ["PATH_INFO"] = path.decode("latin-1")
        with explaining_breaks():
            chunks, status, headers = run_wsgi_app(self.app, environ)
        response = requests.Response()
        response.request, response.url = request, str(request.url)
        code, _, response.reason = status.partition(" ")
        response.status_code = int(code)
        response.headers = CaseInsensitiveDict(headers.items())
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = Body(chunks)
        return response

    def close(self) -> None:
        """Nothing to close: there are no connections."""


@contextmanager
def explaining_breaks() -> Iterator[None]:
    """Raise what `requests` raises for a response that ends too early."""
    try:
        yield
    except DownloadBroken as error:
        raise requests.exceptions.ChunkedEncodingError(error) from None


class Body:
    """The body of a response, as requests reads it: chunk by chunk, as the application makes
    them."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks

    def stream(self, _size: int | None, decode_content: bool = True) -> Iterator[bytes]:
        try:
            with explaining_breaks():
                yield from self.chunks
        finally:
            self.close()  # requests does not close a body that it has read completely

    def close(self) -> None:
        close = getattr(self.chunks, "close", None)
        if close is not None:
            close()

    release_conn = close
