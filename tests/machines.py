"""One of several machines (Redis, a spool and its relay), as one store for the contract tests."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from storage import Pauses, WorkerStore
from tailboard.folder.claim import Claim
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.job_files import FileListing, OpenFile
from tailboard.keep_rules import KeepLimits, Prunable
from tailboard.logs import Log
from tailboard.machines.redis_machines import RedisMachines
from tailboard.machines.relay import Relay
from tailboard.machines.spool import Spool
from tailboard.notifier import Notifier
from tailboard.order import RunningJob
from tailboard.saved_command import SavedCommand
from tailboard.schedules import Schedule, ScheduleDecision
from tailboard.settings import Settings
from tailboard.status import Status
from tailboard.usage import UsageSample
from tailboard.workers import Machine, Pause, WorkerInfo

Answer = TypeVar("Answer")


def open_backend(url: str) -> WorkerStore:
    """The storage at a URL as the API and a worker use it together. On Redis they use different
    parts, which RedisMachine joins."""
    if url.startswith("redis"):
        return RedisMachine(url, os.environ["TAILBOARD_SPOOL"])
    return FolderStore(url)


class SyncedPauses:
    """The pauses in Redis. When a call returns, the spool has the same pauses."""

    def __init__(self, pauses: Pauses, sync: Callable[[], None]) -> None:
        self.pauses, self.sync = pauses, sync

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        pause = self.pauses.pause(queue, why, by)
        self.sync()
        return pause

    def put(self, pause: Pause) -> None:
        self.pauses.put(pause)
        self.sync()

    def resume(self, queue: str) -> None:
        self.pauses.resume(queue)
        self.sync()

    def list(self) -> Sequence[Pause]:
        return self.pauses.list()


class RedisMachine:
    """Sends the calls of the API to Redis and those of a worker to the spool. A worker runs the
    relay in a thread; this class runs the relay's rounds before and after each call instead, so
    that tests need not wait. Several machines on one spool, also in other processes, take turns by
    the relay's lock."""

    def __init__(self, url: str, spool: str) -> None:
        self.redis, self.spool = RedisMachines(url), Spool(spool)
        self.pauses = SyncedPauses(self.redis.pauses, self.sync)
        self.limits = self.redis.limits
        self.saved = self.redis.saved  # all of it is in Redis
        self.sessions = self.redis.sessions
        self.audit = self.redis.audit
        self.notices = self.redis.notices
        self.relay = Relay(self.redis, Spool(spool), Settings())
        self.queues: list[str] = []
        self.news: Notifier | None = None
        self.thread: threading.Thread | None = None
        self.is_closed = threading.Event()

    def start_thread(self) -> None:
        """From now on, runs the rounds in a thread, as a worker does, for tests that wait for
        news."""
        if self.thread is None:
            self.thread = threading.Thread(target=self.run_rounds)
            self.thread.start()

    def run_rounds(self) -> None:
        while not self.is_closed.wait(0.02):
            self.sync()

    def close(self) -> None:
        self.is_closed.set()
        if self.thread is not None:
            self.thread.join()
        self.relay.close()
        self.relay.spool.close()
        self.spool.close()
        self.redis.close()

    def in_turn(self, act: Callable[[], Answer]) -> Answer:
        with open(f"{self.spool.root}/relay", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return act()

    def sync(self) -> None:
        self.in_turn(self.rounds)

    def rounds(self) -> None:
        self.relay.next_beat = self.relay.outbox.deferred_until = 0.0  # look at every folder
        self.relay.round()
        while self.relay.outbox.has_work():
            self.relay.round()

    # Methods for the API

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        if key is not None:
            self.sync()
        return self.redis.submit(job, key, request)

    def get(self, job_id: str) -> Job:
        self.sync()
        return self.redis.get(job_id)

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        self.sync()
        return self.redis.get_many(ids)

    def status(self, job_id: str) -> Status:
        self.sync()
        return self.redis.status(job_id)

    def find(self, part: str) -> Sequence[str]:
        return self.redis.find(part)

    def list(self, *query: Any, **named: Any) -> tuple[Sequence[Job], str | None]:
        self.sync()
        return self.redis.list(*query, **named)

    def counts(self) -> dict[Status, int]:
        self.sync()
        return self.redis.counts()

    def count_since(self, since: str, status: Status | None = None) -> int:
        self.sync()
        return self.redis.count_since(since, status)

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        self.sync()
        return self.redis.queued_by_queue()

    def cancel(self, job_id: str, reason: str) -> Job:
        self.sync()
        job = self.redis.cancel(job_id, reason)
        self.sync()
        return job

    def set_urgent(self, job_id: str, urgent: bool) -> Job:
        self.sync()
        return self.redis.set_urgent(job_id, urgent)

    def list_running(self) -> Sequence[RunningJob]:
        self.sync()
        return self.redis.list_running()

    def is_cancel_requested(self, job_id: str) -> bool:
        return self.redis.is_cancel_requested(job_id)

    def delete(self, job_id: str) -> None:
        self.sync()
        self.redis.delete(job_id)
        self.sync()

    def list_files(self, job_id: str) -> FileListing:
        self.sync()
        return self.redis.list_files(job_id)

    def open_file(self, job_id: str, path: bytes) -> OpenFile:
        self.sync()
        return self.redis.open_file(job_id, path)

    def usage(self, job_id: str) -> Sequence[UsageSample]:
        self.sync()
        return self.redis.usage(job_id)

    def latest_usage(self, ids: Iterable[str]) -> Mapping[str, Sequence[UsageSample]]:
        self.sync()
        return self.redis.latest_usage(ids)

    def open_log(self, job_id: str) -> Log:
        self.sync()
        self.start_thread()
        return self.redis.open_log(job_id)

    def watch(self, job_id: str) -> Notifier:
        self.start_thread()
        return self.redis.watch(job_id)

    def workers(self) -> Sequence[WorkerInfo]:
        self.sync()
        return self.redis.workers()

    def machines(self) -> Sequence[Machine]:
        self.sync()
        return self.redis.machines()

    def describe(self) -> dict[str, Any]:
        return self.redis.describe()

    def problem(self) -> str | None:
        return self.redis.problem()

    def check(self) -> None:
        self.redis.check()

    def check_writable(self) -> None:
        self.redis.check_writable()

    def secret(self) -> bytes:
        return self.redis.secret()

    def unreadable(self) -> Sequence[str]:
        return self.redis.unreadable()

    def finished_totals(self) -> dict[Status, int]:
        self.sync()
        return self.redis.finished_totals()

    def unfinished_ids(self) -> set[str]:
        self.sync()
        return self.redis.unfinished_ids()

    def iter_finished_ids(self) -> Iterator[str]:
        self.sync()
        return self.redis.iter_finished_ids()

    def prunable(self, days: int, max_bytes: int) -> Iterator[Collection[Prunable]]:
        self.sync()
        return self.redis.prunable(days, max_bytes)

    def keep_limits(self) -> KeepLimits | None:
        return self.redis.keep_limits()

    def waiting_for(self, job_id: str) -> str | None:
        self.sync()
        return self.redis.waiting_for(job_id)

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        self.sync()
        return self.redis.fire(command, seen, decision, job)

    # Methods for a worker

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        self.spool.heartbeat(info, running)

    def listen(self, queues: Iterable[str]) -> Notifier:
        self.queues = list(queues)
        self.spool.listen(self.queues)
        self.news = self.redis.watch_all()
        return self.news

    def claim(self, worker: str, host: str) -> Claim | None:
        """Fetches and claims a job. This worker sends no heartbeat, so the relay does not know its
        free slot and fetches nothing on its own."""

        def claim() -> Claim | None:
            self.relay.round()
            self.relay.fetch_some(self.queues, 1)
            return self.spool.claim(worker, host)

        if self.news is not None:
            for _ in self.news.changes():
                pass
        held = self.in_turn(claim)
        if held is not None:
            self.in_turn(self.relay.round)
        return held

    def next_due(self) -> float:
        return time.monotonic() + self.redis.take(self.spool.name, 0, self.queues).next_due

    def expects_more(self) -> bool:
        self.sync()
        return self.redis.take(self.spool.name, 0, self.queues).expects_more

    def orphans(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        return self.spool.orphans(host, ours)

    def tracking_env(self, job_id: str) -> dict[str, str]:
        return self.spool.tracking_env(job_id)

    def prune(self, days: int, max_bytes: int, audit_days: int = 0) -> Iterator[None]:
        self.sync()
        with self.relay.spool.retention(self.redis.now()) as retention:
            yield from self.redis.prune(retention, days, max_bytes, audit_days)
        self.sync()
