"""The worker: claims jobs, runs each under a shim that outlives it, records how they ended.

One thread, one loop: collect the processes that ended, supervise the running jobs, adopt the jobs
that dead workers left, claim jobs for the free slots, record the ends, pause. If the worker dies,
its jobs continue, and the next worker adopts them. The rules for claims and crashes are at the top
of storage.py. tailboard/run/ contains what happens to a single job.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from storage import WorkerStore, open_folder
from tailboard import __version__, intervals
from tailboard.env_file import env_file_names, load_env_file
from tailboard.error_lines import attempt_notice
from tailboard.errors import JobDamaged
from tailboard.folder.access import check_private
from tailboard.folder.claim import Claim
from tailboard.folder.secret_params import unseal_params
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.notify.service import NotificationService
from tailboard.program_log import RepeatedErrors, start_logging
from tailboard.run.environment import base_environment, encode_environment
from tailboard.run.processes import descriptor_limit, leave_job, needed_descriptors
from tailboard.run.running import Running
from tailboard.run.secret_files import check_variables, find_secrets, read_secrets
from tailboard.run.shim import spawn
from tailboard.run.supervisor import Supervisor
from tailboard.run.webhook import Webhook
from tailboard.scheduler import Scheduler, is_soon
from tailboard.settings import Settings, is_redis, warn_of_foreign_settings
from tailboard.slices import SlicedWork
from tailboard.status import Status
from tailboard.titles import short_title
from tailboard.values import RESOURCE_ERRNOS
from tailboard.wake_pipe import WakePipe
from tailboard.workers import WorkerInfo

if TYPE_CHECKING:  # a worker on a single machine does not need Redis
    from tailboard.machines.relay import Relay

log = logging.getLogger("worker")

MAX_SPAWN_PAUSE = 60.0  # seconds: the longest pause while the machine cannot start a process
FINAL_SEND_TIME = 5.0  # seconds for sending the rest to Redis, when the worker stops
STOP_TIME = 2.0  # seconds for sending the last messages, when the worker stops
DRAIN_TIME = 15.0  # the same if it stops because no job is left
ON_STOP = click.Choice(["leave", "wait", "kill"])


class Worker:
    """The loop. It manages the slots and the queues; `supervisor` manages the running jobs."""

    def __init__(
        self,
        store: WorkerStore,
        settings: Settings,
        drain: bool,
        on_stop: str,
        info: WorkerInfo,
        relay: Relay | None = None,
        scheduler: Scheduler | None = None,
        notifications: NotificationService | None = None,
    ) -> None:
        """`drain`: exit when all work is done. `on_stop`: what happens to running jobs when
        this worker stops, one of ON_STOP. `relay`: brings jobs into the store if that is a spool;
        then the relay runs the scheduler, and this worker does not. `notifications`: None if this
        worker notifies nobody."""
        self.store, self.info = store, info
        self.drain, self.on_stop = drain, on_stop
        self.relay, self.scheduler = relay, scheduler
        self.webhook = Webhook(settings.webhook, settings.webhook_on.split(","))
        self.notifications = notifications
        self.wake_pipe = WakePipe()
        wake = self.wake_pipe.wake
        self.supervisor = Supervisor(settings, store.tracking_env, self.report_end, wake)
        self.limits = self.supervisor.limits
        kept = settings.keep_days, settings.keep_bytes, settings.audit_days
        self.pruning = SlicedWork(lambda: store.prune(*kept))
        self.errors = RepeatedErrors(log)  # by step of the loop
        self.env = base_environment(settings.job_env.split(","), env_file_names())
        self.secrets = find_secrets(settings.secrets)
        self.stop_reason: str | None = None
        self.next_heartbeat = 0.0  # on the monotonic clock
        self.claim_again_at = 0.0  # on the monotonic clock; 0: the last claim had no error
        self.spawn_pause = 0.0  # seconds, after the machine ran out of a resource
        self.found_nothing = False  # in the queues, at the last check
        self.is_claim_due = False  # check the queues again at once
        self.has_entered = relay is None  # the jobs in the store are known to be this machine's
        self.selector = selectors.DefaultSelector()
        self.queue_watch = store.listen(info.queues)  # None if the system cannot notify
        self.queue_fd = None if self.queue_watch is None else self.queue_watch.fileno()

    def run(self) -> None:
        self.begin()
        while not self.stop_reason or (self.supervisor.running and self.on_stop != "leave"):
            self.pause()
            self.supervisor.reap()
            self.supervisor.supervise_all(cancels_all=self.cancels_all())
            self.run_maintenance()  # before the claim: adopted jobs take slots
            self.fire_schedules()
            self.fill_slots()
            has_ended = self.supervisor.record_ends()
            self.stop_if_drained(has_ended)
            self.stop_if_cut_off()
        self.end()

    # --- Its beginning and its end ---

    def begin(self) -> None:
        self._catch_signals()
        self.webhook.start()
        self.supervisor.start()
        if self.notifications is not None:
            self.notifications.start()
        queues = ",".join(self.info.queues) or "all"
        log.info("starts worker=%s slots=%d queues=%s", self.info.name, self.info.slots, queues)
        if self.relay is not None:
            self._start_relay(self.relay)

    def _catch_signals(self) -> None:
        self.selector.register(self.wake_pipe.fd, selectors.EVENT_READ)
        signal.set_wakeup_fd(self.wake_pipe.write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes the selector
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _start_relay(self, relay: Relay) -> None:
        """Start the relay after the first heartbeat, which determines how many jobs it may
        fetch."""
        self.run_step("heartbeat", self.beat)
        relay.on_idle = self.wake_pipe.wake
        relay.notify = self.report_end
        relay.start()

    def _stop(self, number: int, _frame: object) -> None:
        """Handle a signal: claim no more jobs; leave, await or cancel the running ones. The second
        signal always leaves them."""
        if self.relay is not None:
            self.relay.leave(self.info.name)
        if self.scheduler is not None:
            self.scheduler.stop()
        if self.stop_reason:
            self.on_stop = "leave"
        self.stop_reason = signal.Signals(number).name

    def cancels_all(self) -> bool:
        """Is this worker stopping and cancelling its jobs?"""
        return self.stop_reason is not None and self.on_stop == "kill"

    def stop_if_drained(self, has_ended: bool) -> None:
        """`has_ended`: a job has just ended, so that others may start that waited for it."""
        if not self.drain or not self.found_nothing or self.supervisor.running:
            return
        if has_ended:
            self.is_claim_due = True
        elif not self.can_get_jobs():
            self.stop_reason = self.stop_reason or "nothing is queued or running"

    def can_get_jobs(self) -> bool:
        """Can a job still arrive in the store, or is a delayed one due soon?"""
        if self.relay is not None:
            return not self.relay.is_idle
        return is_soon(self.store.next_due()) or self.store.expects_more()

    def stop_if_cut_off(self) -> None:
        """Stop if the relay has failed: another worker can then report this worker's jobs."""
        if self.relay is not None and self.relay.has_failed:
            self.stop_reason, self.on_stop = self.stop_reason or "its relay has failed", "leave"

    def end(self) -> None:
        running = len(self.supervisor.running)
        log.info("stops reason=%r leaves=%d", self.stop_reason, running)
        if self.relay is not None:
            self.relay.leave(self.info.name)
            self.relay.stop(FINAL_SEND_TIME)
        self.supervisor.sampler.stop()
        self.webhook.stop()
        if self.notifications is not None:
            self.notifications.stop(DRAIN_TIME if self.drain else STOP_TIME)

    # --- The steps of the loop ---

    def report_end(self, job: Job) -> None:
        """Report a job that has ended, without waiting for that."""
        self.webhook.notify(job)
        if self.notifications is not None:
            self.notifications.wake(job)

    def run_step(self, name: str, step: Callable[[], None]) -> bool:
        """Run a step; returns False if it failed. The error is logged once and does not stop the
        other steps: a full disk or a missing folder may recover."""
        return self.errors.run(f"step={name}", step)

    def pause(self) -> None:
        """Wait until a child ends, a job is queued, a signal arrives or something is due."""
        self.watch_queues(self.can_claim())
        due = self.next_due()
        ready = self.selector.select(0)
        if not ready:  # nothing is urgent
            if self.info.running != len(self.supervisor.running):
                self.run_step("heartbeat", self.beat)
            ready = self.selector.select(max(0, due - time.monotonic()))
        for key, _ in ready:
            if key.fd == self.wake_pipe.fd:
                self.wake_pipe.clear()
            elif key.fd != self.queue_fd:  # the pidfd of an adopted shim
                self.selector.unregister(key.fd)
                os.close(key.fd)

    def watch_queues(self, wanted: bool) -> None:
        """Let a change of the queues end the next pause, or not. Only a claim reads the changes, so
        while no slot is free, each of them would end every pause at once."""
        if self.queue_fd is None or wanted == (self.queue_fd in self.selector.get_map()):
            return
        if wanted:
            self.selector.register(self.queue_fd, selectors.EVENT_READ)
        else:
            self.selector.unregister(self.queue_fd)

    def can_claim(self) -> bool:
        """Could a job that is queued now start at once?"""
        return self.has_free_slot() and not self.claim_again_at and not self.stop_reason

    def next_due(self) -> float:
        """When the next step is due, on the monotonic clock."""
        if self.is_claim_due:
            return 0.0
        due = self.next_heartbeat
        if self.supervisor.running or self.queue_fd is None or self.claim_again_at:
            due = self.supervisor.next_poll
        if self.scheduler is not None:
            due = min(due, self.scheduler.next_due())
        if self.can_claim():
            due = min(due, self.store.next_due())
        return due

    def run_maintenance(self) -> None:
        """Send a heartbeat, adopt the jobs that dead workers of this host left, and delete old
        jobs."""
        if not self.has_entered:
            self._enter()
        now = time.monotonic()
        if now < self.next_heartbeat:
            return
        self.next_heartbeat = now + intervals.HEARTBEAT_INTERVAL
        if not self.run_step("heartbeat", self.beat):
            self.next_heartbeat = now + intervals.RETRY_DELAY
        if self.has_entered:
            self.run_step("adopt", self.adopt_orphans)
            self.run_step("limits", self.renew_limits)
            self.run_step("prune", self.prune)

    def _enter(self) -> None:
        """Once Redis has accepted the spool, start to handle the jobs in it. Until then it might be
        a copy, whose jobs another machine runs."""
        assert self.relay is not None
        self.has_entered = self.relay.is_admitted()
        if self.has_entered:
            self.next_heartbeat = 0.0  # adopt before the first claim

    def beat(self) -> None:
        self.store.heartbeat(self.info, len(self.supervisor.running))

    def prune(self) -> None:
        self.pruning.continue_for(intervals.PRUNE_TIME)

    def adopt_orphans(self) -> None:
        """Supervise the running jobs of dead workers. If a job's shim is also dead, only its end
        remains to be recorded."""
        if not self.has_descriptors():
            return
        for claim in self.store.orphans(self.info.host, self.supervisor.running):
            self._adopt(claim)
            if not self.has_descriptors():  # the rest must wait until some jobs have ended
                return

    def _adopt(self, claim: Claim) -> None:
        job, pid = claim.job, claim.attempt.pid
        self.supervisor.add(Running(claim, pid))
        self.limits.adopt(job, pid)
        with suppress(OSError, JobDamaged):  # reported when the job is supervised
            if not claim.acquire_lock():
                log.info("adopted job=%s from=%s pid=%s", job.id, job.worker, pid)
        if pid is not None:
            with suppress(OSError, AttributeError):  # reports its end, if the system has pidfds
                self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ)
        self.supervisor.next_poll = 0.0  # check at once whether it has ended

    def renew_limits(self) -> None:
        self.limits.renew(self.supervisor.running.values())

    def fire_schedules(self) -> None:
        """Start the saved commands that are due."""
        if self.scheduler is not None and self.scheduler.is_due():
            self.run_step("schedules", self.scheduler.fire_all_due)

    def fill_slots(self) -> None:
        """Start the oldest jobs in the free slots; after an error, pause before the next try."""
        if not self.run_step("claim", self.claim):
            pause = max(intervals.RETRY_DELAY, self.spawn_pause)
            self.claim_again_at = time.monotonic() + pause

    def claim(self) -> None:
        """Claim and start jobs until no slot is free or no job is left."""
        self.is_claim_due = False
        if time.monotonic() < self.claim_again_at or not self.has_entered:
            return
        self.claim_again_at, self.found_nothing = 0.0, False
        while self.has_free_slot():
            claim = None
            if not self.stop_reason:
                claim = self.store.claim(self.info.name, self.info.host)
            if claim is None:
                self.found_nothing = True
                return
            self.start(claim)

    def has_free_slot(self) -> bool:
        return self.supervisor.busy_slots() < self.info.slots and self.has_descriptors()

    def has_descriptors(self) -> bool:
        """Are there enough for one more job, besides those reserved to kill and to record?"""
        return needed_descriptors(len(self.supervisor.running) + 1) <= descriptor_limit()

    def start(self, claim: Claim) -> None:
        """Run a claimed job. A job that cannot start fails, and its log says why. OSError if the
        machine has run out of a resource; then the job is back in its queue."""
        job = claim.job
        try:
            secrets = self._take_secrets(claim)
            if job.attempt > 1:
                claim.write_notice(attempt_notice(job.attempt))
            process = spawn(claim, self._environment_of(claim) | secrets, self.limits.apply)
        except (OSError, ValueError, TypeError) as error:
            log_claimed(job)
            with claim:
                self._record_no_start(claim, error)
            return
        log_claimed(job)  # after the start, which does not wait for this line
        claim.release_journal()
        if job.pings and self.notifications is not None:
            self.notifications.wake(job)
        self.spawn_pause = 0.0
        self.supervisor.add(Running(claim, process.pid, process))

    def _take_secrets(self, claim: Claim) -> dict[bytes, bytes]:
        """The values of the job's secrets, by variable. They are stored for the readers of the log
        before anything opens it."""
        values = read_secrets(claim.job.secrets, self.secrets)
        values |= unseal_params(claim.folders.root, claim.folder, claim.job)
        if values:
            check_variables(values)
            claim.seal_secrets(values.values())
        return values

    def _environment_of(self, claim: Claim) -> dict[bytes, bytes]:
        """The environment of a job, whose folder for files this makes."""
        job = claim.job
        own = self.store.tracking_env(job.id) | {
            "JOB_ATTEMPT": str(job.attempt),
            "JOB_FILES": claim.make_files_folder(),
        }
        return self.env | encode_environment(job.env | own)

    def _record_no_start(self, claim: Claim, error: Exception) -> None:
        """If the machine has run out of a resource, put the job back and pause, longer each time.
        Otherwise the cause is the job itself, and it fails."""
        self.limits.release(claim.job)
        if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
            claim.requeue(Outcome(Status.QUEUED))
            pause = max(intervals.RETRY_DELAY, self.spawn_pause * 2)
            self.spawn_pause = min(pause, MAX_SPAWN_PAUSE)
            raise error
        reason = f"cannot start: {describe_no_start(error, claim.job)}"
        with suppress(OSError):  # the log itself may be the cause
            claim.write_notice(f"tailboard: {reason}")
        self.supervisor.finish(claim, Outcome(Status.FAILED, reason=reason, final=True))


