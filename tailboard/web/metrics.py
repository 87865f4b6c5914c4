"""The metrics that the API reports to Prometheus."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

import storage
from tailboard.job import Job
from tailboard.status import FINISHED, Status
from tailboard.values import age_of

RECENT_FINISHED = 2_000  # IDs of ended jobs that the metrics remember
BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)  # seconds
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")

# Without a `_created` series beside each counter and histogram, which nothing uses.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counters of this process since its start and, at each scrape, the content of the storage.
    `prometheus_client` calls `collect`."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.finished = FinishedJobs(store)
        self.counting = threading.Lock()  # so that two scrapes at once count no job twice
        self.ended: dict[Status, int] = {}  # as reported last, by status
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.job_seconds = Histogram(
            "tailboard_job_seconds",
            "Seconds from the start of a job to its end.",
            ["status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "tailboard_request_seconds",
            "Seconds from a request to the start of its response.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.log_bytes = Counter(
            "tailboard_log_bytes",
            "Bytes that jobs which have ended wrote to their logs.",
            registry=self.registry,
        )

    def start(self) -> None:
        """Count the jobs that end from now on. StoreUnreachable: the first scrape starts it."""
        self.finished.start()

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the path with its placeholders, or "none"; clients must not
        be able to make up labels, so unknown methods share one."""
        known = method if method in METHODS else "other"
        self.request_seconds.labels(known, route, status).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """All metrics. Raises StoreUnreachable."""
        self._count_finished()
        yield from self.registry.collect()
        yield from self._jobs()
        yield from self._queues()
        yield from self._workers()
        yield from self._space()

    def _count_finished(self) -> None:
        """Count the jobs that have ended since the last scrape."""
        with self.counting:
            for job in self.finished.iter_new():
                self.log_bytes.inc(job.log_size)
                with suppress(ValueError, TypeError):  # a job can end without having started
                    begun = datetime.fromisoformat(str(job.started_at))
                    lasted = datetime.fromisoformat(str(job.finished_at)) - begun
                    self.job_seconds.labels(job.status).observe(lasted.total_seconds())

    def _jobs(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("tailboard_jobs", "Jobs by status.", labels=["status"])
        for status, count in self.store.counts().items():
            jobs.add_metric([status], count)
        yield jobs
        text = "Jobs that have ended, by final status."
        ended = CounterMetricFamily("tailboard_jobs_ended", text, labels=["status"])
        for status, count in self._ended_so_far().items():
            ended.add_metric([status], count)
        yield ended

    def _ended_so_far(self) -> dict[Status, int]:
        """How many jobs have ever ended, by status. While a job is being deleted, the store can
        count one too few. Prometheus treats a lower value as a restart from zero, and
        `increase` would then report all jobs as new. So a count never falls."""
        totals = self.store.finished_totals()
        with self.counting:
            for status, count in totals.items():
                self.ended[status] = max(count, self.ended.get(status, 0))
            return dict(self.ended)

    def _queues(self) -> Iterator[Metric]:
        waiting = self.store.queued_by_queue()
        depth = {queue: len(ids) for queue, ids in waiting.items()}
        yield queue_gauge("tailboard_queue_jobs", "Queued jobs.", depth)
        text = "Seconds since the oldest queued job was submitted."
        oldest = {queue: age_of(ids[0]) for queue, ids in waiting.items()}
        yield queue_gauge("tailboard_queue_oldest_seconds", text, oldest)
        running = collections.Counter(job.queue for job in self.store.list_running())
        yield queue_gauge("tailboard_queue_running", "Running jobs.", running)
        text = "How many jobs of the queue can run at a time."
        yield queue_gauge("tailboard_queue_limit", text, self.store.limits.list())
        paused = {pause.queue: 1 for pause in self.store.pauses.list()}
        yield queue_gauge("tailboard_queue_paused", "1 if the queue is paused.", paused)

    def _workers(self) -> Iterator[Metric]:
        alive = self.store.workers()
        slots = sum(worker.slots for worker in alive)
        busy = sum(worker.running for worker in alive)
        yield GaugeMetricFamily("tailboard_workers", "Workers that are running.", len(alive))
        yield GaugeMetricFamily("tailboard_slots", "Slots of all workers.", slots)
        yield GaugeMetricFamily("tailboard_slots_busy", "Slots that are running a job.", busy)

    def _space(self) -> Iterator[Metric]:
        space = self.store.space()
        if space is not None:
            text = "Bytes that can still be written to the file system of the jobs."
            yield GaugeMetricFamily("tailboard_storage_free_bytes", text, space.free)
            text = "Bytes of the file system of the jobs."
            yield GaugeMetricFamily("tailboard_storage_total_bytes", text, space.total)


def queue_gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    """A metric with a value for each of these queues."""
    gauge = GaugeMetricFamily(name, text, labels=["queue"])
    for queue, value in values.items():
        gauge.add_metric([queue], value)
    return gauge


class FinishedJobs:
    """Finds each job that ends after `start`, once.

    IDs sort by the time of submission, so a job that has just ended either has one of the highest
    IDs or was unfinished at the last look. Only these IDs are remembered: memory and the time of
    a look depend on the number of unfinished jobs, not on the history. An old job that is put back
    by hand (from a backup, say) is not new."""

    def __init__(self, store: storage.Store) -> None:
        self.store = store
        self.has_started = False
        self.unfinished: set[str] = set()  # IDs at the last check
        self.known: set[str] = set()  # IDs of jobs that have ended, RECENT_FINISHED at most
        # Each job that ended before the last look and has this ID, or a higher one, is known.
        self.mark = ""

    def start(self) -> None:
        """Mark all jobs that have ended so far as known. Reads names, but no records."""
        unfinished = self.store.unfinished_ids()  # first, so that a job that ends now is in both
        self.known = set(islice(self.store.iter_finished_ids(), RECENT_FINISHED))
        self.unfinished = unfinished - self.known
        if len(self.known) == RECENT_FINISHED:
            self.mark = min(self.known)
        self.has_started = True

    def iter_new(self) -> Iterator[Job]:
        """The jobs that have ended since the last call; those deleted in between are left out."""
        if not self.has_started:  # Redis was unreachable
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
