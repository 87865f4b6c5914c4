"""The HTTP server: its address, limits, listening sockets, and second process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import socket
from contextlib import suppress
from typing import Any

import psutil
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import AbstractServer

from tailboard.addresses import check_address
from tailboard.settings import Settings, parse_bind
from tailboard.web.connections import Connections

HEADER_TIME = 10  # seconds for all headers of a request, and until an idle connection is closed
STOP_TIME = 2  # seconds for requests to end once the server stops; followers reconnect
MAX_HEAD_BYTES = 64 << 10
CLIENT_TIME = 30  # seconds for a client to read the next bytes, or to prove that it is alive
MAX_CONNECTIONS = 4_000
OTHER_THREADS = 36  # in addition to those of the followers
DESCRIPTORS = 4  # of each follower, and of each other thread
M_ARENA_MAX = -8  # in malloc.h; see mallopt(3)
MAX_HEAPS = 2


def make_server(address: tuple[str, int], connections: int) -> AbstractServer[Any]:
    """The server for an IP address and a port, with at most this many connections. It runs the
    application in a second process."""
    host, port = address
    return Granian(
        "api",  # only its name: `target_loader` of `serve` returns the application
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(HEADER_TIME * 1000, max_buffer_size=MAX_HEAD_BYTES),
        websockets=False,
        backpressure=connections,
        workers_kill_timeout=STOP_TIME,
        log_level=LogLevels.error,
    )


def resolve_bind(bind: str) -> tuple[str, int]:
    """The IP address and the port of HOST:PORT. ValueError, with a one-sentence message, if it is
    malformed or cannot be used, for example because another server uses it."""
    host, port = parse_bind(bind)
    try:
        return check_address(host, port), port
    except OSError as error:
        raise ValueError(f"TAILBOARD_BIND: {bind} cannot be used: {error.strerror}") from None


def connection_limit(settings: Settings) -> int:
    """How many connections the server can have at a time. ValueError if this process is not allowed
    to open enough files."""
    threads = settings.followers + OTHER_THREADS
    limit = raise_descriptor_limit()
    connections = limit - DESCRIPTORS * threads
    if connections < threads:
        raise ValueError(
            f"TAILBOARD_FOLLOWERS={settings.followers} needs {threads * (DESCRIPTORS + 1)} open "
            f"files, and the limit is {limit} (ulimit -n)"
        )
    return min(connections, MAX_CONNECTIONS)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files as far as allowed, and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS reports unlimited and allows less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft


def share_heaps() -> None:
    """Make all threads allocate from the same heaps. By default glibc gives each thread a heap, and
    each heap keeps the space of the longest list that its thread ever made."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_HEAPS)


async def set_up_listeners(connections: Connections) -> None:
    """Wait for the server's listening sockets and set them up. Then print the address, because
    clients can connect from now on, and watch the connections."""
    while not (listeners := listening_sockets()):
        await asyncio.sleep(0.01)
    set_client_timeouts(listeners)
    host, port = listeners[0].getsockname()[:2]
    print(f"api: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    for listener in listeners:
        listener.close()
    await connections.watch(port)


def listening_sockets() -> list[socket.socket]:
    """Copies of the sockets on which this process listens; granian does not hand them out."""
    found = psutil.Process().net_connections("tcp")
    fds = [connection.fd for connection in found if connection.status == psutil.CONN_LISTEN]
    return [socket.socket(fileno=os.dup(fd)) for fd in fds]


def set_client_timeouts(listeners: list[socket.socket]) -> None:
    """Make the kernel close connections whose client reads nothing or has vanished. Accepted
    connections inherit the timeouts of the listening socket."""
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout = CLIENT_TIME * 1000
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_TIME)


async def exit_with_parent() -> None:
    """Exit when the server's first process has exited. It stops this process before it exits, but
    not if it is killed: then this process would continue to run and keep the port."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    os._exit(1)
