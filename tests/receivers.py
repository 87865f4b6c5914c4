"""Servers that receive messages, for tests: HTTP and mail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from conftest import free_port


class Post(NamedTuple):
    """A request that a receiver got."""

    method: str
    path: str
    body: bytes


class Receiver(ThreadingHTTPServer):
    """An HTTP server. What it answers depends on how the path begins: /refuse, /moved-STATUS,
    /hang (nothing, until the receiver is closed); anything else is accepted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posts: list[Post] = []
        self.is_closed = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"

    def json_url(self, path: str) -> str:
        """The URL for Apprise. Its user and its password must not become known."""
        return f"json://someuser:s3cretword@{self.host}{path}"

    def paths(self, begin: str = "") -> list[str]:
        return [post.path for post in self.posts if post.path.startswith(begin)]

    def messages(self, path: str) -> list[dict[str, Any]]:
        """The messages that Apprise has sent to a path."""
        return [json.loads(post.body) for post in self.posts if post.path == path]

    def titles(self, path: str) -> list[str]:
        return [message["title"] for message in self.messages(path)]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.answer(Post("POST", self.path, body))

    def do_GET(self) -> None:
        self.answer(Post("GET", self.path, b""))

    def answer(self, post: Post) -> None:
        self.server.posts.append(post)
        kind = post.path.split("/")[1]
        if kind == "hang":
            self.server.is_closed.wait()
        status = {"refuse": 500, "moved-302": 302, "moved-307": 307}.get(kind, 200)
        self.send_response(status)
        if kind.startswith("moved"):
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.is_closed.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Mailbox:
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def url(self, to: str) -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=tailboard@example.org&to={to}&mode=insecure"


@contextmanager
def mail_receiver() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    try:
        yield mailbox
    finally:
        mailbox.controller.stop()
