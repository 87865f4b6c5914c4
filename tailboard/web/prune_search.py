"""Finding the jobs that would be deleted now, in short parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from flask import abort

import storage
from tailboard.keep_rules import KeepLimits, Prunable
from tailboard.settings import Settings

SEARCH_TIME = 2.0  # seconds for one response
KEPT = 60.0  # seconds after which a search that no request continues is forgotten
OLD_AFTER = 10.0  # seconds after which a complete list is outdated


class PruneSearch:
    """Finds the jobs. All requests share one search: each continues it for SEARCH_TIME seconds, and
    the last complete list is shown for OLD_AFTER seconds, unless a job has ended or was deleted."""

    def __init__(self, store: storage.Store, settings: Settings) -> None:
        self._store = store
        self._own_limits = KeepLimits(settings.keep_days, settings.keep_bytes)
        self._lock = threading.Lock()
        self._search: Iterator[Collection[Prunable]] | None = None
        self._continued_at = 0.0  # on the monotonic clock, as is the next
        self._complete_at: float | None = None
        self._stamp: Any = None  # the number of jobs when it was complete
        self._found: Collection[Prunable] = ()

    def limits(self) -> KeepLimits:
        """Those with which the workers delete jobs. The settings of the API can differ; they apply
        only until a worker has started."""
        return self._store.keep_limits() or self._own_limits

    def find(self) -> tuple[list[Prunable], bool]:
        """(the jobs found so far, oldest first; are these all?). 503 if others keep it busy."""
        if not self._lock.acquire(timeout=2 * SEARCH_TIME):
            abort(503, "other requests are looking for these jobs; try again in a few seconds")
        try:
            is_complete = self._continue(time.monotonic() + SEARCH_TIME)
            return sorted(self._found, key=lambda found: found.job.id), is_complete
        except BaseException:
            self._search = self._complete_at = None  # an error has ended the generator
            raise
        finally:
            self._lock.release()

    def _continue(self, until: float) -> bool:
        limits = self.limits()
        now, stamp = time.monotonic(), (self._store.counts(), limits)
        is_recent = self._complete_at is not None and now - self._complete_at < OLD_AFTER
        if is_recent and stamp == self._stamp:
            return True
        if self._search is None or now - self._continued_at > KEPT:
            self._search = self._store.prunable(*limits)
        self._complete_at = None
        for found in self._search:
            self._found = found
            if time.monotonic() > until:
                self._continued_at = time.monotonic()
                return False
        self._search, self._complete_at, self._stamp = None, time.monotonic(), stamp
        self._found = list(self._found)
        return True
