"""The state of the API's process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple

from flask import abort, current_app
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

import storage
from tailboard.errors import StoreUnreachable
from tailboard.job import Job
from tailboard.settings import Settings
from tailboard.status import FINISHED
from tailboard.values import age_of
from tailboard.web.operations import Access
from tailboard.web.tokens import TokenFile

TURN_WAIT = 2.5  # seconds for which a search waits for its turn; the page waits 5 for an answer
MAX_SEARCHES = 2  # of long logs at a time
MAX_WAITING_SEARCHES = 12  # for their turn; each holds a thread
RECENT_FINISHED = 2_000  # IDs of ended jobs that the metrics remember
BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)  # seconds


class OutageLog:
    """Logs once a minute that the storage cannot be reached, and not for each request and follower
    that it fails."""

    INTERVAL = 60.0  # seconds

    def __init__(self) -> None:
        self.next_at = 0.0  # on the monotonic clock

    def report(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self.next_at:
            self.next_at = now + self.INTERVAL
            logging.getLogger("tailboard").error("storage: %s (logged once a minute)", error)


class AppState:
    """The state of one application, and the metrics that it reports to Prometheus."""

    def __init__(self, settings: Settings, access: Mapping[str, Access]) -> None:
        self.settings = settings
        self.access = access  # by the endpoints of the routes, from OPERATIONS
        self.store: storage.Store = storage.open_store(settings.storage, settings.unreachable)
        self.followers = threading.Semaphore(settings.followers)
        self.searches = SearchTurns()
        self.outages = OutageLog()
        self.tokens = TokenFile(settings.tokens)
        # Empty: a page may read logs only with a ticket for its own origin.
        self.origins = settings.dashboard.split(",") if settings.dashboard else []
        self.lines: dict[str, tuple[int, int]] = {}  # job ID -> (offset, lines that end before it)
        self.finished = FinishedJobs(self.store)
        self.counting = threading.Lock()  # so that two scrapes at once count no job twice
        self.registry = CollectorRegistry()  # its numbers begin with this process
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.job_seconds = Histogram(
            "tailboard_job_seconds",
            "Start to end.",
            ["status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tailboard_request_seconds",
            "Until the answer began.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.log_bytes = Counter(
            "tailboard_log_bytes", "Log bytes of jobs that ended.", registry=self.registry
        )
        with suppress(StoreUnreachable):  # it starts all the same, and says so
            self.store.check()
            self.finished.start()

    def count_finished(self) -> None:
        """Count the jobs that have ended since the last scrape."""
        with self.counting:
            for job in self.finished.iter_new():
                self.log_bytes.inc(job.log_size)
                with suppress(ValueError, TypeError):  # not every end has a beginning
                    begun = datetime.fromisoformat(str(job.started_at))
                    lasted = datetime.fromisoformat(str(job.finished_at)) - begun
                    self.job_seconds.labels(job.status).observe(lasted.total_seconds())

    def collect(self) -> Iterator[Metric]:
        """The metrics. Those of the storage are counted anew at each scrape."""
        self.count_finished()
        yield from self.registry.collect()
        jobs = GaugeMetricFamily("tailboard_jobs", "Jobs by status.", labels=["status"])
        ended = CounterMetricFamily("tailboard_jobs_ended", "Ended so ever.", labels=["status"])
        for family, counts in (
            (jobs, self.store.counts()),
            (ended, self.store.finished_totals()),
        ):
            for status, count in counts.items():
                family.add_metric([status], count)
        depth = GaugeMetricFamily("tailboard_queue_jobs", "Jobs that wait.", labels=["queue"])
        age = GaugeMetricFamily("tailboard_queue_oldest_seconds", "Its age.", labels=["queue"])
        for queue, names in self.store.queued_by_queue().items():
            depth.add_metric([queue], len(names))
            age.add_metric([queue], age_of(names[0]))
        paused = GaugeMetricFamily("tailboard_queue_paused", "1: it is.", labels=["queue"])
        for pause in self.store.pauses.list():
            paused.add_metric([pause.queue], 1)
        yield from (jobs, ended, depth, age, paused)
        alive = self.store.workers()
        slots, busy = sum(w.slots for w in alive), sum(w.running for w in alive)
        yield GaugeMetricFamily("tailboard_workers", "Workers alive.", len(alive))
        yield GaugeMetricFamily("tailboard_slots", "Slots of all.", slots)
        yield GaugeMetricFamily("tailboard_slots_busy", "Slots that run a job.", busy)


class FinishedJobs:
    """Finds each job that ends after `start`, once.

    IDs sort by the time of submission, so a job that has just ended either has one of the highest
    IDs or was unfinished at the last look. Only these IDs are remembered: memory and the time of
    a look depend on the number of unfinished jobs, not on the history. An old job that is put back
    by hand (from a backup, say) is not new."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.has_started = False
        self.unfinished: set[str] = set()  # IDs at the last look
        self.known: set[str] = set()  # IDs of jobs that have ended, RECENT_FINISHED at most
        # Each job that ended before the last look and has this ID, or a higher one, is known.
        self.mark = ""

    def start(self) -> None:
        """Take the jobs that have ended so far as known. Reads names, but no record."""
        unfinished = self.store.unfinished_ids()  # first: a job that ends now is then in both
        self.known = set(islice(self.store.iter_finished_ids(), RECENT_FINISHED))
        self.unfinished = unfinished - self.known
        if len(self.known) == RECENT_FINISHED:
            self.mark = min(self.known)
        self.has_started = True

    def iter_new(self) -> Iterator[Job]:
        """The jobs that have ended since the last call; those deleted in between are left out."""
        if not self.has_started:  # Redis was away
            self.start()
        unfinished = self.store.unfinished_ids()
        recent = set(takewhile(lambda job_id: job_id >= self.mark, self.store.iter_finished_ids()))
        left = self.unfinished - unfinished - recent
        for job in self.store.get_many(sorted((recent - self.known) | left)):
            if job.status in FINISHED:
                self.known.add(job.id)
                self.unfinished.discard(job.id)
                yield job
            else:  # it moved from one folder to another while they were listed
                unfinished.add(job.id)
        self.unfinished = unfinished - recent
        self._forget_old()

    def _forget_old(self) -> None:
        if len(self.known) > RECENT_FINISHED:
            newest = sorted(self.known)[-RECENT_FINISHED:]
            self.mark, self.known = newest[0], set(newest)


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
    """The searches of long logs: a few run at a time, since each keeps a processor and the disk
    busy for seconds, and a few wait. The searcher with the fewest running searches is next, counted
    by peer first: only our own proxy can be trusted when it names visitors."""

    def __init__(self) -> None:
        self.running: list[Searcher] = []
        self.waiting: list[WaitingSearch] = []  # the longest first
        self.changed = threading.Condition()

    @contextmanager
    def turn(self, searcher: Searcher) -> Iterator[None]:
        """Wait for a turn and hold it; 503 if none is free within TURN_WAIT, or if too many others
        wait."""
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
        """If too many searches wait, refuse the newest one of the searcher with the most."""
        accepted = [other for other in self.waiting if not other.is_refused]
        if len(accepted) > MAX_WAITING_SEARCHES:
            searchers = [other.searcher for other in accepted]
            newest_first = reversed(accepted)
            max(newest_first, key=lambda other: self._share(other, searchers)).is_refused = True
            self.changed.notify_all()

    @staticmethod
    def _share(waiter: WaitingSearch, searchers: Sequence[Searcher]) -> tuple[int, int]:
        """How many of these have the same peer, and how many are of the same searcher."""
        peers = [searcher.peer for searcher in searchers]
        return peers.count(waiter.searcher.peer), searchers.count(waiter.searcher)


def state() -> AppState:
    """The state of the application that answers this request."""
    found: AppState = current_app.extensions["tailboard"]
    return found
