"""The earlier run with which a running job is compared."""

from __future__ import annotations

from collections.abc import Sequence

import storage
from tailboard.explain.anchors import longest_increasing
from tailboard.explain.profile import Profile
from tailboard.explain.profiles import Profiles
from tailboard.notify.history import Run

SHORTEST_RUN = 10.0  # seconds; a sample is only good to a second
SAME_ORDER = 0.8  # part of the lines that two runs have in common


class Reference:
    """The last success of a command, provided that it says something about the next run."""

    def __init__(self, earlier: Sequence[Run]) -> None:
        """`earlier`: the successes, newest first."""
        self.earlier = earlier
        self.runs = [run for run in earlier[:2] if (run.seconds or 0.0) >= SHORTEST_RUN]
        if earlier[:1] != self.runs[:1]:
            self.runs = []
        self.profile: Profile | None = None  # None: not read yet, or it says nothing
        self.is_done = not self.runs

    def work(self, store: storage.Logs, profiles: Profiles, deadline: float) -> bool:
        """Read on until the `deadline` on the monotonic clock. Returns True when it is done."""
        found = []
        for run in self.runs if not self.is_done else ():
            profile = profiles.of(run)
            profile.work(store, deadline)
            if not profile.is_done:
                return False
            found.append(profile)
        if not self.is_done:
            self.is_done = True
            last = found[0] if found[0].is_whole else None
            if last is not None and all(have_same_order(last, other) for other in found[1:]):
                self.profile = last
        return True


def have_same_order(last: Profile, before: Profile) -> bool:
    """Do two runs write the lines that both have in nearly the same order? Some commands, such as
    tests in random order, do their work in another order each time."""
    places = [before.anchors.place_of(key) for key in last.anchors.keys_in_order()]
    common = [place for place in places if place is not None]
    return len(longest_increasing(common)) >= SAME_ORDER * len(common)
