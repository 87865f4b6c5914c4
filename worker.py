"""The worker: claims jobs, runs each under a shim that outlives it, records how they ended.

One thread, one loop: reap what ended, supervise what runs, recover what dead workers left, claim
what fits into the slots, pause. Whatever becomes of the worker, its jobs go on and the next worker
adopts them: the claim and crash rules stand at the top of storage.py, all of ours that it imports.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
import psutil

from storage import (
    RESOURCE_ERRNOS,
    RETRIED,
    Claim,
    Job,
    JobDamaged,
    Outcome,
    Settings,
    Status,
    Troubles,
    Verdict,
    WorkerInfo,
    WorkerStore,
    foreign_settings,
    open_store,
    start_logging,
)

POLL_INTERVAL = 0.25  # seconds between looks at running jobs; at queues, where nothing tells
HEARTBEAT_INTERVAL = 5.0  # seconds between recoveries, and full scans of the queues
KILL_DELAY = 10.0  # seconds from TERM to KILL
RETRY_DELAY = 1.0  # seconds until what failed is tried again; between rounds of KILL, too
MAX_SPAWN_PAUSE = 60.0  # seconds: the longest while the machine has no process to spare
SWEEP_INTERVAL = 0.05  # seconds between rounds of KILL for what a job left
PRUNING = 0.02  # seconds of deleting old jobs at each beat
WEBHOOK_BACKOFF = (0, 1, 5, 25, 125)  # seconds before each try of the webhook
WEBHOOK_TIME = 10.0  # seconds for one try, whatever the other side does
JOB_DESCRIPTORS = 3  # that a supervised job holds: its times, its log, its shim's pidfd
OWN_DESCRIPTORS = 36  # of the worker itself, with those it needs to start, to kill and to record
NO_HOLES = "its log grew above TAILBOARD_LOG_MAX_BYTES ({}), and its head cannot be given back here"
STOPPED = (Status.CANCELLED, Status.TIMED_OUT, Status.LOST)  # where remains may be left to kill
ON_STOP = click.Choice(["leave", "wait", "kill"])

log = logging.getLogger("worker")


# --- What a job runs under ----------------------------------------------------------------------

# Lets a command outlive the worker. Its standard input is the job's journal, locked: the lock is
# free once the shim is dead. The traps are no-ops and not "ignore", which the command would
# inherit; the shell acts on them when the command has ended. What cannot be written, on a full
# disk, is tried again: the end is true before it is known. `exec`, lest the command be one of the
# shell's own. The command gets nothing of ours, neither the journal nor a variable, and what the
# shell has to say of a signal does not get into the log.
SHIM = r"""trap : TERM INT HUP; exec 3>&2 2>/dev/null
until printf '\n{"pid": %d}\n' $$ >&0; do sleep 1; done
(exec "$@") </dev/null 2>&3 3>&-
code=$?; until printf '\n{"exit": %d}\n' $code >&0; do sleep 1; done
"""


def base_environment() -> dict[bytes, bytes]:
    """The worker's environment for its jobs, encoded once: Popen would do it for each."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
    return encode_environment(kept | {"PYTHONUNBUFFERED": "1"})  # else Python's output is late


def encode_environment(env: Mapping[str, str]) -> dict[bytes, bytes]:
    """TypeError or ValueError where a name or a value cannot be one."""
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


# --- The worker ---------------------------------------------------------------------------------


@dataclass
class Running:
    """A job that this worker supervises: it started it, or adopted it from a dead worker."""

    claim: Claim
    pid: int | None  # of the shim; None: not known, since the journal is damaged
    process: subprocess.Popen[bytes] | None = None  # None: adopted
    stop_outcome: tuple[Status, str] | None = None  # why we told it to end
    kill_at: float = 0.0  # on the monotonic clock, once it was told to end
    retry_at: float = 0.0  # on the monotonic clock, once something went wrong with it
    ended: bool = False  # the shim is dead
    usage: tuple[float | None, int | None] = (None, None)  # CPU seconds, peak RSS in bytes

    @property
    def job(self) -> Job:
        return self.claim.job


