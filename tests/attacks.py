"""Clients that can harm a careless server. All are bounded, and on loopback."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from conftest import Site
from web import stalled

HEADER = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
PAUSE = 0.2  # seconds between two bytes, or two reads
SIP = 4_096  # bytes


def allow_sockets() -> None:
    """Raises the limit on descriptors: these clients need more than a shell allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def connections(site: Site, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    allow_sockets()
    with ExitStack() as stack:
        yield [stack.enter_context(site.connect(data)) for _ in range(count)]


@contextmanager
def connections_from(site: Site, addresses: list[str], count: int, data: bytes) -> Iterator[None]:
    """Opens this many connections from these addresses of this machine, in turn."""
    allow_sockets()
    host, port = site.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for number in range(count):
            source = (addresses[number % len(addresses)], 0)
            client = socket.create_connection((host, int(port)), 30, source)
            stack.enter_context(client).sendall(data)
        yield


@contextmanager
def again_and_again(act: Callable[[], None]) -> Iterator[None]:
    """Something that a client does repeatedly in the background."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(PAUSE):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def try_all(clients: list[socket.socket], act: Callable[[socket.socket], object]) -> None:
    for client in clients:
        try:
            act(client)
        except OSError:
            pass  # the server has closed it


@contextmanager
def idle(site: Site, count: int = 900) -> Iterator[None]:
    """Connections that send nothing."""
    with connections(site, count):
        yield


@contextmanager
def slow_headers(site: Site, count: int = 100) -> Iterator[None]:
    """Requests whose headers arrive byte by byte."""
    with connections(site, count, HEADER) as clients:
        with again_and_again(lambda: try_all(clients, lambda client: client.send(b"x"))):
            yield


@contextmanager
def slow_bodies(site: Site, count: int = 200) -> Iterator[None]:
    """Requests whose body arrives byte by byte."""
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with connections(site, count, head + b"Content-Length: 99999\r\n\r\n ") as clients:
        with again_and_again(lambda: try_all(clients, lambda client: client.send(b" "))):
            yield


@contextmanager
def slow_downloads(site: Site, job_id: str, count: int = 150) -> Iterator[None]:
    """Downloads by clients that read slowly."""
    request = f"GET /jobs/{job_id}/logs?download=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with connections(site, count, request) as clients:
        with again_and_again(lambda: try_all(clients, lambda client: client.recv(SIP))):
            yield


@contextmanager
def followers(site: Site, job_id: str, count: int = 64) -> Iterator[list[socket.socket]]:
    """Followers of a log, each of which takes a place."""
    allow_sockets()
    with ExitStack() as stack:
        path = f"/jobs/{job_id}/logs?follow=1"
        yield [stack.enter_context(stalled(site, path)) for _ in range(count)]
