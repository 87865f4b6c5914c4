"""A proxy that signs people in, as nginx with oauth2-proxy or Caddy's forward_auth does: it adds
headers with the user's name to each request, and lets WebSockets through."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

END_OF_HEAD = b"\r\n\r\n"


class SigningProxy(ThreadingTCPServer):
    """Forwards to the server at `target` with `headers`, which can be changed at any time."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: str, headers: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.target = urlsplit(target)
        self.headers = dict(headers)
        self.tunnels: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def cut(self) -> None:
        """Closes all connections. Browsers connect again."""
        for tunnel in self.tunnels:
            with suppress(OSError):
                tunnel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shutdown()
        self.cut()
        self.server_close()


class Connection(BaseRequestHandler):
    """One request, or one WebSocket."""

    server: SigningProxy

    def handle(self) -> None:
        with suppress(OSError):
            received = b""
            while END_OF_HEAD not in received:
                data = self.request.recv(1 << 16)
                if not data:
                    return
                received += data
            head, _, body = received.partition(END_OF_HEAD)
            target = self.server.target
            with socket.create_connection((target.hostname, target.port), 30) as upstream:
                self.server.tunnels += [self.request, upstream]
                upstream.sendall(self.sign(head.decode("latin-1")).encode("latin-1") + body)
                carry(self.request, upstream)

    def sign(self, head: str) -> str:
        """The head of the request with the proxy's headers. Only a WebSocket keeps its connection,
        so that no second request follows without them."""
        request, *given = head.split("\r\n")
        is_socket = any(line.lower().startswith("upgrade:") for line in given)
        kept = [line for line in given if is_socket or not line.lower().startswith("connection:")]
        added = [f"{name}: {text}" for name, text in self.server.headers.items()]
        closing = [] if is_socket else ["Connection: close"]
        return "\r\n".join([request, *kept, *added, *closing, "", ""])


def carry(one: socket.socket, other: socket.socket) -> None:
    """Passes on what each sends to the other, until one of them closes."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
