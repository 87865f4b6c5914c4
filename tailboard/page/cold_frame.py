"""The frame of the page in the HTML document itself: a header bar, a list and a pane in the right
theme. The visitor sees it until Streamlit and the components have loaded, some 2 s later."""

from __future__ import annotations

import hashlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailboard.page.components import read_static

BODY_RE = re.compile(rb"<body[^>]*>", re.IGNORECASE)
STYLES = ("theme.css", "page.css", "cold_frame.css")
# They refer to the document without the frame.
CONDITIONS = ("If-None-Match", "If-Modified-Since", "Range", "Accept-Encoding")


class ColdFrame:
    """ASGI middleware: inserts the frame into the document that Streamlit sends for each page. Any
    other response passes unchanged, and so does a document without a body element."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_navigation(scope):
            await self.app(scope, receive, send)
            return
        known = Headers(scope=scope).get("If-None-Match", "")
        framed = FramedResponse(send, known, has_body=scope["method"] == "GET")
        await self.app(unconditional(scope), receive, framed.send)


def is_navigation(scope: Scope) -> bool:
    """Does a browser load a document with this request?"""
    is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    return is_read and "text/html" in Headers(scope=scope).get("Accept", "")


def unconditional(scope: Scope) -> Scope:
    """The same request for a whole, uncompressed document."""
    inner = {**scope, "method": "GET", "headers": list(scope["headers"]), "extensions": {}}
    headers = MutableHeaders(scope=inner)
    for name in CONDITIONS:
        del headers[name]
    return inner


class FramedResponse:
    """Sends a response and inserts the frame if it is a document. `known` is the If-None-Match of
    the request; `has_body` is False for HEAD."""

    def __init__(self, send: Send, known: str, has_body: bool) -> None:
        self.pass_on, self.known, self.has_body = send, known, has_body
        self.start: Message | None = None  # of a document, held back until its length is known
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and is_document(message):
            self.start = message
        elif self.start is None:
            await self.pass_on(message if self.has_body else without_body(message))
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self.finish(self.start)

    async def finish(self, start: Message) -> None:
        body = insert_frame(self.body)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = MutableHeaders(scope=start)
        del headers["Last-Modified"]  # Streamlit's files change less often than the frame
        del headers["Accept-Ranges"]
        headers["ETag"] = etag
        headers["Content-Length"] = str(len(body))
        headers.add_vary_header("Accept")
        if etag in self.known:
            del headers["Content-Length"]
            start, body = {**start, "status": 304}, b""
        await self.pass_on(start)
        await self.pass_on({"type": "http.response.body", "body": body if self.has_body else b""})


def is_document(start: Message) -> bool:
    headers = Headers(scope=start)
    is_html = headers.get("Content-Type", "").startswith("text/html")
    return start["status"] == 200 and is_html and "Content-Encoding" not in headers


def without_body(message: Message) -> Message:
    return {**message, "body": b""} if "body" in message else message


def insert_frame(document: bytes) -> bytes:
    """The document with the frame at the beginning of its body."""
    body = BODY_RE.search(document)
    if body is None:
        return document
    return document[: body.end()] + frame_html().encode() + document[body.end() :]


def frame_html() -> str:
    """Read at each visit, so that an upgrade needs no restart of the page's server."""
    style = "".join(read_static(name) for name in STYLES)
    return f"<style>{style}</style>{read_static('cold_frame.html')}"