class Worker:
    def __init__(
        self, store: WorkerStore, settings: Settings, drain: bool, on_stop: str, info: WorkerInfo
    ) -> None:
        self.store, self.settings, self.info = store, settings, info
        self.drain, self.on_stop = drain, on_stop
        self.running: dict[str, Running] = {}  # by job ID
        self.stop_reason: str | None = None
        self.next_poll = self.next_heartbeat = 0.0  # on the monotonic clock
        self.spawn_pause, self.claim_again_at = 0.0, 0.0  # seconds; on the monotonic clock
        self.own_peak = 0  # bytes, as last read
        self.troubles = Troubles(log)  # by step of the loop, or job
        self.pruning: Iterator[None] = iter(())
        self.webhook_queue: queue.Queue[Job | None] = queue.Queue(1_000)
        self.webhook_thread = threading.Thread(
            target=send_webhooks, args=(settings.webhook, self.webhook_queue), daemon=True
        )
        self.env = base_environment()
        self.selector = selectors.DefaultSelector()
        self.queue_watch = store.listen(info.queues)  # tells of queued jobs, where something does
        self.queue_fd = None if self.queue_watch is None else self.queue_watch.fileno()
        if self.queue_fd is not None:
            self.selector.register(self.queue_fd, selectors.EVENT_READ)

    def run(self) -> None:
        self._catch_signals()
        if self.settings.webhook:
            self.webhook_thread.start()
        queues = ",".join(self.info.queues) or "all"
        log.info("starts worker=%s slots=%d queues=%s", self.info.name, self.info.slots, queues)
        while not self.stop_reason or (self.running and self.on_stop != "leave"):
            self.pause()
            self.reap()
            self.supervise_all()
            self.run_maintenance()
            if not self.take("claim", self.claim):
                self.claim_again_at = time.monotonic() + max(RETRY_DELAY, self.spawn_pause)
        log.info("stops reason=%r leaves=%d", self.stop_reason, len(self.running))
        if self.settings.webhook:
            with suppress(queue.Full):
                self.webhook_queue.put_nowait(None)
            self.webhook_thread.join(0.5)

    def _catch_signals(self) -> None:
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        self.selector.register(self.woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes the selector
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: object) -> None:
        """Claim nothing more; jobs are left, waited for or cancelled. Twice: leave them."""
        if self.stop_reason:
            self.on_stop = "leave"
        self.stop_reason = signal.Signals(number).name

    def take(self, name: str, step: Callable[[], None]) -> bool:
        """Take a step; False where it went wrong, which is said once and keeps no other step from
        its turn: a full disk or a folder that went away may come back."""
        try:
            step()
        except Exception as error:
            self.troubles.add(f"step={name}", error)
            return False
        self.troubles.over(f"step={name}")
        return True

    # --- The steps of the loop ---

    def pause(self) -> None:
        """Wait until a child ends, a job is queued, a signal comes or something is due."""
        due = self.next_heartbeat
        if self.running or self.queue_fd is None or self.claim_again_at:
            due = self.next_poll
        ready = self.selector.select(0)
        if not ready:  # nothing hurries
            if self.info.running != len(self.running):
                self.take("heartbeat", self.beat)
            ready = self.selector.select(max(0, due - time.monotonic()))
        for key, _ in ready:
            if key.fd == self.woken:
                os.read(self.woken, 1 << 16)
            elif key.fd != self.queue_fd:  # the pidfd of an adopted shim
                self.selector.unregister(key.fd)
                os.close(key.fd)

    def reap(self) -> None:
        """Collect the children that ended: shims, and what a job left to PID 1, if we are it."""
        by_pid = {entry.pid: entry for entry in self.running.values() if entry.process}
        with suppress(ChildProcessError):
            while True:
                pid, _, used = os.wait4(-1, os.WNOHANG)  # Popen.poll would lose what it used
                if not pid:
                    return
                if (entry := by_pid.get(pid)) and entry.process:
                    entry.ended, entry.process.returncode = True, 0
                    seconds = round(used.ru_utime + used.ru_stime, 6)
                    entry.usage = seconds, self.peak_rss(used.ru_maxrss)

    def supervise_all(self) -> None:
        """Look after each job by itself: what goes wrong with one is said once, tried again after
        a while, and never in the way of another."""
        now = time.monotonic()
        is_due = now >= self.next_poll
        if is_due:
            self.next_poll = now + POLL_INTERVAL
        for entry in list(self.running.values()):
            if now < entry.retry_at:
                continue
            try:
                self.look_after(entry, now, is_due)
            except Exception as error:  # the disk is full, say
                self.troubles.add(f"job={entry.job.id}", error)
                entry.retry_at = now + RETRY_DELAY
            else:
                self.troubles.over(f"job={entry.job.id}")

    def look_after(self, entry: Running, now: float, is_due: bool) -> None:
        try:
            if self.has_ended(entry):
                self.record_exit(entry)
            elif is_due:
                self.supervise(entry, now)
        except FileNotFoundError:
            if entry.claim.is_there():
                raise
            self.let_go(entry)
        except JobDamaged as error:
            self.record_damaged(entry, error)

    def run_maintenance(self) -> None:
        """Beat; take over what dead workers of this host left; delete what is kept long enough."""
        now = time.monotonic()
        if now < self.next_heartbeat:
            return
        self.next_heartbeat = now + HEARTBEAT_INTERVAL
        if not self.take("heartbeat", self.beat):
            self.next_heartbeat = now + RETRY_DELAY
        self.take("adopt", self.adopt_orphans)
        self.take("prune", self.prune)

    def claim(self) -> None:
        """Fill the free slots with the oldest jobs."""
        if time.monotonic() < self.claim_again_at:
            return
        self.claim_again_at = 0.0
        while self.busy_slots() < self.info.slots and self.has_descriptors():
            claim = None
            if not self.stop_reason:
                claim = self.store.claim(self.info.name, self.info.host)
            if claim is None:
                if self.drain and not self.running:
                    self.stop_reason = self.stop_reason or "nothing is queued or running"
                return
            self.start(claim)

    def busy_slots(self) -> int:
        """One that ended and only cannot be recorded keeps nobody waiting."""
        waiting = [entry for entry in self.running.values() if entry.ended and entry.retry_at]
        return len(self.running) - len(waiting)

    def has_descriptors(self) -> bool:
        """Are there enough for one more job, and then still those to kill and to record?"""
        return needed_descriptors(len(self.running) + 1) <= descriptor_limit()

    # --- Starting a job ---

    def start(self, claim: Claim) -> None:
        """Run a claimed job; one that cannot be started fails, and its log says why."""
        job = claim.job
        log.info("claimed job=%s attempt=%d name=%r", job.id, job.attempt, job.name or job.command)
        try:
            if job.attempt > 1:
                claim.write_notice(f"--- attempt {job.attempt} ---")
            process = self.spawn(claim)
        except (OSError, ValueError, TypeError) as error:
            with claim:
                self.record_no_start(claim, error)
            return
        claim.release_journal()
        self.spawn_pause = 0.0
        self.running[job.id] = Running(claim, process.pid, process)

    def spawn(self, claim: Claim) -> subprocess.Popen[bytes]:
        job = claim.job
        command = job.command
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        own = self.store.tracking_env(job.id) | {"JOB_ATTEMPT": str(job.attempt)}
        with claim.open_log_for_append() as out:
            return subprocess.Popen(
                ["/bin/sh", "-c", SHIM, "tailboard", *words],
                stdin=claim.shim_input(),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=job.cwd,
                env=self.env | encode_environment(job.env) | encode_environment(own),
                start_new_session=True,
            )

    def record_no_start(self, claim: Claim, error: Exception) -> None:
        """Its own fault: it failed. The machine's: back to the queue, and a pause that grows."""
        if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
            claim.requeue(Outcome(Status.QUEUED))
            self.spawn_pause = min(max(RETRY_DELAY, self.spawn_pause * 2), MAX_SPAWN_PAUSE)
            raise error
        reason = f"cannot start: {error}"
        with suppress(OSError):  # the log may be what cannot be written
            claim.write_notice(f"tailboard: {reason}")
        self.finish(claim, Outcome(Status.FAILED, reason=reason, final=True))

    # --- While it runs ---

    def supervise(self, entry: Running, now: float) -> None:
        """Tell it to end if somebody asked, or it has to; at last kill it; keep its log. What ends
        it comes first, so that nothing else can be in its way."""
        claim, job, limit = entry.claim, entry.job, self.settings.log_max_bytes
        if not claim.is_there():
            raise FileNotFoundError(job.id)
        if entry.kill_at:
            if now >= entry.kill_at:
                self.send_signal(entry, signal.SIGKILL, RETRY_DELAY)
        elif claim.cancel_requested() or claim.attempt.stopping:
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)
        elif job.timeout and now >= (claim.attempt.started_monotonic or now) + job.timeout:
            reason = f"ran longer than its timeout of {job.timeout:g} s"
            self.stop_job(entry, Status.TIMED_OUT, reason)
        elif self.stop_reason and self.on_stop == "kill":
            self.stop_job(entry, Status.CANCELLED, "its worker was told to stop")
        if not claim.sample_and_trim(limit) and not entry.kill_at:
            self.stop_job(entry, Status.FAILED, NO_HOLES.format(limit))

    def stop_job(self, entry: Running, status: Status, reason: str) -> None:
        """End a job for a reason of ours, which its journal keeps should we be gone by then."""
        entry.stop_outcome = status, reason
        try:
            entry.claim.write_stopping(status, reason)
        finally:  # a full disk must not save the job that fills it
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)

    def send_signal(self, entry: Running, number: signal.Signals, grace: float) -> None:
        """Signal everything that the job started; the shim lives on to record the exit code."""
        entry.kill_at = time.monotonic() + grace
        if entry.process is None and entry.claim.acquire_lock():
            return  # its shim is dead, and its pid may be anybody's
        log.info(
            "signals job=%s signal=%s reason=%r", entry.job.id, number.name, entry.stop_outcome
        )
        kill(self.store.tracking_env(entry.job.id), number, entry.pid)
        if entry.pid is None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGTERM:
                os.killpg(entry.pid, number)
            os.killpg(entry.pid, signal.SIGCONT)  # what is stopped takes no TERM, records no end

    def let_go(self, entry: Running) -> None:
        """Its folder was removed or moved away: end its process, free its slot."""
        log.error("gone job=%s reason=%r", entry.job.id, "its folder was removed or moved")
        kill(self.store.tracking_env(entry.job.id), signal.SIGKILL, None)
        entry.claim.release()
        del self.running[entry.job.id]

    # --- How it ended ---

    def has_ended(self, entry: Running) -> bool:
        """Is its shim dead? An adopted one tells only by its lock."""
        if entry.process is not None and not entry.ended:
            return False
        return entry.claim.acquire_lock()

    def record_damaged(self, entry: Running, error: JobDamaged) -> None:
        """Nobody can tell how a job ended whose journal was destroyed: it is lost."""
        entry.ended = True
        lost = Verdict(Status.LOST, Outcome(Status.LOST), recorded=False)
        if not self.is_swept(entry, lost):
            return
        entry.claim.finish_damaged(Status.LOST)
        log.error("lost job=%s reason=%r", entry.job.id, str(error))
        entry.claim.release()
        del self.running[entry.job.id]

    def record_exit(self, entry: Running) -> None:
        """Record a job's end, unless something that it started still has grace."""
        entry.ended = True
        try:
            verdict = entry.claim.judge()
        except JobDamaged as error:
            self.record_damaged(entry, error)
            return
        if verdict.outcome.status in STOPPED and not self.is_swept(entry, verdict):
            return
        verdict.outcome.cpu_seconds, verdict.outcome.max_rss_bytes = entry.usage
        self.record(entry.claim, verdict)
        entry.claim.release()
        del self.running[entry.job.id]

    def is_swept(self, entry: Running, verdict: Verdict) -> bool:
        """Is nothing left of a job that was stopped or lost? After its grace it is killed."""
        env = self.store.tracking_env(entry.job.id)
        if not any(processes(env)):
            return True
        if time.monotonic() >= entry.kill_at:
            kill(env, signal.SIGKILL)
            entry.retry_at = time.monotonic() + SWEEP_INTERVAL
            return verdict.outcome.exit_code is not None
        return False

    def record(self, claim: Claim, verdict: Verdict) -> None:
        """Finish or requeue a job whose shim is dead; its lock is ours."""
        outcome = verdict.outcome
        if verdict.status is not Status.QUEUED:
            self.finish(claim, outcome)
            return
        job = claim.requeue(outcome)
        if outcome.status in RETRIED:
            log.info("retried job=%s after=%s attempt=%d", job.id, outcome.status, job.attempt)
        else:
            log.info("requeued job=%s reason=%r", job.id, "it had not started")

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        job = claim.finish(outcome)
        log.info("%s job=%s exit_code=%s reason=%r", job.status, job.id, job.exit_code, job.reason)
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
            if not self.has_descriptors():  # the others have their turn when some have ended
                return

    def adopt(self, claim: Claim) -> None:
        job, pid = claim.job, claim.attempt.pid
        self.running[job.id] = Running(claim, pid)
        log.info("adopted job=%s from=%s pid=%s", job.id, job.worker, pid)
        if pid is not None:
            with suppress(OSError, AttributeError):  # tells of its end, if there are pidfds
                self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ)
        self.next_poll = 0.0  # look at once whether it is over

    def prune(self) -> None:
        until = time.monotonic() + PRUNING
        for _ in self.pruning:
            if time.monotonic() > until:
                return
        self.pruning = self.store.prune(self.settings.keep_days, self.settings.keep_bytes)

    def peak_rss(self, maxrss: int) -> int | None:
        """ru_maxrss in bytes; None up to the worker's own peak, with which Linux lets every child
        begin: until its exec a vfork shares the parent's memory (getrusage(2), proc(5))."""
        if psutil.MACOS:
            return maxrss  # in bytes there
        if maxrss * 1024 > self.own_peak:
            with open("/proc/self/status") as file:
                self.own_peak = int(file.read().partition("VmHWM:")[2].split()[0]) * 1024
        return maxrss * 1024 if maxrss * 1024 > self.own_peak else None


