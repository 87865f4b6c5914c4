"""The profiles of earlier runs, which the parts of several explanations share."""

from __future__ import annotations

import threading

from tailboard.explain.profile import Profile
from tailboard.notify.history import Run

MOST_KEPT = 1_000_000  # lines and samples of all profiles, 16 bytes each
MOST_PROFILES = 500


class Profiles:
    """The profiles that were used last. Several threads may use them."""

    def __init__(self) -> None:
        self._kept: dict[str, Profile] = {}  # by ID; the one used last comes last
        self._lock = threading.Lock()

    def of(self, run: Run) -> Profile:
        """The profile of an ended run, which may still have to be read."""
        with self._lock:
            profile = self._kept.pop(run.id, None) or Profile(run)
            self._kept[run.id] = profile
            total = sum(each.length for each in self._kept.values())
            while len(self._kept) > 1 and (total > MOST_KEPT or len(self._kept) > MOST_PROFILES):
                oldest = next(iter(self._kept))
                total -= self._kept.pop(oldest).length
            return profile
