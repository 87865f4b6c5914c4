"""How often a token can start a session. Each session leaves a line in the audit log for a year, so
without a limit a token that can only read could fill the disk."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque

MOST_SIGN_INS = 100  # of one token's owner within the interval
INTERVAL = 60.0  # seconds


class SignInLimit:
    """The sign-ins of the last minute."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # By name (None: the shared token), the oldest first; times of the monotonic clock.
        self.times: defaultdict[str | None, deque[float]] = defaultdict(deque)

    def admit(self, name: str | None) -> bool:
        """Count a sign-in of this name, unless it is one too many."""
        now = time.monotonic()
        with self.lock:
            times = self.times[name]
            while times and times[0] <= now - INTERVAL:
                times.popleft()
            if len(times) >= MOST_SIGN_INS:
                return False
            times.append(now)
            return True
