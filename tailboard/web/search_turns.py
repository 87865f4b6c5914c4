"""Decides whose search of a long log runs next. A few searches run at a time; the others wait for
their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from flask import abort

TURN_WAIT = 2.5  # seconds for which a search waits for its turn; the page waits 5 for an answer
MAX_SEARCHES = 2  # of long logs at a time
MAX_WAITING_SEARCHES = 12  # searches that wait for their turn; each holds a thread


class Searcher(NamedTuple):
    """The sender of a search: the owner of a named token, or a visitor's address and the address of
    the connection, which may be that of a proxy or of the page."""

    peer: str
    visitor: str


class WaitingSearch:
    """A search that waits for its turn."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.is_refused = False


class SearchTurns:
    """The searches of long logs: a few run at a time, since each keeps a CPU and the disk busy for
    seconds, and a few wait. The searcher with the fewest running searches is next, counted by peer
    first: only our own proxy can be trusted when it names visitors."""

    def __init__(self) -> None:
        self.running: list[Searcher] = []
        self.waiting: list[WaitingSearch] = []  # in the order in which they began to wait
        self.changed = threading.Condition()

    @contextmanager
    def turn(self, searcher: Searcher) -> Iterator[None]:
        """Wait for a turn and hold it; 503 if none is free within TURN_WAIT, or if too many others
        are waiting."""
        with self.changed:
            self._wait(WaitingSearch(searcher))
            self.running.append(searcher)
        try:
            yield
        finally:
            with self.changed:
                self.running.remove(searcher)
                self.changed.notify_all()

    def _wait(self, waiter: WaitingSearch) -> None:
        self.waiting.append(waiter)
        self._refuse_excess()
        try:
            self.changed.wait_for(lambda: waiter.is_refused or self._is_next(waiter), TURN_WAIT)
            if waiter.is_refused or not self._is_next(waiter):
                abort(503, "too many log searches are running; try again in a few seconds")
        finally:
            self.waiting.remove(waiter)
            self.changed.notify_all()  # another one may be next

    def _is_next(self, waiter: WaitingSearch) -> bool:
        if len(self.running) >= MAX_SEARCHES:
            return False
        accepted = [other for other in self.waiting if not other.is_refused]
        return waiter is min(accepted, key=lambda other: self._share(other, self.running))

    def _refuse_excess(self) -> None:
        """If too many searches are waiting, refuse the newest one of the searcher that has the
        most."""
        accepted = [other for other in self.waiting if not other.is_refused]
        if len(accepted) > MAX_WAITING_SEARCHES:
            searchers = [other.searcher for other in accepted]
            newest_first = reversed(accepted)
            max(newest_first, key=lambda other: self._share(other, searchers)).is_refused = True
            self.changed.notify_all()

    @staticmethod
    def _share(waiter: WaitingSearch, searchers: Sequence[Searcher]) -> tuple[int, int]:
        """How many of these come from the same peer, and how many from the same searcher."""
        peers = [searcher.peer for searcher in searchers]
        return peers.count(waiter.searcher.peer), searchers.count(waiter.searcher)