def describe_no_start(error: Exception, job: Job) -> str:
    """Why a job cannot start. The usual mistake is a wrong working folder."""
    if isinstance(error, OSError) and job.cwd and error.filename == job.cwd:
        if isinstance(error, FileNotFoundError):
            return f"the working folder {job.cwd} does not exist"
        return f"the working folder {job.cwd} cannot be used: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return "its command, its environment and its secrets together are too long for the system"
    return str(error)


def log_claimed(job: Job) -> None:
    title = short_title(job.name, job.command)
    log.info("claimed job=%s attempt=%d name=%r", job.id, job.attempt, title)


@click.command(context_settings={"show_default": True})
@click.version_option(__version__, message="tailboard %(version)s")
@click.option(
    "--slots",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    help="How many jobs to run at once.",
)
@click.option(
    "--queues",
    metavar="A,B",
    help="Serve only these queues, or all except these: '!A,!B' (default: all).",
)
@click.option(
    "--drain",
    is_flag=True,
    help="Exit when no job is running and none is due within the next hour. Later retries and jobs "
    "wait for the next worker.",
)
@click.option(
    "--on-stop",
    type=ON_STOP,
    default="leave",
    help="What SIGTERM or Ctrl-C does to running jobs: leave them running, wait for them, or kill "
    "(cancel) them. In each case no more jobs start.",
)
def main(slots: int, queues: str | None, drain: bool, on_stop: str) -> None:
    """Run Tailboard's queued jobs, in the current folder and as the current user. Settings are
    variables (TAILBOARD_STORAGE …)."""
    start_logging(sys.stderr)
    host, pid = socket.gethostname(), os.getpid()
    names = [] if queues is None else [name.strip() for name in queues.split(",")]
    info = WorkerInfo(f"{host}-{pid}", host, pid, slots, names)
    try:
        if env_file := load_env_file():
            log.info("settings from %s", env_file)
        settings = Settings.read()
        warn_of_foreign_settings(log)
        if needed_descriptors(slots) > descriptor_limit():
            raise ValueError(
                f"--slots {slots} needs {needed_descriptors(slots)} open files, "
                f"and the limit is {descriptor_limit()} (ulimit -n)"
            )
        worker = make_worker(settings, drain, on_stop, info)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    worker.run()
    if worker.relay is not None and worker.relay.failure is not None:
        raise click.ClickException(worker.relay.failure)
    if worker.relay is not None and worker.relay.has_failed:
        sys.exit(1)


