"""The worker: claims jobs, runs each under a shim that outlives it, records how they ended.

One thread, one loop: reap what ended, supervise what runs, recover what dead workers left, claim
what fits into the slots, pause. Whatever becomes of the worker, its jobs go on and the next worker
adopts them: the claim and crash rules stand at the top of storage.py, all of ours that it imports.
"""

from __future__ import annotations

import logging
import os
import queue
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click
import psutil

from storage import WorkerStore, open_folder
from tailboard import intervals
from tailboard.errors import JobDamaged
from tailboard.folder.access import check_private
from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.judge import RETRIED, Verdict
from tailboard.run.hint import HINT_BYTES, attempt_notice, find_hint
from tailboard.run.processes import (
    ProcessTable,
    descriptor_limit,
    group_of,
    leave_job,
    needed_descriptors,
    send_to,
)
from tailboard.run.shim import base_environment, encode_environment, shim_options
from tailboard.run.webhook import send_webhooks
from tailboard.scheduler import Scheduler, is_soon
from tailboard.settings import (
    RepeatedErrors,
    Settings,
    foreign_settings,
    is_redis,
    start_logging,
)
from tailboard.slices import SlicedWork
from tailboard.status import Status
from tailboard.values import RESOURCE_ERRNOS
from tailboard.wake_pipe import WakePipe
from tailboard.workers import FENCED_REASON, WorkerInfo

if TYPE_CHECKING:  # a worker on one machine does without Redis
    from tailboard.machines.relay import Relay

log = logging.getLogger("worker")

KILL_DELAY = 10.0  # seconds from TERM to KILL
MAX_SPAWN_PAUSE = 60.0  # seconds: the longest while the machine has no process to spare
SWEEP_INTERVAL = 0.05  # seconds between rounds of KILL for what a job left
NO_HOLES_REASON = (
    "its log grew above TAILBOARD_LOG_MAX_BYTES ({}), and its head cannot be given back here"
)
STOPPED = (Status.CANCELLED, Status.TIMED_OUT, Status.LOST)  # where remains may be left to kill
FINAL_SEND_TIME = 5.0  # seconds for sending what is left, when the worker stops
ON_STOP = click.Choice(["leave", "wait", "kill"])


@dataclass
class Running:
    """A job that this worker supervises: started here, or adopted from a dead worker."""

    claim: Claim
    pid: int | None  # of the shim; None: not known, the journal is damaged
    process: subprocess.Popen[bytes] | None = None  # None: adopted
    stop_outcome: tuple[Status, str] | None = None  # why we told it to end
    kill_at: float = 0.0  # when to send KILL, on the monotonic clock; 0: it was not told to end
    retry_at: float = 0.0  # after an error, on the monotonic clock
    ended: bool = False  # the shim is dead
    verdict: Verdict | None = None  # how it ended, which is not recorded yet
    usage: tuple[float | None, int | None] = (None, None)  # CPU seconds, peak RSS in bytes
    started: set[psutil.Process] = field(default_factory=set)  # what was found when it was stopped

    @property
    def job(self) -> Job:
        return self.claim.job


