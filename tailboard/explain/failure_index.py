"""Which jobs have ended badly, and with which hints: an index that all explanations share."""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence

import storage
from tailboard.explain.locks import acquire_until
from tailboard.explain.normal import line_key
from tailboard.notify.history import WINDOW, History, Run, run_of
from tailboard.status import FAILURES, Status
from tailboard.values import first_id

MOST_FAILURES = 50_000  # jobs in the index, the newest ones; about 100 bytes each
LIST_STEP = 50  # jobs that are listed at a time


class FailureIndex:
    """The jobs that have ended badly and have a hint, by the normal form of the hint. The recent
    ones are those of the History; older ones are read from the storage, in steps. Several threads
    may use it."""

    def __init__(self) -> None:
        self.is_complete = False  # does it contain all such jobs, or MOST_FAILURES?
        self._ids: list[str] = []  # sorted
        self._hints = array("Q")  # of each ID, see hint_key
        self._commands = array("Q")  # of each ID, see command_key
        self._groups: dict[str, Sequence[Run]] = {}  # those of the History, as they were added
        self._newest = ""  # the highest ID that the History had when they were added
        # Where the list of older jobs continues, by status; None: it has not begun.
        self._unlisted: dict[Status, str] | None = None
        self._lock = threading.Lock()

    def find(self, hint: int) -> list[tuple[str, int]]:
        """(ID, command_key) of the jobs that have ended with this hint, newest first."""
        with self._lock:
            places = [place for place, key in enumerate(self._hints) if key == hint]
            return [(self._ids[place], self._commands[place]) for place in reversed(places)]

    def forget(self, job_id: str) -> None:
        """Remove a job that was deleted."""
        with self._lock:
            place = bisect_left(self._ids, job_id)
            if self._has(place, job_id):
                for column in (self._ids, self._hints, self._commands):
                    del column[place]

    def work(self, store: storage.Jobs, history: History, deadline: float) -> None:
        """Add what is missing, until the `deadline` on the monotonic clock."""
        with acquire_until(self._lock, deadline) as is_acquired:
            if not is_acquired:
                return
            is_added = self._add_history(history, deadline) and history.is_complete
            if is_added:
                self._add_older(store, history, deadline)
            self.is_complete = is_added and self._unlisted == {}

    def _add_history(self, history: History, deadline: float) -> bool:
        """Returns False if there was not enough time."""
        groups = dict(history.groups)
        if self._newest < oldest_id(history):
            # So many jobs have ended since the last call that the History has dropped some of them.
            self._unlisted = None
        for name, runs in groups.items():
            if self._groups.get(name) is runs:
                continue
            if time.monotonic() > deadline:
                return False
            for run in runs:
                self._add(run)
            self._groups[name] = runs
        self._groups = groups
        self._newest = max((runs[0].id for runs in groups.values()), default=self._newest)
        return True

    def _add_older(self, store: storage.Jobs, history: History, deadline: float) -> None:
        if self._unlisted is None:
            self._unlisted = dict.fromkeys(FAILURES, oldest_id(history))
        while self._unlisted and time.monotonic() < deadline:
            status, before = next(iter(self._unlisted.items()))
            jobs, following = store.list(status, limit=LIST_STEP, before=before, short=True)
            for job in jobs:
                self._add(run_of(job))
            if following is None or len(self._ids) >= MOST_FAILURES:
                del self._unlisted[status]
            else:
                self._unlisted[status] = following

    def _add(self, run: Run) -> None:
        key = hint_key(run)
        if key is None:
            return
        place = bisect_left(self._ids, run.id)
        if self._has(place, run.id):
            return
        self._ids.insert(place, run.id)
        self._hints.insert(place, key)
        self._commands.insert(place, command_key(run))
        if len(self._ids) > MOST_FAILURES:
            for column in (self._ids, self._hints, self._commands):
                del column[0]

    def _has(self, place: int, job_id: str) -> bool:
        return place < len(self._ids) and self._ids[place] == job_id


def hint_key(run: Run) -> int | None:
    """What the hints of runs that have ended in the same way have in common; None if the run has
    not ended badly, or its hint has no letters."""
    if run.status not in FAILURES or not run.hint or not any(map(str.isalpha, run.hint)):
        return None
    return line_key(run.hint.encode(errors="replace"))


def command_key(run: Run) -> int:
    """What the runs of a command have in common, see earlier_runs.is_alike."""
    return hash((run.name, run.is_saved or run.queue)) & 0xFFFF_FFFF_FFFF_FFFF


def oldest_id(history: History) -> str:
    """The lowest ID that the History has now; if it is empty, the lowest that it could have."""
    oldest = (runs[-1].id for runs in list(history.groups.values()))
    return min(oldest, default=first_id(time.time() - WINDOW))
