"""Which lines are not new: those that the successes with which a job is compared have written."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from statistics import median_low

import storage
from tailboard.errors import JobNotFound
from tailboard.explain.locks import acquire_until
from tailboard.explain.normal import shape_of
from tailboard.explain.profile import Profile
from tailboard.notify.history import Run

MOST_KEYS = 300_000  # about 25 MiB
STEP = 5_000  # keys that are added between two checks of the clock
SEVERAL = -1  # instead of the number of the run: a key that several runs have
MANY = 20  # different lines of one shape in the only success, from which on they vary
FEW = 10  # new lines of a success; fewer prove nothing
USUAL_SHARE = 0.2  # of the lines of the median success that are new, above which all vary


class KnownLines:
    """The keys of all lines in the logs of some successes.

    A line that none of them has is not always news: programs write names and words that differ each
    time. So each success is compared with the others in the same way as the failure is with all of
    them. A shape (the first words of a line) varies if at least half of the successes, and two of
    them, have a line of it that no other has; with a single success, if it has many lines of it. If
    the median success has many new lines even without those, every line varies. Among lines that
    vary, only those that report an error are new."""

    def __init__(self, runs: Sequence[Run], profile_of: Callable[[Run], Profile]) -> None:
        self.runs, self._profile_of = runs, profile_of
        self.unavailable: str | None = None  # why nothing can be said, in a sentence
        self.is_done = False
        self._lock = threading.Lock()  # held while it is built
        self.varies_everywhere = False
        self._varying: set[int] = set()  # shapes
        self._owners: dict[int, int] = {}  # by key: the number of the run that has it, or SEVERAL
        self._sizes: list[int] = []  # how many different keys each run has
        self._place = 0  # the number of the run that is being read
        self._keys: Sequence[int] | None = None  # of its lines; None: not read yet
        self._added = 0  # how many of them were added

    @property
    def length(self) -> int:
        """How many keys it has."""
        return len(self._owners)

    def has(self, key: int) -> bool:
        """Does one of the successes have a line with this key?"""
        return key in self._owners

    def varies(self, key: int) -> bool:
        """Are new lines like this one usual?"""
        return self.varies_everywhere or shape_of(key) in self._varying

    def work(self, store: storage.Store, deadline: float) -> bool:
        """Continue until the `deadline` on the monotonic clock. Returns True if it is done. If
        another thread is building it, this one waits, also until then."""
        with acquire_until(self._lock, deadline) as is_acquired:
            while is_acquired and not self.is_done and time.monotonic() < deadline:
                if self._place == len(self.runs):
                    self._finish()
                else:
                    self._add_run(store, deadline)
            return self.is_done

    def _add_run(self, store: storage.Store, deadline: float) -> None:
        """Continue with the next run."""
        if self._keys is None:
            self._keys = self._read_keys(store, deadline)
            if self._keys is None:
                return
        while self._added < len(self._keys):
            if time.monotonic() > deadline:
                return
            self._add_keys(self._keys[self._added : self._added + STEP])
            self._added += STEP
            if len(self._owners) > MOST_KEYS:
                self._give_up("The earlier successes have written too many different lines.")
                return
        self._sizes.append(len(set(self._keys)))
        self._place += 1
        self._keys, self._added = None, 0

    def _read_keys(self, store: storage.Store, deadline: float) -> Sequence[int] | None:
        """The keys of the last attempt of the next run; none if it was deleted meanwhile. Returns
        None if its log could not be read yet, or not at all."""
        run = self.runs[self._place]
        profile = self._profile_of(run)
        profile.work(store, deadline)
        if not profile.is_done:
            return None
        try:
            is_retried = store.get(run.id).attempt > 1
        except JobNotFound:
            return ()
        if not profile.is_whole:
            self._give_up("The log of an earlier success is too long, incomplete or missing.")
            return None
        # What the first attempt has written to its log can look like our notice.
        return profile.keys[profile.attempt_from if is_retried else 0 :]

    def _add_keys(self, keys: Iterable[int]) -> None:
        owners, place = self._owners, self._place
        for key in keys:
            if owners.setdefault(key, place) != place:
                owners[key] = SEVERAL

    def _finish(self) -> None:
        """Find out which lines vary."""
        # The shapes of the lines that no other run has, with the number of the run. Sorted, they
        # need much less memory than in a dictionary.
        own = sorted(
            shape_of(key) * len(self.runs) + owner
            for key, owner in self._owners.items()
            if owner != SEVERAL
        )
        rest = Counter[int]()  # by the number of the run: its own lines that do not vary
        for shape, places in groupby(own, lambda place: place // len(self.runs)):
            owners = [place % len(self.runs) for place in places]
            if self._is_usual(owners):
                self._varying.add(shape)
            else:
                rest.update(owners)
        if len(self.runs) > 1:
            shares = [
                rest[number] / size if rest[number] >= FEW else 0.0
                for number, size in enumerate(self._sizes)
            ]
            self.varies_everywhere = median_low(shares) > USUAL_SHARE
        self.is_done = True

    def _is_usual(self, owners: Sequence[int]) -> bool:
        """Does a shape vary? `owners`: for each line of it that only one run has, the run."""
        if len(self.runs) == 1:
            return len(owners) >= MANY
        return len(owners) > 1 and len(set(owners)) >= max(2, len(self.runs) / 2)

    def _give_up(self, why: str) -> None:
        self.unavailable = why
        self._owners.clear()
        self._keys = None
        self.is_done = True