def make_worker(settings: Settings, drain: bool, on_stop: str, info: WorkerInfo) -> Worker:
    """A worker on a jobs folder, or on a spool that a relay fills from Redis."""
    if is_redis(settings.storage):
        return make_redis_worker(settings, drain, on_stop, info)
    check_private("TAILBOARD_STORAGE", settings.storage)
    store = open_folder(settings.storage)
    scheduler = None if drain else Scheduler(store)
    notifications = NotificationService(open_folder(settings.storage), settings)
    return Worker(store, settings, drain, on_stop, info, None, scheduler, notifications)


def make_redis_worker(settings: Settings, drain: bool, on_stop: str, info: WorkerInfo) -> Worker:
    """A worker on a spool, which a relay fills with jobs from Redis."""
    from tailboard.machines.redis_machines import RedisMachines
    from tailboard.machines.redis_store import RedisStore
    from tailboard.machines.relay import Relay
    from tailboard.machines.spool import open_spool

    check_private("TAILBOARD_SPOOL", settings.spool)
    store = RedisMachines(settings.storage, settings.unreachable, settings.secret_key)
    scheduler = None if drain else Scheduler(store, store.now)
    with suppress(OSError):  # Redis is unreachable: the relay logs that and tries again
        store.check()
    spool = open_spool(settings.spool)  # each thread needs its own spool
    relay = Relay(store, spool, settings, scheduler=scheduler)
    own_store = RedisStore(settings.storage, settings.unreachable)
    notifications = NotificationService(own_store, settings, own_store.now)
    spool = open_spool(settings.spool)
    return Worker(spool, settings, drain, on_stop, info, relay, notifications=notifications)


if __name__ == "__main__":
    leave_job()
    main()