class Worker:
    def __init__(
        self,
        store: WorkerStore,
        settings: Settings,
        drain: bool,
        on_stop: str,
        info: WorkerInfo,
        relay: Relay | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        """`relay` brings jobs into the store if that is a spool; then it has the scheduler."""
        self.store, self.settings, self.info = store, settings, info
        self.scheduler = scheduler
        self.drain, self.on_stop, self.relay = drain, on_stop, relay
        self.running: dict[str, Running] = {}  # by job ID
        self.stop_reason: str | None = None
        self.next_poll = self.next_heartbeat = 0.0  # on the monotonic clock
        self.spawn_pause, self.claim_again_at = 0.0, 0.0  # seconds; on the monotonic clock
        self.found_nothing = False  # in the queues, when it last looked
        self.has_entered = relay is None  # the store's jobs are known to be ours
        self.own_peak = 0  # bytes, as last read
        self.errors = RepeatedErrors(log)  # by step of the loop, or job
        self.processes: ProcessTable | None = None  # as this pass has scanned them, if it has
        self.pruning = SlicedWork(lambda: store.prune(settings.keep_days, settings.keep_bytes))
        self.webhook_queue: queue.Queue[Job | None] = queue.Queue(1_000)
        self.webhook_thread = threading.Thread(
            target=send_webhooks, args=(settings.webhook, self.webhook_queue), daemon=True
        )
        self.env = base_environment()
        self.selector = selectors.DefaultSelector()
        self.wake_pipe = WakePipe()
        self.queue_watch = store.listen(info.queues)  # None where the system cannot tell
        self.queue_fd = None if self.queue_watch is None else self.queue_watch.fileno()
        if self.queue_fd is not None:
            self.selector.register(self.queue_fd, selectors.EVENT_READ)

    def run(self) -> None:
        self._catch_signals()
        if self.settings.webhook:
            self.webhook_thread.start()
        queues = ",".join(self.info.queues) or "all"
        log.info("starts worker=%s slots=%d queues=%s", self.info.name, self.info.slots, queues)
        if self.relay is not None:
            self.start_relay(self.relay)
        while not self.stop_reason or (self.running and self.on_stop != "leave"):
            self.pause()
            self.reap()
            self.supervise_all()
            self.run_maintenance()  # before the claim: adopted jobs take slots
            self.fire_schedules()
            if not self.run_step("claim", self.claim):
                self.claim_again_at = time.monotonic() + max(
                    intervals.RETRY_DELAY, self.spawn_pause
                )
            self.record_ends()
            self.stop_if_drained()
            self.stop_if_cut_off()
        log.info("stops reason=%r leaves=%d", self.stop_reason, len(self.running))
        if self.relay is not None:
            self.relay.leave(self.info.name)
            self.relay.stop(FINAL_SEND_TIME)
        if self.settings.webhook:
            with suppress(queue.Full):
                self.webhook_queue.put_nowait(None)
            self.webhook_thread.join(0.5)

    def _catch_signals(self) -> None:
        self.selector.register(self.wake_pipe.fd, selectors.EVENT_READ)
        signal.set_wakeup_fd(self.wake_pipe.write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes the selector
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def start_relay(self, relay: Relay) -> None:
        """Start it after the first heartbeat, which says how many jobs it may fetch."""
        self.run_step("heartbeat", self.beat)
        relay.on_idle = self.wake_pipe.wake
        relay.notify = self.notify
        relay.start()

    def _stop(self, number: int, _frame: object) -> None:
        """Claim nothing more; leave, await or cancel the running jobs. A second time: leave."""
        if self.relay is not None:
            self.relay.leave(self.info.name)
        if self.scheduler is not None:
            self.scheduler.stop()
        if self.stop_reason:
            self.on_stop = "leave"
        self.stop_reason = signal.Signals(number).name

    def run_step(self, name: str, step: Callable[[], None]) -> bool:
        """Run a step of the loop; returns False if it failed. The error is logged once and does not
        stop the other steps: a full disk or a missing folder may recover."""
        try:
            step()
        except Exception as error:
            self.errors.report(f"step={name}", error)
            return False
        self.errors.resolved(f"step={name}")
        return True

    # --- The steps of the loop ---

    def pause(self) -> None:
        """Wait until a child ends, a job is queued, a signal comes or something is due."""
        due = self.next_heartbeat
        if self.running or self.queue_fd is None or self.claim_again_at:
            due = self.next_poll
        if self.scheduler is not None:
            due = min(due, self.scheduler.next_due())
        if self.may_claim():
            due = min(due, self.store.next_due())
        ready = self.selector.select(0)
        if not ready:  # nothing is urgent
            if self.info.running != len(self.running):
                self.run_step("heartbeat", self.beat)
            ready = self.selector.select(max(0, due - time.monotonic()))
        for key, _ in ready:
            if key.fd == self.wake_pipe.fd:
                self.wake_pipe.clear()
            elif key.fd != self.queue_fd:  # the pidfd of an adopted shim
                self.selector.unregister(key.fd)
                os.close(key.fd)

    def reap(self) -> None:
        """Collect the children that ended: shims, and orphaned processes if this is PID 1."""
        by_pid = {entry.pid: entry for entry in self.running.values() if entry.process}
        with suppress(ChildProcessError):
            while True:
                pid, _, used = os.wait4(-1, os.WNOHANG)  # Popen.poll would lose the usage
                if not pid:
                    return
                if (entry := by_pid.get(pid)) and entry.process:
                    entry.ended, entry.process.returncode = True, 0
                    seconds = round(used.ru_utime + used.ru_stime, 6)
                    entry.usage = seconds, self.peak_rss(used.ru_maxrss)

    def supervise_all(self) -> None:
        """Check each job in isolation: an error of one is logged once and tried again later,
        and never stops the others."""
        now = time.monotonic()
        is_due = now >= self.next_poll
        if is_due:
            self.next_poll = now + intervals.POLL_INTERVAL
        self.processes = None
        for entry in list(self.running.values()):
            if now >= entry.retry_at:
                with self.isolated(entry):
                    self.check_job(entry, now, is_due)

    @contextmanager
    def isolated(self, entry: Running) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # for example a full disk
            self.errors.report(f"job={entry.job.id}", error)
            entry.retry_at = time.monotonic() + intervals.RETRY_DELAY
        else:
            self.errors.resolved(f"job={entry.job.id}")

    def check_job(self, entry: Running, now: float, is_due: bool) -> None:
        try:
            if self.lock_if_ended(entry):
                self.handle_exit(entry)
            elif is_due:
                self.supervise(entry, now)
        except FileNotFoundError:
            if entry.claim.is_there():
                raise
            self.abandon(entry)
        except JobDamaged as error:
            self.record_damaged(entry, error)

    def run_maintenance(self) -> None:
        """Send a heartbeat; adopt what dead workers of this host left; delete old jobs."""
        if not self.has_entered:
            self.enter()
        now = time.monotonic()
        if now < self.next_heartbeat:
            return
        self.next_heartbeat = now + intervals.HEARTBEAT_INTERVAL
        if not self.run_step("heartbeat", self.beat):
            self.next_heartbeat = now + intervals.RETRY_DELAY
        if self.has_entered:
            self.run_step("adopt", self.adopt_orphans)
            self.run_step("prune", self.prune)

    def fire_schedules(self) -> None:
        if self.scheduler is not None and self.scheduler.is_due():
            self.run_step("schedules", self.scheduler.fire_all_due)

    def claim(self) -> None:
        """Fill the free slots with the oldest jobs."""
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

    def enter(self) -> None:
        """From now on touch the jobs in the spool, if Redis has accepted it. Until then it might
        be a copy, whose jobs another machine runs."""
        assert self.relay is not None
        self.has_entered = self.relay.is_admitted()
        if self.has_entered:
            self.next_heartbeat = 0.0  # adopt before the first claim

    def may_claim(self) -> bool:
        """Would it start a job now, if there were one?"""
        return self.has_free_slot() and not self.claim_again_at and not self.stop_reason

    def has_free_slot(self) -> bool:
        return self.busy_slots() < self.info.slots and self.has_descriptors()

    def record_ends(self) -> None:
        """Record how jobs ended. The free slots have their next jobs by now, which run while this
        waits for the disk. If it fails, the job is judged again later."""
        for entry in list(self.running.values()):
            verdict, entry.verdict = entry.verdict, None
            if verdict is not None:
                with self.isolated(entry):
                    self.record(entry, verdict)

    def stop_if_drained(self) -> None:
        if self.drain and self.found_nothing and not self.running and self.is_fed():
            self.stop_reason = self.stop_reason or "nothing is queued or running"

    def stop_if_cut_off(self) -> None:
        """Stop if the relay has failed: another worker can then report this worker's jobs."""
        if self.relay is not None and self.relay.has_failed:
            self.stop_reason, self.on_stop = self.stop_reason or "its relay has failed", "leave"

    def is_fed(self) -> bool:
        """Is nothing left that could still come into the store, or that may start soon?"""
        if self.relay is not None:
            return self.relay.is_idle
        return not is_soon(self.store.next_due())

    def busy_slots(self) -> int:
        """A job that has ended, and whose record is due or has failed, holds no slot."""
        over = [e for e in self.running.values() if e.ended and (e.verdict or e.retry_at)]
        return len(self.running) - len(over)

    def has_descriptors(self) -> bool:
        """Are there enough for one more job, with those kept to kill and to record?"""
        return needed_descriptors(len(self.running) + 1) <= descriptor_limit()

    # --- Starting a job ---

    def start(self, claim: Claim) -> None:
        """Run a claimed job. One that cannot start fails, and its log says why."""
        job = claim.job
        try:
            if job.attempt > 1:
                claim.write_notice(attempt_notice(job.attempt))
            process = self.spawn(claim)
        except (OSError, ValueError, TypeError) as error:
            log_claimed(job)
            with claim:
                self.record_no_start(claim, error)
            return
        log_claimed(job)  # after the start, which does not wait for this line
        claim.release_journal()
        self.spawn_pause = 0.0
        self.running[job.id] = Running(claim, process.pid, process)

    def spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        """Start the shim, and open its gate once the claim is durable: so the disk and the start of
        the shim are waited for at the same time."""
        gate, opener = os.pipe()
        try:
            process = self.start_shim(claim, gate)
        except BaseException:
            os.close(opener)
            raise
        finally:
            os.close(gate)
        try:
            claim.make_durable()
            with suppress(BrokenPipeError):  # it was killed: `reap` finds that it never started
                os.write(opener, b"\n")
        except OSError:
            os.close(opener)
            process.wait()  # it ends, since its gate has ended
            raise
        os.close(opener)
        return process

    def start_shim(self, claim: Claim, gate: int) -> subprocess.Popen[bytes]:
        """A shim that waits at this gate."""
        job = claim.job
        command = job.command
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        own = self.store.tracking_env(job.id) | {"JOB_ATTEMPT": str(job.attempt)}
        with claim.open_log_for_append() as out:
            return subprocess.Popen(
                **shim_options(words, self.env | encode_environment(job.env | own)),
                stdin=claim.shim_input(),
                stdout=gate,
                stderr=out,
                cwd=job.cwd,
                start_new_session=True,
            )

    def record_no_start(self, claim: Claim, error: Exception) -> None:
        """The job's own fault: it failed. The machine's: back to the queue, with growing pauses."""
        if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
            claim.requeue(Outcome(Status.QUEUED))
            self.spawn_pause = min(
                max(intervals.RETRY_DELAY, self.spawn_pause * 2), MAX_SPAWN_PAUSE
            )
            raise error
        reason = f"cannot start: {error}"
        with suppress(OSError):  # the log itself may be the trouble
            claim.write_notice(f"tailboard: {reason}")
        self.finish(claim, Outcome(Status.FAILED, reason=reason, final=True))

    # --- While it runs ---

    def supervise(self, entry: Running, now: float) -> None:
        """End the job if somebody asked or its time is up, kill it after its grace, look after its
        log. Ending comes first, so that no other error can prevent it."""
        claim, job, limit = entry.claim, entry.job, self.settings.log_max_bytes
        if not claim.is_there():
            raise FileNotFoundError(job.id)
        if entry.kill_at:
            if now >= entry.kill_at:
                self.send_signal(entry, signal.SIGKILL, intervals.RETRY_DELAY)
        elif claim.cancel_requested() or claim.attempt.stopping:
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)
        elif job.timeout and now >= (claim.attempt.started_monotonic or now) + job.timeout:
            reason = f"ran longer than its timeout of {job.timeout:g} s"
            self.stop_job(entry, Status.TIMED_OUT, reason)
        elif self.stop_reason and self.on_stop == "kill":
            self.stop_job(entry, Status.CANCELLED, "its worker was told to stop")
        if not claim.sample_and_trim(limit) and not entry.kill_at:
            self.stop_job(entry, Status.FAILED, NO_HOLES_REASON.format(limit))

    def stop_job(self, entry: Running, status: Status, reason: str) -> None:
        """End a job for a reason of ours; its journal keeps the reason in case we die first."""
        entry.stop_outcome = status, reason
        try:
            entry.claim.write_stopping(status, reason)
        finally:  # a full disk must not protect the job that fills it
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)

    def send_signal(self, entry: Running, number: signal.Signals, grace: float) -> None:
        """Signal everything that the job started; the shim lives on to record the exit code."""
        entry.kill_at = time.monotonic() + grace
        if entry.process is None and entry.claim.acquire_lock():
            return  # its shim is dead: the pid may belong to another process
        log.info(
            "signals job=%s signal=%s reason=%r", entry.job.id, number.name, entry.stop_outcome
        )
        started = self.find_started(entry, entry.pid)
        if number is signal.SIGTERM and entry.pid is not None:  # its group gets it below
            started = {process for process in started if group_of(process) != entry.pid}
        send_to(started, number)
        if entry.pid is None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGTERM:
                os.killpg(entry.pid, number)
            os.killpg(entry.pid, signal.SIGCONT)  # a stopped process acts on no TERM

    def find_started(self, entry: Running, leader: int | None) -> set[psutil.Process]:
        """The living processes that a job has started. They are remembered, because a process
        without JOB_ID in its environment is known only by its parent, which may end first."""
        if self.processes is None:
            self.processes = ProcessTable()
        tracking_env = self.store.tracking_env(entry.job.id)
        found = self.processes.find(tracking_env, leader, entry.started)
        entry.started |= found
        return found

    def abandon(self, entry: Running) -> None:
        """Its folder was removed or moved away: end its process, free its slot."""
        log.error("gone job=%s reason=%r", entry.job.id, "its folder was removed or moved")
        send_to(self.find_started(entry, None), signal.SIGKILL)
        entry.claim.release()
        del self.running[entry.job.id]

    # --- How it ended ---

    def lock_if_ended(self, entry: Running) -> bool:
        """Take the lock of a job whose shim is dead. Returns False if the shim is alive."""
        if entry.process is not None and not entry.ended:
            return False
        return entry.claim.acquire_lock()

    def record_damaged(self, entry: Running, error: JobDamaged) -> None:
        """A job whose journal was destroyed is lost, or cancelled if that was requested: nobody
        knows how it ended."""
        entry.ended = True
        lost = Verdict(Status.LOST, Outcome(Status.LOST), recorded=False)
        if not self.sweep(entry, lost):
            return
        # Last: a request may have come while the processes were looked for.
        status = Status.CANCELLED if entry.claim.cancel_requested() else Status.LOST
        entry.claim.finish_damaged(status)
        log.error("%s job=%s reason=%r", status, entry.job.id, str(error))
        entry.claim.release()
        del self.running[entry.job.id]

    def handle_exit(self, entry: Running) -> None:
        """Judge how a job ended, once its grace is over for all that it started, and append that to
        its journal; `record_ends` does the rest, which waits for the disk."""
        entry.ended = True
        try:
            verdict = entry.claim.read_verdict()
        except JobDamaged as error:
            self.record_damaged(entry, error)
            return
        has_not_started = verdict.outcome.status is Status.QUEUED and not verdict.recorded
        if has_not_started and entry.process is not None:  # its gate was opened
            verdict = entry.claim.failed_start_verdict()
        outcome = verdict.outcome
        if outcome.status in STOPPED and not self.sweep(entry, verdict):
            return
        outcome.cpu_seconds, outcome.max_rss_bytes = entry.usage
        self.trim_last(entry)
        if outcome.status in RETRIED and outcome.hint is None:
            attempt = entry.claim.attempt.number
            outcome.hint = find_hint(entry.claim.read_log_end(HINT_BYTES), attempt)
        if has_not_started and verdict.status is Status.FAILED:
            with suppress(OSError):  # the log itself may be the trouble
                entry.claim.write_notice(f"tailboard: {outcome.reason}")
        if verdict.status is Status.QUEUED:
            self.record(entry, verdict)  # before the next claim, since it may be the oldest
        else:
            # On ext4 with a journal, the next claim's fsync brings this line to the disk, too.
            entry.claim.write_ended(outcome)
            entry.verdict = verdict

    def trim_last(self, entry: Running) -> None:
        """Trim the log of an ended job that has filled it since the last poll."""
        limit = self.settings.log_max_bytes
        if entry.claim.log_usage() > limit:
            with suppress(OSError):  # its end must be recorded in any case
                entry.claim.sample_and_trim(limit)

    def sweep(self, entry: Running, verdict: Verdict) -> bool:
        """Kill everything that a stopped or lost job started, once its grace is over. Returns True
        if nothing is left, or if the exit code is known."""
        started = self.find_started(entry, None)
        if not started:
            return True
        if time.monotonic() >= entry.kill_at:
            send_to(started, signal.SIGKILL)
            entry.retry_at = time.monotonic() + SWEEP_INTERVAL
            return verdict.outcome.exit_code is not None
        return False

    def record(self, entry: Running, verdict: Verdict) -> None:
        """Finish or requeue a job whose shim is dead; its lock is ours."""
        if verdict.status is Status.QUEUED:
            self.requeue(entry.claim, verdict.outcome)
        else:
            self.finish(entry.claim, verdict.outcome)
        entry.claim.release()
        del self.running[entry.job.id]

    def requeue(self, claim: Claim, outcome: Outcome) -> None:
        job = claim.requeue(outcome)
        if outcome.status in RETRIED:
            log.info("retried job=%s after=%s attempt=%d", job.id, outcome.status, job.attempt)
        else:
            log.info("requeued job=%s reason=%r", job.id, "it had not started")
        if outcome.failed_starts:
            log.warning("cannot start job=%s tries=%d", job.id, outcome.failed_starts)

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        job = claim.finish(outcome)
        log.info("%s job=%s exit_code=%s reason=%r", job.status, job.id, job.exit_code, job.reason)
        if job.reason != FENCED_REASON:
            self.notify(job)

    def notify(self, job: Job) -> None:
        """Queue the job for the webhook, if the settings name such an end."""
        if self.settings.webhook and job.status in self.settings.webhook_on.split(","):
            with suppress(queue.Full):  # a dead URL must not fill the memory
                self.webhook_queue.put_nowait(job)

    # --- Maintenance ---

    def beat(self) -> None:
        self.store.heartbeat(self.info, len(self.running))

    def adopt_orphans(self) -> None:
        """Record the ends of jobs whose shims are dead; adopt those that live."""
        if not self.has_descriptors():
            return
        for claim in self.store.orphans(self.info.host, self.running):
            self.adopt(claim)
            if not self.has_descriptors():  # the others must wait until some have ended
                return

    def adopt(self, claim: Claim) -> None:
        job, pid = claim.job, claim.attempt.pid
        self.running[job.id] = Running(claim, pid)
        with suppress(OSError, JobDamaged):  # reported when the job is supervised
            if not claim.acquire_lock():  # its shim is alive; else only its end is recorded
                log.info("adopted job=%s from=%s pid=%s", job.id, job.worker, pid)
        if pid is not None:
            with suppress(OSError, AttributeError):  # reports its end, where the system has pidfds
                self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ)
        self.next_poll = 0.0  # look at once whether it has ended

    def prune(self) -> None:
        self.pruning.continue_for(intervals.PRUNE_TIME)

    def peak_rss(self, maxrss: int) -> int | None:
        """ru_maxrss in bytes; None if it is not above the worker's own peak. On Linux every child
        starts with that: until its exec, a vfork shares the parent's memory (getrusage(2))."""
        if psutil.MACOS:
            return maxrss  # in bytes there
        if maxrss * 1024 > self.own_peak:
            with open("/proc/self/status") as file:
                self.own_peak = int(file.read().partition("VmHWM:")[2].split()[0]) * 1024
        return maxrss * 1024 if maxrss * 1024 > self.own_peak else None


