"""Log lines about an outage of Redis."""

from __future__ import annotations

import logging
import time

from tailboard.errors import StoreError
from tailboard.machines.answers import is_full

log = logging.getLogger("worker")

OUTAGE_LOG_INTERVAL = 60.0  # seconds between log lines about an outage


class Outage:
    """Logs that Redis is unreachable or full: immediately, every minute, and when it is back."""

    def __init__(self) -> None:
        self.since = 0.0  # when it began, on the monotonic clock; 0: no outage
        self.logged_at = 0.0  # on the monotonic clock; 0: not logged
        self.full_logged_at = float("-inf")  # on the monotonic clock

    def report(self, error: Exception) -> None:
        """A round of the relay has failed. While Redis is full, rounds without output still
        succeed, so a full Redis is logged once a minute, whether or not rounds succeed in
        between."""
        now = time.monotonic()
        self.since = self.since or now
        if is_full(error):
            if now - self.full_logged_at >= OUTAGE_LOG_INTERVAL:
                self.full_logged_at = now
                log.error(
                    "redis full=%r: jobs continue, output is sent once it has room", str(error)
                )
        elif not self.logged_at or now - self.logged_at >= OUTAGE_LOG_INTERVAL:
            self.logged_at = now
            what = "redis away" if isinstance(error, (StoreError, ValueError)) else "relay trouble"
            info = None if isinstance(error, (OSError, ValueError)) else error
            log.error(
                "%s=%r: running jobs continue, no new ones start", what, str(error), exc_info=info
            )

    def end(self) -> None:
        """A round of the relay has succeeded."""
        if self.logged_at:
            log.info("redis back after=%.0fs", time.monotonic() - self.since)
        self.since = self.logged_at = 0.0
