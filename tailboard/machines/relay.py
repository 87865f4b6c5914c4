"""The relay: the worker's thread that keeps its spool and Redis alike."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tailboard import intervals
from tailboard.errors import (
    EvictionAllowed,
    JobDamaged,
    JobError,
    JobNotFound,
    RecordDamaged,
    StoreError,
    StoreUnreachable,
    WrongState,
)
from tailboard.job import Job
from tailboard.machines import redis_machines
from tailboard.machines.messages import Assignment, Instance, MachineOrders, SpoolEntry, SpoolInUse
from tailboard.machines.redis_link import Command
from tailboard.machines.redis_logs import RedisNotifier
from tailboard.machines.redis_machines import REDIS_LOG_KEPT
from tailboard.machines.relay_store import RelayStore
from tailboard.machines.spool import Spool
from tailboard.notifier import Notifier
from tailboard.scheduler import Scheduler, is_soon
from tailboard.settings import RepeatedErrors, Settings
from tailboard.slices import SlicedWork
from tailboard.status import FINISHED
from tailboard.wake_pipe import WakePipe
from tailboard.workers import FENCED_REASON, WorkerInfo

log = logging.getLogger("worker")

LOG_CHUNK = 65_000  # bytes of a stream's entry; 65,536 would take a quarter more memory
RELAY_BEAT = 1.0  # seconds between a machine's signs of life
BATCH_WINDOW = 0.002  # seconds: collect output this long before sending it
ORDERS_DELAY = 0.05  # seconds from news of any job until the orders are read
PREFETCH_WINDOW = 0.25  # seconds: prefetch as many jobs as ended within this time
MAX_PREFETCHED = 64  # jobs
PREFETCH_RETURN_DELAY = 1.0  # seconds without an end until those are returned
START_REPORT_DELAY = 0.1  # seconds of delay before a start is reported
BUSY_BATCH_WINDOW = 0.008  # seconds: the same, while many jobs end
OUTAGE_LOG_INTERVAL = 60.0  # seconds between log lines about an outage of Redis
COMPARE_BATCH = 200  # jobs compared with Redis in one round
MAX_LOG_SENT = 16 * LOG_CHUNK  # bytes of a log sent in one round
FULL_LOG_KEPT = 4_000  # bytes of its log that Redis gets of a job that ends while Redis is full
SPOOL_COPIED = (
    "another worker uses a copy of the spool {0}: delete the file {0}/name, or set TAILBOARD_SPOOL "
    "to an empty folder"
)


def wait_readable(descriptors: Iterable[int], timeout: float) -> None:
    """Wait up to `timeout` seconds until one of the descriptors can be read. Unlike select, poll
    takes descriptors above 1,023, which a worker with about 340 jobs has."""
    poller = select.poll()
    for fd in descriptors:
        poller.register(fd, select.POLLIN)
    poller.poll(timeout * 1000)


@dataclass
class Sent:
    """What Redis knows of a job that this machine runs."""

    watch: int  # the number that its folder's changes carry
    moves: int = 0  # how often its folder has moved: it started, it ended
    entry: SpoolEntry | None = None  # the last one
    offset: int | None = None  # bytes of its log; None: ask Redis
    has_log: bool = False
    journal: bytes | None = None  # None: send it again
    place: str = ""
    times: int = 0  # bytes of its samples
    worker: str | None = None  # who claimed it
    queue: str = ""
    is_fenced: bool = False  # declared lost: kill its run, record nothing
    is_cut: bool = False  # it ended while Redis was full: of its log Redis gets only the end


def is_full(error: Exception) -> bool:
    """Has Redis refused to write because of its maxmemory?"""
    return isinstance(error, StoreError) and error.errno == errno.ENOSPC


class SpoolCopied(Exception):
    """This spool is a copy of another one that is in use."""


@dataclass
class Rival:
    """Another instance that reports for this spool: its own previous one, which has ended without
    our knowledge, or that of a copy."""

    instance: str
    beats: int  # the number of its last report
    since: float  # when that report was noticed, on the monotonic clock
    reports: int = 0  # since it was first noticed


class Relay:
    """Connects a machine's spool with Redis, in a thread of its own: the worker's loop works on the
    folder and never waits for Redis. Each round sends what is new in the folder, carries out what
    Redis orders, and fetches jobs for free slots: take, write down, confirm, admit. A lost message
    is sent again; Redis answers from where to go on, and what Redis has lost is restored. A lock
    makes sure that a spool has one relay."""

    def __init__(
        self,
        store: RelayStore,
        spool: Spool,
        settings: Settings,
        notify: Callable[[Job], None] = lambda job: None,
        scheduler: Scheduler | None = None,
    ) -> None:
        """`notify` is called with each job that this relay finds lost."""
        self.scheduler = scheduler
        self.store, self.spool, self.settings, self.notify = store, spool, settings, notify
        self.sent: dict[str, Sent] = {}  # by job ID: those that Redis shows as running here
        self.changed: set[str] = set()  # those of them whose folder has changed
        self.deferred: set[str] = set()  # those of them that are not urgent
        self.deferred_until = float("inf")  # on the monotonic clock
        self.by_watch: dict[int, str] = {}
        self.to_compare: list[str] = []  # jobs of which Redis may have lost something
        self.log_sizes: dict[str, int] = {}  # in Redis, of jobs that were taken
        self.errors = RepeatedErrors(log)  # by job
        self.ended: list[str] = []  # jobs, since the last maintenance
        self.ends: deque[float] = deque(maxlen=1_000)  # when jobs ended, on the monotonic clock
        self.last_end = 0.0  # on the monotonic clock
        self.epoch = ""  # of Redis; "": not asked since it was away
        self.folders: Notifier | None = None
        self.redis_watch: RedisNotifier | None = None
        self.next_beat = self.next_orders = self.next_maintenance = 0.0  # on the monotonic clock
        self.next_due = float("inf")  # of a job that waits for its time and a slot here
        self.away_since = self.logged_at = 0.0
        self.full_logged_at = float("-inf")  # on the monotonic clock
        self.pruning = SlicedWork(self.prune)
        self.serving: Sequence[WorkerInfo] = ()  # the spool's workers that take jobs
        self.leaving: str | None = None  # a worker that is stopping
        self.is_idle = False  # nothing waits here or there, runs here, or is still to be sent
        self.is_stopping = False
        self.has_failed = False  # its thread has ended by an error
        self.failure: str | None = None  # the message with which the worker exits then
        self.instance: Instance | None = None  # None: not begun
        self.is_admitted = False  # Redis has accepted it
        self.rival: Rival | None = None
        self.is_restoring = False  # a machine, since Redis returned to an older state
        self.must_restore = False  # this one
        self.wake_pipe = WakePipe()
        self.on_idle: Callable[[], None] = lambda: None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.thread.start()

    def leave(self, worker: str) -> None:
        """Fetch no more jobs for this worker, which is stopping, and fire no more schedules. A
        signal handler can call this."""
        self.leaving = worker
        if self.scheduler is not None:
            self.scheduler.stop()

    def stop(self, timeout: float) -> None:
        """Send the rest, for `timeout` seconds at most, and end."""
        self.is_stopping = True
        self.deferred_until = 0.0
        self.wake_pipe.wake()
        self.thread.join(timeout)

    def _run(self) -> None:
        try:
            self._run_rounds()
        except SpoolCopied as error:
            self.has_failed, self.failure = True, str(error)
            self.on_idle()
        except Exception:
            log.exception("relay ended: this worker exits, its jobs continue")
            self.has_failed = True
            self.on_idle()

    def _run_rounds(self) -> None:
        while (lock := self.spool.lock_relay()) is None:
            if self.is_stopping:
                return
            with suppress(OSError):  # Redis is away, which the other relay says
                self.fire_schedules()
            time.sleep(intervals.RETRY_DELAY)
        while True:
            is_last = self.is_stopping
            try:
                self.round()
            except SpoolCopied:
                raise
            except Exception as error:
                self.handle_outage(error)
            else:
                self.handle_recovery()
                if is_last and not self.changed:
                    break
            self.pause()
        with suppress(OSError):
            self.store.beat(self.spool.name, self.serving, self.instance)
        os.close(lock)
        self.close()

    def close(self) -> None:
        """Close its connections."""
        for watch in (self.folders, self.redis_watch):
            if watch is not None:
                watch.close()
        self.folders = self.redis_watch = None
        self.store.close()

    def pause(self) -> None:
        """Wait until a folder changes, Redis has news or something is due."""
        if self.away_since:
            wait_readable([self.wake_pipe.fd], intervals.RETRY_DELAY)
        else:
            # Join what is written within moments, and jobs that end in quick succession.
            time.sleep(BUSY_BATCH_WINDOW if self.ends else BATCH_WINDOW)
            watches = [w for w in (self.folders, self.redis_watch) if w is not None]
            files = [fd for w in watches if (fd := w.fileno()) is not None]
            times = [self.next_beat, self.next_orders, self.deferred_until, self.next_due]
            if self.scheduler is not None:
                times.append(self.scheduler.next_due())
            due = max(0.0, min(times) - time.monotonic())
            if self.changed or self.to_compare:
                due = 0.0
            elif len(files) < 2:
                due = min(due, intervals.POLL_INTERVAL)
            wait_readable([self.wake_pipe.fd, *files], due)
        self.wake_pipe.clear()

    def handle_outage(self, error: Exception) -> None:
        """Redis is away or full: log it now and every minute. Jobs go on."""
        now = time.monotonic()
        self.is_idle = False
        self.away_since = self.away_since or now
        if is_full(error):  # rounds without output succeed: do not log after each of them
            if now - self.full_logged_at >= OUTAGE_LOG_INTERVAL:
                self.full_logged_at = now
                log.error(
                    "redis full=%r: jobs continue, output is sent once it has room", str(error)
                )
        elif not self.logged_at or now - self.logged_at >= OUTAGE_LOG_INTERVAL:
            self.logged_at = now
            what = "redis away" if isinstance(error, (StoreError, ValueError)) else "relay trouble"
            info = None if isinstance(error, (OSError, ValueError)) else error
            log.error("%s=%r: jobs go on, none is claimed", what, str(error), exc_info=info)
        for sent in self.sent.values():
            sent.offset = sent.journal = None
            sent.times = 0
        self.epoch = ""

    def handle_recovery(self) -> None:
        if self.logged_at:
            log.info("redis back after=%.0fs", time.monotonic() - self.away_since)
        self.away_since = self.logged_at = 0.0

    # --- One round ---

    def round(self) -> None:
        """Do everything that is to be done now."""
        if self.folders is None:
            self.folders = self.spool.watch_active()
        self.note_changes()
        if self.redis_watch is None:
            self.redis_watch = self.store.watch_all()
        if self.epoch == "" or time.monotonic() >= min(self.next_beat, self.next_orders):
            self.carry_out_orders()
        self.compare()
        try:
            self.send()
        except StoreUnreachable:
            raise
        except StoreError:  # it is full: deleting old jobs may help
            self.maintain()
            raise
        if self.must_restore and not self.to_compare and not self.changed:
            self.store.restored(self.spool.name)
            self.must_restore = False
        found = False
        if self.check_policy():
            self.fire_schedules()
            found = self.fetch()
        self.maintain()
        was_idle = self.is_idle
        is_busy = found or self.changed or self.to_compare or self.sent or self.spool.active()
        self.is_idle = not is_busy and not is_soon(self.next_due)
        if self.is_idle and not was_idle:
            self.on_idle()

    def check_policy(self) -> bool:
        """Check that Redis cannot drop jobs. Returns False if it may: then none is submitted or
        taken, and it is checked again after a second."""
        try:
            self.store.check_policy()
        except EvictionAllowed as error:
            self.errors.report("redis", error)
            self.next_due = time.monotonic() + intervals.RETRY_DELAY
            return False
        self.errors.resolved("redis")
        return True

    def fire_schedules(self) -> None:
        if self.scheduler is not None and self.scheduler.is_due():
            self.scheduler.fire_all_due()

    def note_changes(self) -> None:
        """Note which folders have changed; with each beat also those that cannot be watched."""
        assert self.folders is not None
        for number, name in self.folders.changes():
            job_id = self.by_watch.get(number)
            if job_id in self.sent:
                self.note_change(job_id, self.sent[job_id], name)
        if time.monotonic() >= self.deferred_until:
            self.changed |= self.deferred & self.sent.keys()
            self.deferred, self.deferred_until = set(), float("inf")
        if self.redis_watch is not None and self.redis_watch.pop_news():
            self.next_orders = min(self.next_orders, time.monotonic() + ORDERS_DELAY)
        if time.monotonic() >= self.next_beat or self.folders.fileno() is None:
            for job_id in self.spool.active() - self.sent.keys():
                self.follow(job_id)
            self.changed.update(i for i, sent in self.sent.items() if sent.watch < 0)
        if time.monotonic() >= self.next_maintenance:  # in case an event was lost
            self.changed.update(self.sent)

    def note_change(self, job_id: str, sent: Sent, name: str) -> None:
        """Output and ends are sent at once; starts a little later, when a short job has ended."""
        if not name:  # the folder itself has moved
            sent.moves += 1
        if name == "output.log" or (not name and sent.moves > 1):
            self.changed.add(job_id)
        else:
            self.defer(job_id)

    def defer(self, job_id: str) -> None:
        self.deferred.add(job_id)
        self.deferred_until = min(self.deferred_until, time.monotonic() + START_REPORT_DELAY)

    def follow(self, job_id: str) -> Sent:
        sent = self.sent.get(job_id)
        if sent is None:
            sent = self.sent[job_id] = Sent(-1, offset=self.log_sizes.pop(job_id, None))
        self.changed.add(job_id)
        return sent

    def forget(self, job_id: str) -> None:
        sent = self.sent.pop(job_id, None)
        self.changed.discard(job_id)
        if sent is not None and sent.watch >= 0 and self.folders is not None:
            self.folders.drop(sent.watch)
            self.by_watch.pop(sent.watch, None)

    def watch(self, sent: Sent, entry: SpoolEntry) -> None:
        """Watch its folder from now on."""
        assert self.folders is not None
        if sent.watch < 0:
            with suppress(OSError):  # it has moved
                sent.watch = self.folders.add(entry.folder)
                self.by_watch[sent.watch] = entry.id
                sent.moves = 0 if entry.place == "queued" else 1
                self.changed.add(entry.id)  # changes before the watch are not reported

    # --- What Redis orders ---

    def carry_out_orders(self) -> None:
        """Report that this machine lives; pause, cancel and delete what others asked for."""
        self.next_orders = float("inf")
        self.spool.check_name()
        workers = list(self.spool.workers())
        self.serving = [worker for worker in workers if worker.name != self.leaving]
        orders = self.beat(workers)
        if orders.must_restore and not self.must_restore:
            log.warning("redis returned to an older state: restoring the jobs of this spool")
        self.is_restoring, self.must_restore = bool(orders.restoring), orders.must_restore
        if orders.epoch != self.epoch:
            self.restore_pauses(orders)
            self.to_compare = self.spool.ids()
            self.epoch = orders.epoch
        if time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + RELAY_BEAT
        self.spool.mirror_pauses(orders.paused)
        cancel_requests = [
            job_id
            for job_id, why in orders.cancel_requests.items()
            if self.deliver_cancel(job_id, why)
        ]
        deletions = [job_id for job_id in orders.deletions if self.delete_here(job_id)]
        self.store.acknowledge(self.spool.name, cancel_requests, deletions)

    def restore_pauses(self, orders: MachineOrders) -> None:
        """If Redis has been emptied since this spool last saw it, pause again the queues that were
        paused then: nobody has resumed them."""
        known = self.spool.known_epoch()
        if known == orders.epoch:
            return
        for pause in self.spool.pauses.list() if known else ():
            if pause.queue not in orders.paused:
                log.warning("paused queue=%s again: Redis was emptied", pause.queue)
                self.store.pauses.put(pause)
                orders.paused[pause.queue] = pause.encode()
        self.spool.note_epoch(orders.epoch)

    def beat(self, workers: Sequence[WorkerInfo]) -> MachineOrders:
        """Report that this machine lives. SpoolInUse while another instance of its spool may live,
        SpoolCopied once it is known to."""
        name = self.spool.name
        if self.instance is None:
            self.instance = self.spool.begin_instance()
        try:
            orders = self.store.beat(name, workers, self.instance)
        except SpoolInUse as other:
            if not self.spool.has_run(other.instance) and not self.observe_rival(other):
                raise
            orders = self.store.beat(name, workers, self.instance, other.instance)
        self.rival = None
        if not self.is_admitted:
            self.spool.note_instance(self.instance, True)
            self.is_admitted = True
            self.on_idle()  # the worker may begin
        return orders

    def observe_rival(self, other: SpoolInUse) -> bool:
        """Note what another instance has reported. Returns True once it has been silent for long
        enough. SpoolCopied if it has reported twice since it was noticed: one report may have been
        on its way when it was killed."""
        now, rival = time.monotonic(), self.rival
        if rival is None or rival.instance != other.instance:
            rival = self.rival = Rival(other.instance, other.beats, now)
        elif rival.beats != other.beats:
            rival.beats, rival.since, rival.reports = other.beats, now, rival.reports + 1
        if rival.reports > 1:
            raise SpoolCopied(SPOOL_COPIED.format(self.spool.root))
        return now - rival.since >= redis_machines.INSTANCE_SILENCE

    def deliver_cancel(self, job_id: str, reason: str) -> bool:
        """Leave the request to cancel a job in its folder. Returns False if it must be repeated."""
        try:
            self.spool.leave_request(job_id, reason)
        except FileNotFoundError:  # it moves
            return False
        except JobNotFound:  # or it waits in taken/ or returned/, where no request is left
            return not self.spool.holds(job_id)
        except (WrongState, JobDamaged):  # its end is reported, and Redis refuses it
            return True
        except OSError as error:  # for example a full disk
            self.errors.report(f"cancel={job_id}", error)
            return False
        return True

    def delete_here(self, job_id: str) -> bool:
        """Delete a job from the spool as well. Returns False if that must be repeated."""
        self.forget(job_id)
        try:
            self.spool.delete(job_id)
        except JobNotFound:
            return True
        except WrongState:  # its end is being recorded
            return False
        return True

    # --- What Redis has lost ---

    def compare(self) -> None:
        """Compare some of the jobs here with Redis; send what it lacks."""
        if not self.to_compare:
            return
        ids, self.to_compare = self.to_compare[:COMPARE_BATCH], self.to_compare[COMPARE_BATCH:]
        entries = [entry for job_id in ids if (entry := self.spool.read_entry(job_id)) is not None]
        known = self.store.known_states([entry.id for entry in entries]) if entries else []
        for entry, state in zip(entries, known, strict=True):
            if (
                state != (entry.status_for_redis, entry.token, entry.log_size)
                and entry.place != "taken"
            ):
                sent = self.follow(entry.id)
                sent.offset = sent.journal = None

    def lose_missing(self) -> None:
        """Give up jobs that Redis shows as running here and whose folders were removed by hand."""
        for job_id in self.store.running_on(self.spool.name):
            try:
                is_missing = self.spool.read_entry(job_id, must_read=True) is None
            except OSError as error:  # caused by the disk: looked at again later
                self.errors.report(f"job={job_id}", error)
                continue
            if is_missing:
                self.spool.check_name()  # while the spool itself is away, no job of it is missing
                with self.isolated(job_id):
                    self.notify_lost([self.store.lose_missing(job_id, self.spool.name)])

    @contextmanager
    def isolated(self, job_id: str) -> Iterator[None]:
        """If this job's record in Redis is damaged, log it once and continue with the others."""
        try:
            yield
        except (RecordDamaged, JobError) as error:
            self.errors.report(f"job={job_id}", error)

    def give_back_unknown(self) -> None:
        """Return jobs that Redis has given to this machine without its knowledge: the request for
        them was on its way when the connection broke, and arrived afterwards."""
        taken = self.store.taken_by(self.spool.name)
        unknown = [job_id for job_id in taken if not self.spool.holds(job_id)]
        self.store.give_back(self.spool.name, unknown)

    def notify_lost(self, jobs: Iterable[Job | None]) -> None:
        for job in jobs:
            if job is not None:
                self.notify(job)

    # --- What Redis is told ---

    def send(self) -> None:
        """Send what is new of the changed jobs: log bytes, samples, the journal. Redis takes no
        end before it has the whole log."""
        changed, self.changed = self.changed, set()
        calls: list[tuple[SpoolEntry, str, Command]] = []
        for job_id in changed:
            try:
                calls += self.prepare(job_id)
            except OSError as error:  # it has moved, or is not from Redis
                self.errors.report(f"job={job_id}", error)
                self.defer(job_id)
        if not calls:
            return
        try:
            answers = self.store.send([command for _, _, command in calls])
        except OSError:
            self.changed |= changed
            raise
        failed = None
        for (entry, kind, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, RecordDamaged):  # of this job alone
                self.errors.report(f"job={entry.id}", answer)
                self.defer(entry.id)
            elif isinstance(answer, OSError):
                self.changed.add(entry.id)
                self.sent[entry.id].is_cut |= kind == "log" and entry.is_over and is_full(answer)
                self.sent[entry.id].offset = self.sent[entry.id].journal = None
                self.sent[entry.id].times = 0
                failed = answer
            elif entry.id in self.sent:
                self.handle_answer(entry, kind, answer)
        if failed is not None:
            raise failed

    def prepare(self, job_id: str) -> Sequence[tuple[SpoolEntry, str, Command]]:
        """The changed job, ready to be sent."""
        sent = self.sent.setdefault(job_id, Sent(-1))
        entry = self.spool.read_entry(job_id, sent.entry, must_read=True)
        if entry is None:
            self.forget(job_id)
            return ()
        if sent.entry is not None and sent.entry.token != entry.token:  # it was taken again
            self.forget(job_id)
            sent = self.sent[job_id] = Sent(-1)
        sent.entry = entry
        self.watch(sent, entry)
        sent.queue = entry.queue
        if entry.place == "running" and sent.journal != entry.journal:
            sent.worker = entry.worker
        return [(entry, kind, command) for kind, command in self.commands(sent, entry)]

    def commands(self, sent: Sent, entry: SpoolEntry) -> Iterator[tuple[str, Command]]:
        """The commands that send what is new in a job's folder."""
        if sent.is_fenced:
            yield "report", self.store.report(entry, -1)
            return
        if not entry.is_over or entry.log_size != 0:  # else the report says that the log is empty
            yield from self.log_commands(sent, entry)
        if sent.journal != entry.journal or sent.place != entry.place:
            size = entry.log_size if entry.is_over and entry.log_size is not None else -1
            yield "report", self.store.report(entry, size)

    def log_commands(self, sent: Sent, entry: SpoolEntry) -> Iterator[tuple[str, Command]]:
        if entry.log_size is None:
            return
        if sent.is_cut:  # what Redis has of it is dropped first, which makes the room
            if sent.offset != entry.log_size:
                start = max(entry.log_start, entry.log_size - FULL_LOG_KEPT)
                data = self.spool.read_log(entry, start, entry.log_size - start)
                yield "log", self.store.append(entry, start, data, "anew")
            return
        if sent.offset is None or (entry.log_size == 0 and not sent.has_log):
            yield "log", self.store.append(entry, 0, b"", "join")
            sent.has_log = True
            return
        start, how = self.place_to_send(sent.offset, entry)
        data = b""
        if start < entry.log_size or how == "anew":
            data = self.spool.read_log(entry, start, min(MAX_LOG_SENT, entry.log_size - start))
        for place in range(0, max(len(data), how != "join"), LOG_CHUNK):
            chunk = data[place : place + LOG_CHUNK]
            yield "log", self.store.append(entry, start + place, chunk, how)
            how = "join"
        begin, samples = self.spool.read_times(entry, sent.times)
        if samples:
            sent.times = begin + len(samples)
            yield "note", self.store.note(entry, begin, samples)

    @staticmethod
    def place_to_send(offset: int, entry: SpoolEntry) -> tuple[int, str]:
        """(offset to send from, how it joins what Redis has): `gap` if bytes between are gone or
        more than Redis keeps, `anew` if the job has truncated its log."""
        assert entry.log_size is not None
        start = max(offset, entry.log_start, entry.log_size - REDIS_LOG_KEPT)
        if entry.log_size < offset:
            return max(entry.log_start, entry.log_size - REDIS_LOG_KEPT), "anew"
        return start, "gap" if start > offset else "join"

    def handle_answer(self, entry: SpoolEntry, kind: str, answer: Any) -> None:
        sent = self.sent[entry.id]
        if kind == "log":
            self.handle_offset(sent, entry, answer)
        elif kind == "report":
            self.handle_report(sent, entry, answer.decode())

    def handle_offset(self, sent: Sent, entry: SpoolEntry, offset: int) -> None:
        if offset < 0:  # the report finds out why
            sent.journal = sent.offset = None
        else:
            sent.offset = offset
        if sent.offset != entry.log_size:
            self.changed.add(entry.id)

    def handle_report(self, sent: Sent, entry: SpoolEntry, answer: str) -> None:
        if answer in ("absent", "behind"):
            answer = self.restore(entry).decode()
            sent.offset = sent.journal = None
            sent.times = 0
            self.changed.add(entry.id)
            if answer not in ("fenced", "cancel"):
                return
        if answer == "fenced":
            self.drop_fenced(sent, entry)
        elif answer == "cancel":
            self.end_cancelled(entry)
        elif answer == "log":
            if sent.offset == entry.log_size:  # Redis has lost a part
                sent.offset = None
            self.changed.add(entry.id)
        elif entry.place == "returned":
            self.spool.discard(entry)
            self.forget(entry.id)
        elif entry.status in FINISHED:
            self.last_end = time.monotonic()
            self.ends.append(self.last_end)
            self.ended.append(entry.id)
            self.forget(entry.id)
        else:
            sent.journal, sent.place = entry.journal, entry.place

    def restore(self, entry: SpoolEntry) -> bytes:
        """Put back a job that Redis has lost; returns the answer, as to a report."""
        (answer,) = self.store.send([self.store.restore(entry)])
        if isinstance(answer, OSError):
            raise answer
        return bytes(answer)

    def end_cancelled(self, entry: SpoolEntry) -> None:
        """Record as cancelled, and report, a job that ended otherwise, will run again or has not
        started: Redis accepted a request first."""
        reason = self.store.cancel_reason(entry.id)
        try:
            self.spool.end_cancelled(entry, reason)
        except (BlockingIOError, FileNotFoundError):  # its worker is recording it or moves it
            self.defer(entry.id)
        except OSError as error:  # for example a full disk
            self.errors.report(f"cancel={entry.id}", error)
            self.defer(entry.id)
        else:
            log.info("cancelled job=%s instead=%s reason=%r", entry.id, entry.place, reason)
            self.follow(entry.id)

    def drop_fenced(self, sent: Sent, entry: SpoolEntry) -> None:
        """The job belongs to another machine by now: kill its processes here, record nothing."""
        if entry.place not in ("queued", "running"):
            log.warning("dropped job=%s reason=%r", entry.id, FENCED_REASON)
            if entry.is_over:
                self.spool.set_aside(entry)
            else:
                self.spool.discard(entry)
            self.forget(entry.id)
            return
        if not sent.is_fenced:
            sent.is_fenced = self.deliver_cancel(entry.id, FENCED_REASON)

    # --- What is fetched ---

    def fetch(self) -> bool:
        """Take jobs for free slots, write them down, confirm, admit. True if there was one."""
        self.next_due = float("inf")
        self.confirm(self.spool.taken())
        groups = list(self.free_slots())
        prefetch = min(self.count_prefetch(), MAX_PREFETCHED if len(groups) == 1 else 0)
        counts = [self.fetch_some(queues, free, prefetch) for queues, free in groups]
        if not groups:
            self.give_back(self.spool.taken())
        return any(counts)

    def count_prefetch(self) -> int:
        """How many jobs to fetch before slots are free for them: as many as have ended lately, so
        that no worker waits for Redis. Behind a long job they are soon returned."""
        since = time.monotonic() - PREFETCH_WINDOW
        while self.ends and self.ends[0] < since:
            self.ends.popleft()
        return len(self.ends)

    def fetch_some(self, queues: list[str], free: int, prefetch: int = 0) -> int:
        """`free` slots; negative if more jobs wait here than there are slots."""
        wanted = free + prefetch
        if wanted < 0 and time.monotonic() > self.last_end + PREFETCH_RETURN_DELAY:
            self.spool.return_waiting(-wanted)
        if wanted <= 0 or (free <= 0 and wanted < prefetch / 2):  # in batches
            return 0
        found, seconds = self.store.take(self.spool.name, wanted, queues, self.instance)
        self.next_due = min(self.next_due, time.monotonic() + seconds)
        self.receive(found)
        self.confirm(self.spool.taken())
        return len(found)

    def give_back(self, ids: Sequence[str]) -> None:
        """Return the jobs that no slot here is free for."""
        for job_id in ids:
            entry = self.spool.read_entry(job_id)
            if entry is None or entry.place != "taken":
                continue
            if self.store.give_back_one(job_id, entry.token):
                self.spool.discard(entry)
            else:  # it was confirmed and the answer lost, or another machine has it
                self.confirm([job_id])

    def receive(self, found: Sequence[Assignment]) -> None:
        new = []
        for assignment in found:
            if not self.spool.holds(assignment.id):
                new.append((assignment, self.store.past_log(assignment)))
                self.log_sizes[assignment.id] = assignment.log_size or 0
                continue
            try:
                entry = self.spool.read_entry(assignment.id, must_read=True)
            except OSError as error:  # caused by the disk: Redis gives it again
                self.errors.report(f"job={assignment.id}", error)
                continue
            self.receive_again(assignment, entry)
        self.spool.receive(new)

    def receive_again(self, assignment: Assignment, entry: SpoolEntry | None) -> None:
        """Handle a taken job that is here already."""
        if entry is None:  # else Redis would give it to this spool again and again
            self.store.drop(assignment.id, "the spool has another folder with its ID")
        elif entry.token == assignment.token:  # Redis has lost how far it had got
            self.follow(assignment.id)
        else:  # an attempt that was declared lost must end first
            self.drop_fenced(self.follow(assignment.id), entry)

    def confirm(self, ids: Sequence[str]) -> int:
        """Confirm and admit what was taken and written down, unless it was cancelled or given to
        another machine, or its queue was paused; returns the number of those admitted."""
        entries = [entry for job_id in ids if (entry := self.spool.read_entry(job_id)) is not None]
        if not entries:
            return 0
        admitted = 0
        answers = self.store.send([self.store.report(entry, -1) for entry in entries])
        for entry, answer in zip(entries, answers, strict=True):
            if answer in (b"absent", b"behind"):
                (answer,) = self.store.send([self.store.restore(entry)])
            if isinstance(answer, RecordDamaged):
                self.store.drop(entry.id, str(answer))
                self.spool.discard(entry)
            elif isinstance(answer, OSError):
                raise answer
            elif answer == b"running":
                self.admit(entry)
                admitted += 1
            elif answer == b"paused":
                self.give_back([entry.id])
            elif answer == b"cancel":
                self.end_cancelled(entry)
            else:
                self.spool.discard(entry)
        return admitted

    def admit(self, entry: SpoolEntry) -> None:
        """Let it run; Redis knows all of it by now."""
        entry = self.spool.admit(entry)
        sent = self.follow(entry.id)
        sent.entry, sent.queue = entry, entry.queue
        sent.journal, sent.place = entry.journal, entry.place
        self.watch(sent, entry)
        self.changed.discard(entry.id)

    def free_slots(self) -> Iterator[tuple[list[str], int]]:
        """(queues that the workers of this spool serve, how many jobs they could start)."""
        groups: dict[tuple[str, ...], list[WorkerInfo]] = {}
        for worker in self.serving:
            groups.setdefault(tuple(worker.queues), []).append(worker)
        known = {worker.name for worker in self.serving}
        for queues, workers in groups.items():
            names = {worker.name for worker in workers}
            busy = sum(
                sent.worker in names
                or (sent.worker not in known and (not queues or sent.queue in queues))
                for sent in self.sent.values()
            )
            yield list(queues), sum(worker.slots for worker in workers) - busy

    # --- Maintenance ---

    def maintain(self) -> None:
        """Give up silent machines; delete old jobs; when leaving, give back what no worker here has
        claimed."""
        if self.leaving is not None and not self.serving:
            self.spool.return_waiting(len(self.sent))
        now = time.monotonic()
        if now < self.next_maintenance:
            return
        self.next_maintenance = now + intervals.HEARTBEAT_INTERVAL
        # A job may be another machine's by now, or have left children that go on writing.
        self.to_compare += [*self.sent, *self.ended]
        self.ended = []
        if self.instance is not None and self.is_admitted:
            self.spool.note_instance(self.instance, True)
        if self.is_restoring:  # what is missing here may be about to be restored elsewhere
            return
        self.lose_missing()
        self.give_back_unknown()
        self.notify_lost(
            self.store.give_up_silent_machines(self.settings.lost_after, self.spool.name)
        )
        self.pruning.continue_for(intervals.PRUNE_TIME)

    def prune(self) -> Iterator[None]:
        """Delete old jobs from Redis. A generator, see `WorkerStore.prune`."""
        with self.spool.retention(self.store.now()) as retention:
            keep_days, keep_bytes = self.settings.keep_days, self.settings.keep_bytes
            yield from self.store.prune(retention, keep_days, keep_bytes)