def log_claimed(job: Job) -> None:
    log.info("claimed job=%s attempt=%d name=%r", job.id, job.attempt, job.name or job.command)


@click.command(context_settings={"show_default": True})
@click.option("--slots", type=click.IntRange(1), default=os.cpu_count() or 1, help="Jobs at once.")
@click.option("--queues", metavar="A,B", help="Serve these queues, not all.")
@click.option("--drain", is_flag=True, help="Exit once nothing is queued or running here.")
@click.option("--on-stop", type=ON_STOP, default="leave", help="What SIGTERM means for jobs.")
def main(slots: int, queues: str | None, drain: bool, on_stop: str) -> None:
    """Runs Tailboard's queued jobs."""
    start_logging(sys.stderr)
    host, pid = socket.gethostname(), os.getpid()
    names = [] if queues is None else [name.strip() for name in queues.split(",")]
    info = WorkerInfo(f"{host}-{pid}", host, pid, slots, names)
    try:
        settings = Settings.read()
        for name in foreign_settings():
            log.warning("ignored variable=%s reason=%r", name, "it is no setting of Tailboard")
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
    return Worker(store, settings, drain, on_stop, info, scheduler=scheduler)


def make_redis_worker(settings: Settings, drain: bool, on_stop: str, info: WorkerInfo) -> Worker:
    """A worker on a spool, which a relay fills with jobs from Redis."""
    from tailboard.machines.redis_machines import RedisMachines
    from tailboard.machines.relay import Relay
    from tailboard.machines.spool import open_spool

    check_private("TAILBOARD_SPOOL", settings.spool)
    store = RedisMachines(settings.storage, settings.unreachable)
    scheduler = None if drain else Scheduler(store, store.now)
    with suppress(OSError):  # Redis is away: the relay logs that and tries again
        store.check()
    spool = open_spool(settings.spool)  # a thread needs a spool of its own
    relay = Relay(store, spool, settings, scheduler=scheduler)
    return Worker(open_spool(settings.spool), settings, drain, on_stop, info, relay)


if __name__ == "__main__":
    leave_job()
    main()
