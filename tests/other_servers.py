"""Servers that are not Tailboard's API, or something between a client and the API."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What a client has sent. `path` includes the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


def json_answer(found: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(found).encode(), {"Content-Type": "application/json"})


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextmanager
def serve(respond: Callable[[Request], Answer | None], host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of a server that responds with what `respond` returns; None: it closes the
    connection."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = respond(Request(self.command, self.path, self.headers, body))
            self.close_connection = True
            if answer is None:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, *_: object) -> None:
            pass

    kind = Server6 if ":" in host else ThreadingHTTPServer
    with kind((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_bytes(greeting: bytes) -> Iterator[str]:
    """The URL of a server that sends these bytes to the first client, whatever it asks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
