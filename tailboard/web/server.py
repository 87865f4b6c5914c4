"""The HTTP server: its sockets, limits and connections."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import logging
import os
import re
import resource
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tailboard.settings import Settings

CLIENT_TIME = 30  # seconds for a client to take the next bytes, or to prove that it lives
MAX_CONNECTIONS = 4_000
WATCH_INTERVAL = 0.25  # seconds between looks at how many wait
OTHER_THREADS = 36  # beside the followers'
M_ARENA_MAX = -8  # in malloc.h; see mallopt(3)
MAX_HEAPS = 2
OPEN_FILES = "/dev/fd"  # a folder of the process's descriptors
LOG_INTERVAL = 60.0  # seconds between two lines about closed connections
DESCRIPTORS = 4  # of each follower, and of each other thread
Peer = tuple[str, int]  # the address and port of a client


class Connections:
    """Closes connections if too many wait for their clients: for a request, or for the rest of its
    head or body. A client needs no token to open them, and the server has a limited number. Those
    of the address that has the most are closed first, and of these the oldest: a well-behaved
    client sends its request at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # connections that may wait
        self.busy: set[Peer] = set()  # clients whose requests are being answered
        self.known: list[Peer] = []  # clients that waited at the last look, the oldest first
        self.closed = 0  # since the last line in the log
        self.logged_at = -LOG_INTERVAL  # on the monotonic clock

    @contextmanager
    def answering(self, client: Sequence[Any]) -> Iterator[None]:
        """For the time in which this client waits for the server, and not the reverse."""
        peer = client[0], int(client[1])  # granian gives the port as text
        self.busy.add(peer)
        try:
            yield
        finally:
            self.busy.discard(peer)

    async def watch(self, port: int) -> None:
        """Close the excess connections to our `port` until the server ends."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            with suppress(OSError):  # no descriptor is free to look with: try again
                if len(os.listdir(OPEN_FILES)) > self.limit:  # else there can be no excess
                    await asyncio.to_thread(self._close_excess, port)

    def _close_excess(self, port: int) -> None:
        found = client_sockets(port)
        busy = self.busy.copy()
        waiting = {peer: fd for peer, fd in found.items() if peer not in busy}
        known = [peer for peer in self.known if peer in waiting]
        self.known = known + list(waiting.keys() - set(known))
        excess = excess_peers(self.known, len(waiting) - self.limit)
        for peer in excess:
            close_connection(waiting[peer], peer)
        self._log(excess)

    def _log(self, closed: list[Peer]) -> None:
        self.closed += len(closed)
        now = time.monotonic()
        if closed and now >= self.logged_at + LOG_INTERVAL:
            logging.getLogger("tailboard").warning(
                "closed %d connections that waited for their clients, the last of %s",
                self.closed,
                closed[-1][0],
            )
            self.closed, self.logged_at = 0, now


def excess_peers(peers: Sequence[Peer], count: int) -> list[Peer]:
    """`count` of these peers: each time the first one of the address that has the most left."""
    by_address: dict[str, deque[Peer]] = {}
    for peer in peers:
        by_address.setdefault(peer[0], deque()).append(peer)
    heap = [(-len(theirs), address) for address, theirs in by_address.items()]
    heapq.heapify(heap)
    chosen: list[Peer] = []
    while heap and len(chosen) < count:
        left, address = heapq.heappop(heap)
        chosen.append(by_address[address].popleft())
        if left < -1:
            heapq.heappush(heap, (left + 1, address))
    return chosen


def client_sockets(port: int) -> dict[Peer, int]:
    """The descriptors of the connections that clients have made to our port."""
    found = {}
    for name in os.listdir(OPEN_FILES):
        with suppress(OSError):  # not a socket, not connected, or just closed
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, int(name))
            try:
                ours, peer = connection.getsockname(), connection.getpeername()
            finally:
                connection.detach()  # the server's: it closes it
            if isinstance(peer, tuple) and ours[1] == port:
                found[peer[0], peer[1]] = int(name)
    return found


def close_connection(fd: int, peer: Peer) -> None:
    """Close the connection with this client; the server notices that it has ended."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        if connection.getpeername()[:2] == peer:  # else the number is another connection's by now
            connection.shutdown(socket.SHUT_RDWR)


async def set_up_listeners(connections: Connections) -> None:
    """Set up the listening sockets as soon as they exist, and print the address: from now on
    clients can connect, and their connections are watched."""
    while not (listeners := listening_sockets()):
        await asyncio.sleep(0.01)
    bound_clients(listeners)
    host, port = listeners[0].getsockname()[:2]
    print(f"api: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    for listener in listeners:
        listener.close()
    await connections.watch(port)


def bound_clients(listeners: list[socket.socket]) -> None:
    """Close connections whose client reads nothing or has vanished: accepted connections inherit
    the time-outs of the listening socket."""
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout = CLIENT_TIME * 1000
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_TIME)


def listening_sockets() -> list[socket.socket]:
    found = psutil.Process().net_connections("tcp")
    fds = [connection.fd for connection in found if connection.status == psutil.CONN_LISTEN]
    return [socket.socket(fileno=os.dup(fd)) for fd in fds]


async def leave_with_parent() -> None:
    """End with the server's first process: it watches this one, but where it is killed, this one
    would go on and keep the port."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    os._exit(1)


def share_heaps() -> None:
    """Make all threads allocate from the same heaps. glibc would give each thread its own, and each
    heap would keep the space of the longest list that its thread ever made."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_HEAPS)


def resolve_bind(bind: str) -> tuple[str, int]:
    """`host:port` as an IP address and a port that are free; ValueError."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s\[\]:/,]*)):([0-9]{1,5})", bind)
    if not found or not 0 < int(found[3]) < 65_536:
        allowed = "HOST:PORT with a port from 1 to 65535"
        raise ValueError(f"TAILBOARD_BIND must be {allowed}, not {bind!r:.80}")
    host, port = found[1] or found[2] or "0.0.0.0", int(found[3])
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The server would share the port with another server that allows it, such as one of ours.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(f"TAILBOARD_BIND: {bind} cannot be used: {error.strerror}") from None
    return str(address[0]), port


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as is allowed, and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS says unlimited and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_CONNECTIONS * 2 if soft == resource.RLIM_INFINITY else soft


def connection_limit(settings: Settings) -> int:
    """How many connections the server has at a time; ValueError if too few files may be open."""
    threads = settings.followers + OTHER_THREADS
    limit = raise_descriptor_limit()
    connections = limit - DESCRIPTORS * threads
    if connections < threads:
        raise ValueError(
            f"TAILBOARD_FOLLOWERS={settings.followers} needs {threads * (DESCRIPTORS + 1)} open "
            f"files, and the limit is {limit} (ulimit -n)"
        )
    return min(connections, MAX_CONNECTIONS)
