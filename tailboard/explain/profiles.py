"""The profiles of earlier runs, which the parts of several explanations share."""

from __future__ import annotations

import threading

from tailboard.explain.profile import Profile
from tailboard.notify.history import Run

MOST_KEPT_LINES = 1_000_000  # of all profiles, 16 bytes each


class Profiles:
    """The profiles that were used last. Several threads may use it; a profile itself is used by one
    thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, Profile] = {}  # by ID; the one used last comes last
        self._lock = threading.Lock()
        self.in_use = threading.Lock()  # held while profiles are read or extended

    def of(self, run: Run) -> Profile:
        """The profile of an ended run, which may still have to be read."""
        with self._lock:
            profile = self._kept.pop(run.id, None) or Profile(run)
            self._kept[run.id] = profile
            total = sum(len(each.keys) for each in self._kept.values())
            while total > MOST_KEPT_LINES and len(self._kept) > 1:
                oldest = next(iter(self._kept))
                total -= len(self._kept.pop(oldest).keys)
            return profile
