"""Noticing that a client has disconnected, while a thread waits for something to send to it."""

from __future__ import annotations

from flask import request

from tailboard.notifier import Notifier
from tailboard.wake_pipe import WakePipe

# The key in the WSGI environ of the request's Disconnect. Only our own server sets it: without it,
# a thread waits until its next keepalive.
DISCONNECT = "tailboard.disconnect"


class Disconnect:
    """Has a descriptor that becomes readable when the client disconnects. The descriptor is made
    when a thread first waits for it, because most requests need none."""

    def __init__(self) -> None:
        self.pipe: WakePipe | None = None
        self.has_happened = False

    def fileno(self) -> int:
        """The descriptor. Only the thread that answers the request calls this."""
        if self.pipe is None:
            self.pipe = WakePipe()
            if self.has_happened:  # perhaps `report` has not seen the pipe
                self.pipe.wake()
        return self.pipe.fd

    def report(self) -> None:
        """Make the descriptor readable. Only the event loop calls this."""
        self.has_happened = True
        if self.pipe is not None:
            self.pipe.wake()

    def close(self) -> None:
        if self.pipe is not None:
            self.pipe.close()


def wait_for_change(watch: Notifier, timeout: float) -> bool:
    """Wait up to `timeout` seconds for a change that `watch` reports. Returns True if the client of
    this request has disconnected, which ends the wait."""
    disconnect = request.environ.get(DISCONNECT)
    others = [] if disconnect is None else [disconnect.fileno()]
    return bool(watch.wait(timeout, *others))
