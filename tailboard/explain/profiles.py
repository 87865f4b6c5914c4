"""The profiles of earlier runs, which the parts of several explanations share."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tailboard.explain import known_lines
from tailboard.explain.known_lines import KnownLines
from tailboard.explain.profile import Profile
from tailboard.notify.history import Run

MOST_KEPT = 1_000_000  # lines and samples of all profiles, 16 bytes each
MOST_PROFILES = 500
MOST_KNOWN = 50  # groups of runs whose lines are kept


class Profiles:
    """The profiles that were used last. Several threads may use them."""

    def __init__(self) -> None:
        self._kept: dict[str, Profile] = {}  # by ID; the one used last comes last
        # By the IDs of the runs; those used last come last.
        self._known: dict[tuple[str, ...], KnownLines] = {}
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

    def known_lines(self, runs: Sequence[Run]) -> KnownLines:
        """What all lines of these ended runs say, which may still have to be read."""
        ids = tuple(run.id for run in runs)
        with self._lock:
            known = self._known.pop(ids, None) or KnownLines(runs, self.of)
            self._known[ids] = known
            total = sum(each.length for each in self._known.values())
            while len(self._known) > 1 and (
                total > known_lines.MOST_KEYS or len(self._known) > MOST_KNOWN
            ):
                total -= self._known.pop(next(iter(self._known))).length
            return known