# --- What a job has started ---------------------------------------------------------------------


def processes(tracking_env: dict[str, str], leader: int | None = None) -> Iterator[psutil.Process]:
    """The living processes that a job has started, wherever they went: those that carry its JOB_ID
    in their environment, as Jenkins finds strays, or, if its shim `leader` is known to live, that
    are in its group or session."""
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)  # knows from now on if its pid is another's
            if pid == leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            in_family = leader and leader in (os.getpgid(pid), os.getsid(pid))
            if in_family or tracking_env.items() <= process.environ().items():
                yield process


def kill(tracking_env: dict[str, str], number: signal.Signals, leader: int | None = None) -> None:
    """Signal them, but for the shim. TERM leaves its group out, which gets its own, all at once."""
    for process in processes(tracking_env, leader):
        with suppress(psutil.Error, OSError):
            if number is not signal.SIGTERM or os.getpgid(process.pid) != leader:
                process.send_signal(number)


# --- The webhook --------------------------------------------------------------------------------


def needed_descriptors(jobs: int) -> int:
    """To supervise so many jobs, and to start, to kill and to record any of them."""
    return OWN_DESCRIPTORS + JOB_DESCRIPTORS * jobs


def descriptor_limit() -> float:
    """How many this process may open (`ulimit -n`); infinity where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def send_webhooks(url: str, jobs: queue.Queue[Job | None]) -> None:
    """Tell a URL which jobs ended, as JSON whose `text` Slack and Mattermost show. In a thread of
    its own, so that a slow or dead URL is never in the way of jobs."""
    for job in iter(jobs.get, None):
        code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
        why = f": {job.reason}" if job.reason else ""
        text = f"{job.name or job.command} {job.status}{code}{why} (job {job.id})"
        told = job.as_dict()
        del told["env"]  # it may hold secrets
        for pause in WEBHOOK_BACKOFF:
            time.sleep(pause)
            error = post(url, {"text": text, "job": told})
            if error is None:
                break
            log.error("webhook failed job=%s error=%s", job.id, error)


def post(url: str, body: dict[str, Any]) -> str | None:
    """Send it; None, or what went wrong in a word: more would tell the URL, which is a secret. A
    thread of its own, since the time-outs of requests begin anew with each byte that comes."""
    answer: queue.Queue[str | None] = queue.Queue()

    def send() -> None:
        import requests  # here: 15 MB that few workers need

        try:
            response = requests.post(url, json=body, timeout=WEBHOOK_TIME, allow_redirects=False)
            answer.put(
                None if response.ok and not response.is_redirect else str(response.status_code)
            )
        except requests.RequestException as error:
            answer.put(type(error).__name__)

    threading.Thread(target=send, daemon=True).start()
    try:
        return answer.get(timeout=WEBHOOK_TIME)
    except queue.Empty:
        return "Timeout"


# --- The command line ---------------------------------------------------------------------------


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
        worker = Worker(open_store(settings.storage), settings, drain, on_stop, info)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    worker.run()


if __name__ == "__main__":
    main()
