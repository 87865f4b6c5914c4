"""A pipe with which a signal handler or another thread ends a wait for descriptors."""

from __future__ import annotations

import os
from contextlib import suppress


class WakePipe:
    """`fd` becomes readable when `wake` is called, and stays so until `clear`. Calls in between
    count as one."""

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self.write_fd, False)

    def wake(self) -> None:
        """Make `fd` readable. Any thread can call this."""
        with suppress(BlockingIOError):  # the pipe is full, so `fd` is readable already
            os.write(self.write_fd, b"x")

    def clear(self) -> bool:
        """Forget all earlier calls of `wake`. Returns True if there were any."""
        with suppress(BlockingIOError):
            return bool(os.read(self.fd, 1 << 16))
        return False

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.write_fd)
