"""The relay: the worker's thread that keeps its machine's spool and Redis in sync."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tailboard import intervals
from tailboard.errors import (
    EvictionAllowed,
    JobError,
    JobNotFound,
    RecordDamaged,
    StoreError,
    StoreUnreachable,
    WrongState,
)
from tailboard.folder.orphans import set_remnants_aside
from tailboard.job import Job
from tailboard.machines.messages import Assignment, MachineOrders, SpoolEntry
from tailboard.machines.outage import Outage
from tailboard.machines.outbox import Outbox
from tailboard.machines.presence import Presence, SpoolCopied
from tailboard.machines.redis_logs import RedisNotifier
from tailboard.machines.relay_store import RelayStore
from tailboard.machines.spool import Spool
from tailboard.notifier import wait_readable
from tailboard.order import ServedQueues
from tailboard.program_log import RepeatedErrors
from tailboard.scheduler import Scheduler, is_soon
from tailboard.settings import Settings
from tailboard.slices import SlicedWork
from tailboard.status import Status
from tailboard.wake_pipe import WakePipe
from tailboard.workers import WorkerInfo

log = logging.getLogger("worker")

RELAY_BEAT = 1.0  # seconds between a machine's reports that it is alive
ORDERS_DELAY = 0.05  # seconds from news of any job until the orders are read
BATCH_WINDOW = 0.002  # seconds: collect output this long before sending it
BUSY_BATCH_WINDOW = 0.008  # seconds: the same, while many jobs end
MAX_PREFETCHED = 64  # jobs
PREFETCH_RETURN_DELAY = 1.0  # seconds without an end until prefetched jobs are returned
NEVER = float("inf")  # on the monotonic clock


class Relay:
    """Connects a machine's spool with Redis, in its own thread: the worker's loop works on the
    folder and never waits for Redis. Each round sends the changes in the folder, carries out what
    Redis orders, and fetches jobs for free slots: take them, write them to disk, confirm them,
    admit them. For jobs that this machine has taken, the spool is the truth, except that Redis
    decides on cancels that it has accepted and on jobs that it has given to another machine. A lock
    makes sure that a spool has one relay.

    The worker reads `is_idle`, `has_failed` and `failure`, and sets `on_idle` and `notify` before
    `start`."""

    def __init__(
        self,
        store: RelayStore,
        spool: Spool,
        settings: Settings,
        notify: Callable[[Job], None] = lambda job: None,
        scheduler: Scheduler | None = None,
    ) -> None:
        """`notify` is called with each job that this relay finds lost."""
        self.store, self.spool, self.settings = store, spool, settings
        self.notify, self.scheduler = notify, scheduler
        self.on_idle: Callable[[], None] = lambda: None  # also called when it is admitted or fails
        self.errors = RepeatedErrors(log)  # by job
        self.outbox = Outbox(store, spool, self.errors, settings.files_sent_bytes)
        self.presence = Presence(store, spool)
        self.outage = Outage()
        self.pruning = SlicedWork(self.prune)
        self.removals: deque[Iterator[None]] = deque()  # of files of deleted jobs
        self.redis_watch: RedisNotifier | None = None
        self.wake_pipe = WakePipe()
        self.next_beat = self.next_orders = self.next_maintenance = 0.0  # on the monotonic clock
        self.next_due = NEVER  # when a job that waits for its time and a slot here may start
        self.expects_more = False  # a job of these queues waits for one that runs somewhere
        self.epoch = ""  # of Redis; "": not asked since an outage
        self.is_restoring = False  # a machine restores jobs: Redis returned to an older state
        self.must_restore = False  # this machine does
        self.serving: Sequence[WorkerInfo] = ()  # the spool's workers that take jobs
        self.leaving: str | None = None  # a worker that is stopping
        self.is_idle = False  # nothing waits here or in Redis, runs here, or remains to be sent
        self.is_stopping = False
        self.has_failed = False  # an error has ended its thread
        self.failure: str | None = None  # the error message with which the worker then exits
        self.thread = threading.Thread(target=self._run, daemon=True)

    # --- What the worker calls ---

    def start(self) -> None:
        self.thread.start()

    def is_admitted(self) -> bool:
        """Has Redis accepted this very folder as the spool? Until then it may be a copy, whose jobs
        another machine runs."""
        return self.presence.is_admitted or self.spool.instances.is_admitted()

    def leave(self, worker: str) -> None:
        """Fetch no more jobs for this worker, which is stopping, and fire no more schedules. A
        signal handler can call this."""
        self.leaving = worker
        if self.scheduler is not None:
            self.scheduler.stop()

    def stop(self, timeout: float) -> None:
        """Send the rest, for `timeout` seconds at most, and end."""
        self.is_stopping = True
        self.outbox.hurry()
        self.wake_pipe.wake()
        self.thread.join(timeout)

    # --- Its thread ---

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
        lock = self._wait_for_lock()
        if lock is None:
            return
        while True:
            is_last = self.is_stopping
            try:
                self.round()
            except SpoolCopied:
                raise
            except Exception as error:
                self.handle_outage(error)
            else:
                self.outage.end()
                if is_last and not self.outbox.changed:
                    break
            self.pause()
        with suppress(OSError):
            self.presence.end(self.serving)
        os.close(lock)
        self.close()

    def _wait_for_lock(self) -> int | None:
        """Wait until this relay is the only one of its spool. Until then another worker's relay
        works for this worker, too. None if this worker stops first."""
        while (lock := self.spool.lock_relay()) is None:
            if self.is_stopping:
                return None
            with suppress(OSError):  # Redis is unreachable: the other relay logs that
                self.fire_schedules()
            time.sleep(intervals.RETRY_DELAY)
        return lock

    def close(self) -> None:
        """Close its connections."""
        self.outbox.close()
        if self.redis_watch is not None:
            self.redis_watch.close()
        self.redis_watch = None
        self.store.close()

    def handle_outage(self, error: Exception) -> None:
        """Redis is unreachable or full. Jobs continue; once it is back, it may have lost
        anything."""
        self.is_idle = False
        self.outage.report(error)
        self.outbox.send_again()
        self.epoch = ""

    def pause(self) -> None:
        """Wait until a folder changes, Redis has news or something is due."""
        if self.outage.since:
            wait_readable([self.wake_pipe.fd], intervals.RETRY_DELAY)
        else:
            # Send output, and ends of jobs, that follow each other quickly in one round.
            time.sleep(BUSY_BATCH_WINDOW if self.outbox.ends.count() else BATCH_WINDOW)
            watches = [w for w in (self.outbox.folders, self.redis_watch) if w is not None]
            files = [fd for fd in (watch.fileno() for watch in watches) if fd is not None]
            due = max(0.0, self._next_round_at() - time.monotonic())
            if len(files) < 2:
                due = min(due, intervals.POLL_INTERVAL)
            wait_readable([self.wake_pipe.fd, *files], due)
        self.wake_pipe.clear()

    def _next_round_at(self) -> float:
        """When the next round is due if nothing changes, on the monotonic clock."""
        if self.outbox.has_work() or self.removals:
            return 0.0
        times = [self.next_beat, self.next_orders, self.outbox.deferred_until, self.next_due]
        if self.scheduler is not None:
            times.append(self.scheduler.next_due())
        return min(times)

    # --- One round ---

    def round(self) -> None:
        """Do everything that is due now."""
        self.outbox.open()
        self.note_changes()
        if self.redis_watch is None:
            self.redis_watch = self.store.watch_all()
        if self.epoch == "" or time.monotonic() >= min(self.next_beat, self.next_orders):
            self.carry_out_orders()
        self.outbox.compare()
        self.send()
        if self.must_restore and not self.outbox.has_work():
            self.store.restored(self.spool.name)
            self.must_restore = False
        has_fetched = False
        if self.check_policy():
            self.fire_schedules()
            has_fetched = self.fetch()
        self.maintain()
        self.remove_some()
        self.update_idle(has_fetched)

    def note_changes(self) -> None:
        """Note which folders have changed, and whether Redis has news."""
        now = time.monotonic()
        is_beat_due, is_maintenance_due = now >= self.next_beat, now >= self.next_maintenance
        self.outbox.note_changes(is_beat_due, is_maintenance_due)
        if self.redis_watch is not None and self.redis_watch.pop_news():
            self.next_orders = min(self.next_orders, time.monotonic() + ORDERS_DELAY)

    def send(self) -> None:
        """Send the changes. If Redis is full, deleting old jobs may make room."""
        try:
            self.outbox.send()
        except StoreUnreachable:
            raise
        except StoreError:
            self.maintain()
            raise

    def check_policy(self) -> bool:
        """Check that Redis cannot drop jobs. Returns False if it can: then no job is submitted or
        taken, and the policy is checked again after a second."""
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

    def update_idle(self, has_fetched: bool) -> None:
        """Check whether all work is done; `on_idle` reports that once."""
        was_idle = self.is_idle
        has_jobs = has_fetched or self.outbox.sent or self.spool.active()
        is_busy = has_jobs or self.outbox.has_work() or is_soon(self.next_due) or self.expects_more
        self.is_idle = not is_busy
        if self.is_idle and not was_idle:
            self.on_idle()

    # --- What Redis orders ---

    def carry_out_orders(self) -> None:
        """Report that this machine is alive; pause, cancel and delete as requested."""
        self.next_orders = NEVER
        self.spool.check_name()
        workers = list(self.spool.workers())
        self.serving = [worker for worker in workers if worker.name != self.leaving]
        orders = self.report_presence(workers)
        if orders.must_restore and not self.must_restore:
            log.warning("redis returned to an older state: restoring the jobs of this spool")
        self.is_restoring, self.must_restore = bool(orders.restoring), orders.must_restore
        if orders.epoch != self.epoch:
            self.restore_settings(orders)
            self.store.note_root(self.spool.name, os.path.abspath(self.spool.root))
            self.outbox.compare_all()
            self.epoch = orders.epoch
        if time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + RELAY_BEAT
        self.spool.mirror_pauses(orders.paused)
        self.spool.mirror_limits(orders.limits)
        requests = orders.cancel_requests.items()
        cancelled = [job_id for job_id, why in requests if self.outbox.deliver_cancel(job_id, why)]
        deleted = [job_id for job_id in orders.deletions if self.delete_here(job_id)]
        self.store.acknowledge(self.spool.name, cancelled, deleted)

    def report_presence(self, workers: Sequence[WorkerInfo]) -> MachineOrders:
        was_admitted = self.presence.is_admitted
        orders = self.presence.report(workers)
        if not was_admitted:
            self.on_idle()  # the worker may start
        return orders

    def restore_settings(self, orders: MachineOrders) -> None:
        """If Redis has been emptied since this spool last saw it, pause again the queues that were
        paused then, and limit those that had a limit: no user has changed that."""
        known = self.spool.known_epoch()
        if known == orders.epoch:
            return
        for pause in self.spool.pauses.list() if known else ():
            if pause.queue not in orders.paused:
                log.warning("paused queue=%s again: Redis was emptied", pause.queue)
                self.store.pauses.put(pause)
                orders.paused[pause.queue] = pause.encode()
        for queue, record in self.spool.known_limits().items() if known else ():
            if queue not in orders.limits:
                log.warning("limited queue=%s again: Redis was emptied", queue)
                self.store.limits.put(queue, record)
                orders.limits[queue] = record
        self.spool.note_epoch(orders.epoch)

    def delete_here(self, job_id: str) -> bool:
        """Delete a job from the spool as well. Returns False if that must be repeated."""
        self.outbox.forget(job_id)
        try:
            self.removals.append(self.spool.delete_in_steps(job_id))
        except (JobNotFound, FileNotFoundError):
            return True
        except (WrongState, BlockingIOError):  # its end is being recorded
            return False
        return True

    def remove_some(self) -> None:
        """Continue to remove the files of deleted jobs."""
        until = time.monotonic() + intervals.PRUNE_TIME
        while self.removals:
            is_done = next(self.removals[0], True)
            if is_done:
                self.removals.popleft()
            if time.monotonic() > until:
                return

    # --- Fetching jobs ---

    def fetch(self) -> bool:
        """Take jobs for free slots, write them to disk, confirm them and admit them. Returns True
        if there was one."""
        self.next_due, self.expects_more = NEVER, False
        self.confirm(self.spool.taken())
        groups = list(self.free_slots())
        # As many as have ended lately, so that no worker waits for Redis. If long jobs follow, they
        # are soon returned.
        prefetch = min(self.outbox.ends.count(), MAX_PREFETCHED if len(groups) == 1 else 0)
        counts = [self.fetch_some(queues, free, prefetch) for queues, free in groups]
        if not groups:
            self.give_back(self.spool.taken())
        return any(counts)

    def free_slots(self) -> Iterator[tuple[list[str], int]]:
        """(queues that some workers of this spool serve, how many more jobs they could start)."""
        groups: dict[tuple[str, ...], list[WorkerInfo]] = {}
        for worker in self.serving:
            groups.setdefault(tuple(worker.queues), []).append(worker)
        known = {worker.name for worker in self.serving}
        for queues, workers in groups.items():
            served = served_by(queues)
            names = {worker.name for worker in workers}
            busy = sum(
                sent.worker in names or (sent.worker not in known and sent.queue in served)
                for sent in self.outbox.sent.values()
            )
            yield list(queues), sum(worker.slots for worker in workers) - busy

    def fetch_some(self, queues: list[str], free: int, prefetch: int = 0) -> int:
        """Fetch jobs of these queues for `free` slots, and `prefetch` more. Returns how many Redis
        gave. `free` is negative if more jobs wait here than there are slots: some are returned."""
        wanted = free + prefetch
        if wanted < 0 and time.monotonic() > self.outbox.ends.last + PREFETCH_RETURN_DELAY:
            self.spool.return_waiting(-wanted)
        if wanted <= 0 or (free <= 0 and wanted < prefetch / 2):  # prefetch in batches
            return 0
        instance = self.presence.instance
        taken = self.store.take(self.spool.name, wanted, queues, instance)
        self.next_due = min(self.next_due, time.monotonic() + taken.next_due)
        self.expects_more = self.expects_more or taken.expects_more
        self.receive(taken.jobs)
        self.confirm(self.spool.taken())
        return len(taken.jobs)

    def receive(self, found: Sequence[Assignment]) -> None:
        """Write to disk the jobs that Redis has assigned."""
        new = []
        for assignment in found:
            set_remnants_aside(self.spool, assignment.id)
            if not self.spool.holds(assignment.id):
                values = self.store.secret_values(assignment)
                new.append((assignment, self.store.past_log(assignment), values))
                self.outbox.expect(assignment)
                continue
            try:
                entry = self.spool.read_entry(assignment.id, must_read=True)
            except OSError as error:  # caused by the disk: Redis assigns the job again
                self.errors.report(f"job={assignment.id}", error)
                continue
            self.receive_again(assignment, entry)
        self.spool.receive(new)

    def receive_again(self, assignment: Assignment, entry: SpoolEntry | None) -> None:
        """Handle an assigned job that is already here."""
        if entry is None:  # otherwise Redis would assign it to this spool again and again
            self.store.drop(assignment.id, "another folder in the spool has its ID")
            return
        self.outbox.follow(assignment.id)
        if entry.token != assignment.token:  # an attempt that was declared lost must end first
            self.outbox.drop_fenced(entry)

    def confirm(self, ids: Sequence[str]) -> None:
        """Confirm and admit jobs that were taken and written to disk. A job that was cancelled or
        given to another machine meanwhile, or whose queue was paused, does not run here."""
        entries = self.spool.read_entries(ids)
        if not entries:
            return
        answers = self.store.send([self.store.report(entry, -1) for entry in entries])
        for entry, answer in zip(entries, answers, strict=True):
            if answer in (b"absent", b"behind"):
                restored = self.store.restore(entry, self.spool.secret_values(entry))
                (answer,) = self.store.send([restored])
            if isinstance(answer, RecordDamaged):
                self.store.drop(entry.id, str(answer))
                self.spool.discard(entry)
            elif isinstance(answer, OSError):
                raise answer
            elif answer == b"running":
                self.outbox.follow_admitted(self.spool.admit(entry))
            elif answer == b"paused":
                self.give_back([entry.id])
            elif answer == b"cancel":
                self.outbox.end_cancelled(entry)
            else:
                self.spool.discard(entry)

    def give_back(self, ids: Sequence[str]) -> None:
        """Return taken jobs for which no slot here is free."""
        for entry in self.spool.read_entries(ids):
            if entry.place != "taken":
                continue
            if self.store.give_back_one(entry.id, entry.token):
                self.spool.discard(entry)
            else:  # it was confirmed and the answer lost, or another machine has it
                self.confirm([entry.id])

    # --- Maintenance ---

    def maintain(self) -> None:
        """If the worker is stopping, return the jobs that no worker here has claimed. Every few
        seconds also compare jobs with Redis, give up lost jobs and silent machines, and delete old
        jobs."""
        if self.leaving is not None and not self.serving:
            self.spool.return_waiting(len(self.outbox.sent))
        now = time.monotonic()
        if now < self.next_maintenance:
            return
        self.next_maintenance = now + intervals.HEARTBEAT_INTERVAL
        self.outbox.compare_again()
        self.presence.save()
        if self.is_restoring:  # another machine may be about to restore a job that is missing here
            return
        self.lose_missing()
        self.give_back_unknown()
        self.drop_kept_files()
        self.notify_lost(
            self.store.give_up_silent_machines(self.settings.lost_after, self.spool.name)
        )
        self.pruning.continue_for(intervals.PRUNE_TIME)

    def lose_missing(self) -> None:
        """Give up jobs that Redis shows as running here and whose folders were removed by hand."""
        for job_id in self.store.running_on(self.spool.name):
            try:
                is_missing = self.spool.read_entry(job_id, must_read=True) is None
            except OSError as error:  # caused by the disk: checked again later
                self.errors.report(f"job={job_id}", error)
                continue
            if is_missing:
                self.spool.check_name()  # if the whole spool is missing, its jobs are not lost
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
        """Return jobs that Redis has assigned to this machine without the machine knowing: the
        request for them was on its way when the connection broke, and arrived afterwards."""
        taken = self.store.taken_by(self.spool.name)
        unknown = [job_id for job_id in taken if not self.spool.holds(job_id)]
        self.store.give_back(self.spool.name, unknown)

    def drop_kept_files(self) -> None:
        """Delete files that are kept here for the next attempts of jobs that will not run here."""
        kept = self.spool.kept_files()
        states = self.store.known_states(kept) if kept else ()
        for job_id, state in zip(kept, states, strict=True):
            may_run_here = state.status == Status.QUEUED or self.spool.holds(job_id)
            if not may_run_here:
                self.removals.append(self.spool.drop_kept_files(job_id))

    def notify_lost(self, jobs: Iterable[Job | None]) -> None:
        for job in jobs:
            if job is not None:
                self.notify(job)

    def prune(self) -> Iterator[None]:
        """Delete old jobs from Redis. A generator, see `WorkerStore.prune`."""
        with self.spool.retention(self.store.now()) as retention:
            kept = self.settings.keep_days, self.settings.keep_bytes, self.settings.audit_days
            yield from self.store.prune(retention, *kept)


def served_by(queues: Sequence[str]) -> ServedQueues:
    """The queues that a worker of this spool serves; all of them if its record is damaged."""
    with suppress(ValueError):
        return ServedQueues(queues)
    return ServedQueues()
