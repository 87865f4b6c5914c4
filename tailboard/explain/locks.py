"""A lock for which a thread waits only until a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def acquire_until(lock: threading.Lock, deadline: float) -> Iterator[bool]:
    """Hold the lock if it becomes free before the `deadline` on the monotonic clock. Yields whether
    it is held."""
    left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
    is_acquired = lock.acquire(timeout=max(0.0, left))
    try:
        yield is_acquired
    finally:
        if is_acquired:
            lock.release()
