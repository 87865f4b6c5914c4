"""The connections of clients, and which of them to close if too many are waiting."""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

WATCH_INTERVAL = 0.25  # seconds between checks of how many are waiting
OPEN_FILES = "/dev/fd"  # a folder of the process's descriptors
LOG_INTERVAL = 60.0  # seconds between two lines about closed connections
Peer = tuple[str, int]  # the address and port of a client


class Connections:
    """Closes connections if too many wait for their clients: for a request, or for the rest of one.
    A client needs no token to open connections, and the server can have a limited number of them.
    The address with the most connections loses its oldest ones first: a well-behaved client sends
    its request immediately."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # connections that may wait
        self.busy: set[Peer] = set()  # clients whose requests are being answered
        self.known: list[Peer] = []  # clients that were waiting at the last check, the oldest first
        self.closed = 0  # since the last line in the log
        self.logged_at = -LOG_INTERVAL  # on the monotonic clock

    @contextmanager
    def answering(self, client: Sequence[Any]) -> Iterator[None]:
        """Do not close this client's connection meanwhile: the client is waiting for us."""
        peer = client[0], int(client[1])  # granian has the port as text
        self.busy.add(peer)
        try:
            yield
        finally:
            self.busy.discard(peer)

    async def watch(self, port: int) -> None:
        """Close the excess connections to our `port` until the server ends."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            with suppress(OSError):  # no free descriptor for the check: try again later
                if len(os.listdir(OPEN_FILES)) > self.limit:  # else no connection must be closed
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
                "closed %d connections that were waiting for their clients, most recently %s",
                self.closed,
                closed[-1][0],
            )
            self.closed, self.logged_at = 0, now


def excess_peers(peers: Sequence[Peer], count: int) -> list[Peer]:
    """`count` of these peers: repeatedly the first peer of the address that has the most left."""
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
    """The descriptors of the connections of clients to our port."""
    found = {}
    for name in os.listdir(OPEN_FILES):
        with suppress(OSError):  # not a socket, not connected, or just closed
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, int(name))
            try:
                ours, peer = connection.getsockname(), connection.getpeername()
            finally:
                connection.detach()  # the server keeps the descriptor
            if isinstance(peer, tuple) and ours[1] == port:
                found[peer[0], peer[1]] = int(name)
    return found


def close_connection(fd: int, peer: Peer) -> None:
    """Shut down the connection of this client; the server then notices its end and closes it."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        if connection.getpeername()[:2] == peer:  # otherwise the number now belongs to another one
            connection.shutdown(socket.SHUT_RDWR)
