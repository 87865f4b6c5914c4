"""A TCP proxy that stalls, drops, delays and half-opens connections, as networks do."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Forwards connections to a port of this machine, until it is stopped."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.flows = threading.Event()  # if cleared, nothing passes and neither end is notified
        self.flows.set()
        self.delay = 0.0  # seconds for each piece
        self.drops_answers = threading.Event()  # if set, responses and their connections are lost
        self.loses = b""  # the response to the next request that begins so is lost, once
        self.holds = b""  # a request that begins so is not forwarded
        self.closing = threading.Event()
        self.abandoned = 0.0  # connections made before this time no longer carry anything
        self.guard = threading.Lock()
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def stall(self) -> None:
        self.flows.clear()

    def go_on(self) -> None:
        self.flows.set()

    def drop(self) -> None:
        """Resets every connection; new ones are accepted."""
        with self.guard:
            for connection in self.open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def half_open(self) -> None:
        """Forgets the connections without closing them, like a router that restarts: neither end is
        notified. New connections are accepted."""
        self.abandoned = time.monotonic()

    def close(self) -> None:
        self.closing.set()
        self.flows.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.drop()
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            with self.guard:
                self.open += [client, server]
            thread = threading.Thread(target=self._carry, args=(client, server))
            thread.start()
            self.threads.append(thread)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        others = {client.fileno(): (client, server), server.fileno(): (server, client)}
        begun, poller = (
            time.monotonic(),
            select.poll(),
        )  # select does not support descriptors above 1023
        for end in others:
            poller.register(end, select.POLLIN)
        is_losing = False
        with client, server, suppress(OSError):
            while not self.closing.is_set():
                for number, _ in poller.poll(200):
                    ready, other = others[number]
                    data = ready.recv(1 << 16)
                    self.flows.wait()
                    if self.delay:
                        self.closing.wait(self.delay)
                    is_request = ready is client
                    is_held = is_request and self.holds and data.startswith(self.holds)
                    if begun < self.abandoned or is_held:
                        self.closing.wait()
                        return
                    if is_request and self.loses and data.startswith(self.loses):
                        is_losing, self.loses = True, b""
                    is_lost = not is_request and (is_losing or self.drops_answers.is_set())
                    if not data or is_lost:
                        return
                    other.sendall(data)
