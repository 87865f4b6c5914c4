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
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import click
import psutil

from storage import (
    RESOURCE_ERRNOS,
    Claim,
    Job,
    JobError,
    LogSupervisor,
    Outcome,
    Settings,
    Status,
    Store,
    WorkerInfo,
    foreign_settings,
    open_store,
)

POLL_INTERVAL = (
    0.25  # seconds between looks at running jobs, and at the queues where nothing tells of them
)
HEARTBEAT_INTERVAL = 5.0  # seconds between recoveries, and full scans of the queues
KILL_DELAY = 10.0  # seconds from TERM to KILL
RETRY_DELAY = 1.0  # seconds until what failed is tried again; between rounds of KILL, too
PRUNING = 0.02  # seconds of deleting old jobs at each beat
WEBHOOK_BACKOFF = (0, 1, 5, 25, 125)  # seconds before each try of the webhook
NO_HOLES = "its log grew above TAILBOARD_LOG_MAX_BYTES ({}), and its head cannot be given back here"
STOPPED = (Status.CANCELLED, Status.TIMED_OUT, Status.LOST)  # where remains may be left to kill
RETRIED = (Status.FAILED, Status.TIMED_OUT, Status.LOST)
ON_STOP = click.Choice(["leave", "wait", "kill"])

log = logging.getLogger("worker")


@dataclass
class Running:
    """A job that this worker supervises: it started it, or adopted it from a dead worker."""

    job: Job
    pid: int  # of the shim
    process: subprocess.Popen[bytes] | None = None  # None: adopted
    keeper: LogSupervisor | None = None
    stop_outcome: tuple[Status, str] | None = None  # why we told it to end
    kill_at: float = 0.0  # on the monotonic clock, once it was told to end
    retry_at: float = 0.0  # on the monotonic clock, once something went wrong with it
    ended: bool = False  # the shim is dead
    usage: tuple[float, int | None] = (0.0, None)  # CPU seconds, peak RSS in bytes


class Worker:
    def __init__(
        self, storage: Store, settings: Settings, drain: bool, on_stop: str, info: WorkerInfo
    ) -> None:
        self.storage, self.settings, self.info = storage, settings, info
        self.drain, self.on_stop = drain, on_stop
        self.running: dict[str, Running] = {}  # by job ID
        self.stop_reason: str | None = None
        self.next_tick = self.next_beat = 0.0  # on the monotonic clock
        self.pruning: Iterator[None] = iter(())
        self.webhook_queue: queue.Queue[Job | None] = queue.Queue(
            1_000
        )  # what the webhook is to be told
        self.webhook_thread = threading.Thread(
            target=send_webhooks, args=(settings.webhook, self.webhook_queue), daemon=True
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
        self.env = kept | {"PYTHONUNBUFFERED": "1"}  # else Python's output shows up late
        self.selector = selectors.DefaultSelector()
        self.queue_fd = storage.subscribe(info.queues)  # tells of queued jobs, where something does
        if self.queue_fd is not None:
            self.selector.register(self.queue_fd, selectors.EVENT_READ)

    def run(self) -> None:
        self._catch_signals()
        if self.settings.webhook:
            self.webhook_thread.start()
        queues = ",".join(self.info.queues) or "all"
        log.info("starts worker=%s slots=%d queues=%s", self.info.name, self.info.slots, queues)
        while not self.stop_reason or (self.running and self.on_stop != "leave"):
            try:
                self.pause()
                self.supervise_all()
                self.run_maintenance()
                self.claim()
            except OSError as error:  # the disk is full, the folder went away: it may come back
                log.error("storage error=%r again=%gs", str(error), RETRY_DELAY)
                self.next_beat = self.next_tick = time.monotonic() + RETRY_DELAY
                self.selector.select(RETRY_DELAY)
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

    def pause(self) -> None:
        """Wait until a child ends, a job is queued, a signal comes or something is due."""
        due = self.next_tick if self.running or self.queue_fd is None else self.next_beat
        if not (ready := self.selector.select(0)):
            if self.info.running != len(self.running):
                self.storage.heartbeat(self.info, len(self.running))
            ready = self.selector.select(max(0, due - time.monotonic()))
        for key, _ in ready:
            if key.fd == self.woken:
                os.read(self.woken, 1 << 16)
            elif key.fd != self.queue_fd:  # the pidfd of an adopted shim
                self.selector.unregister(key.fd)
                os.close(key.fd)

    def supervise_all(self) -> None:
        """Look after each job: record how it ended; while it runs keep its log, end it if need be.
        One bad job never stops the worker."""
        now = time.monotonic()
        if tick := now >= self.next_tick:
            self.next_tick = now + POLL_INTERVAL
        for entry in [entry for entry in self.running.values() if now >= entry.retry_at]:
            try:
                if self.has_ended(entry):
                    self.record_exit(entry)
                if tick and not entry.ended:
                    self.supervise(entry, now)
            except (OSError, JobError) as error:  # the disk is full, say: it stays known
                log.error("trouble job=%s error=%r", entry.job.id, str(error))
                entry.retry_at = now + RETRY_DELAY

    def has_ended(self, entry: Running) -> bool:
        """Has our child ended? An adopted one tells only by its lock."""
        if entry.process and not entry.ended:
            pid, _, used = os.wait4(entry.pid, os.WNOHANG)  # poll() would lose what it used
            if pid:
                entry.ended, entry.process.returncode = True, 0
                entry.usage = round(used.ru_utime + used.ru_stime, 6), peak_rss(used.ru_maxrss)
        return entry.ended or not entry.process

    def record_exit(self, entry: Running) -> None:
        """Record a job's end, unless it lives on, or something that it started still has grace."""
        with suppress(JobError):  # its folder was moved away
            held = self.storage.acquire_lock(entry.job.id)
            if held is None:
                return
            with held:
                entry.ended = True
                remains = processes(self.storage.tracking_env(entry.job.id))
                if time.monotonic() < entry.kill_at and any(remains):
                    return
                self.record(held, entry)
        entry.ended = True
        del self.running[entry.job.id]
        if entry.keeper is not None:
            entry.keeper.close()

    def record(self, held: Claim, entry: Running | None = None) -> None:
        """Finish or requeue a job whose shim is dead; its lock is ours."""
        outcome, job = self.storage.outcome(held), held.job
        if outcome is None:
            self.storage.requeue(held, retry=False)
            log.info("requeued job=%s reason=%r", job.id, "it had not started")
            return
        if entry and entry.stop_outcome:
            outcome.status, outcome.reason = entry.stop_outcome
        if outcome.status in STOPPED:
            kill(self.storage.tracking_env(job.id), signal.SIGKILL)
        if entry and entry.process:
            job.cpu_seconds, job.max_rss_bytes = entry.usage
        if outcome.status in RETRIED and job.attempt <= job.retries:
            self.storage.requeue(held, retry=True)
            log.info("retried job=%s after=%s attempt=%d", job.id, outcome.status, job.attempt)
        else:
            self.finish(held, outcome)

    def finish(self, held: Claim, outcome: Outcome) -> None:
        job = self.storage.finish(held, outcome)
        log.info("%s job=%s exit_code=%s reason=%r", job.status, job.id, job.exit_code, job.reason)
        if self.settings.webhook and job.status in self.settings.webhook_on.split(","):
            with suppress(queue.Full):  # a dead URL must not fill the memory
                self.webhook_queue.put_nowait(job)

    def supervise(self, entry: Running, now: float) -> None:
        """Keep its log; tell it to end if somebody asked, or it has to; at last kill it."""
        job, limit = entry.job, self.settings.log_max_bytes
        entry.keeper = entry.keeper or self.storage.supervise_log(job.id)
        fits = entry.keeper is None or entry.keeper.sample_and_trim(limit)
        if entry.kill_at:
            if now >= entry.kill_at:
                self.send_signal(entry, signal.SIGKILL, RETRY_DELAY)
        elif self.storage.cancel_requested(job.id):
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)
        elif not fits:
            self.stop_job(entry, Status.FAILED, NO_HOLES.format(limit))
        elif job.timeout and now >= (job.started_monotonic or now) + job.timeout:
            reason = f"ran longer than its timeout of {job.timeout:g} s"
            self.stop_job(entry, Status.TIMED_OUT, reason)
        elif self.stop_reason and self.on_stop == "kill":
            self.stop_job(entry, Status.CANCELLED, "its worker was told to stop")

    def stop_job(self, entry: Running, status: Status, reason: str) -> None:
        """End a job for a reason of ours, which the marker keeps should we be gone by then."""
        entry.stop_outcome = status, reason
        try:
            self.storage.cancel(entry.job.id, reason, status)
        finally:  # a full disk must not save the job that fills it
            self.send_signal(entry, signal.SIGTERM, KILL_DELAY)

    def send_signal(self, entry: Running, number: signal.Signals, grace: float) -> None:
        """Signal everything that the job started; the shim lives on to record the exit code."""
        entry.kill_at = time.monotonic() + grace
        if entry.process is None and (held := self.storage.acquire_lock(entry.job.id)):
            with held:
                return  # its shim is dead, and its pid may be anybody's
        log.info(
            "signals job=%s signal=%s reason=%r", entry.job.id, number.name, entry.stop_outcome
        )
        kill(self.storage.tracking_env(entry.job.id), number, entry.pid)
        with suppress(ProcessLookupError):
            if number is signal.SIGTERM:
                os.killpg(entry.pid, number)
            os.killpg(entry.pid, signal.SIGCONT)  # what is stopped takes no TERM, records no end

    def run_maintenance(self) -> None:
        """Take over what dead workers of this host left; beat; delete what is kept long enough."""
        now = time.monotonic()
        if now < self.next_beat:
            return
        self.next_beat = now + HEARTBEAT_INTERVAL
        self.storage.heartbeat(self.info, len(self.running))
        self.storage.refresh(scan=True)
        for _ in self.pruning:
            if time.monotonic() > now + PRUNING:
                break
        else:
            self.pruning = self.storage.prune(self.settings.keep_days, self.settings.keep_bytes)
        alive = {info.name for info in self.storage.workers()} - {self.info.name}
        for job in self.storage.list(Status.RUNNING, limit=1_000_000)[0]:
            ours = job.host in (None, self.info.host) and job.worker not in alive
            if ours and job.id not in self.running:
                try:
                    self.adopt(job)
                except OSError as error:
                    log.error("unrecovered job=%s error=%r", job.id, str(error))

    def adopt(self, job: Job) -> None:
        """Record the end of a job whose shim is dead; adopt one that lives."""
        with suppress(JobError):  # another worker was faster
            if held := self.storage.acquire_lock(job.id):
                with held:
                    self.record(held)
            elif job.pid and (keeper := self.storage.supervise_log(job.id)):
                self.running[job.id] = Running(job, job.pid, keeper=keeper)
                log.info("adopted job=%s from=%s pid=%d", job.id, job.worker, job.pid)
                with suppress(OSError, AttributeError):  # tells of its end, if there are pidfds
                    self.selector.register(os.pidfd_open(job.pid), selectors.EVENT_READ)

    def claim(self) -> None:
        """Fill the free slots with the oldest jobs."""
        self.storage.refresh()
        # One that ended and only cannot be recorded keeps nobody waiting.
        while sum(not (e.ended and e.retry_at) for e in self.running.values()) < self.info.slots:
            held = None if self.stop_reason else self.storage.claim(self.info.name, self.info.host)
            if held is None:
                if self.drain and not self.running:
                    self.stop_reason = self.stop_reason or "nothing is queued or running"
                return
            with held:
                self.start(held)

    def start(self, held: Claim) -> None:
        """Run a claimed job; one that cannot be started fails, and its log says why."""
        job = held.job
        log.info("claimed job=%s attempt=%d name=%r", job.id, job.attempt, job.name or job.command)
        try:
            if job.attempt > 1:
                held.write_notice(f"--- attempt {job.attempt} ---")
            process = self.spawn(held)
            self.running[job.id] = Running(job, process.pid, process)
        except (OSError, ValueError, TypeError) as error:
            if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                self.storage.requeue(held, retry=False)  # not its fault: when the machine can
                raise
            reason = f"cannot start: {error}"
            with suppress(OSError):  # the log may be what cannot be written
                held.write_notice(f"tailboard: {reason}")
            self.finish(held, Outcome(Status.FAILED, reason=reason))

    def spawn(self, held: Claim) -> subprocess.Popen[bytes]:
        job = held.job
        own = self.storage.tracking_env(job.id) | {"JOB_ATTEMPT": str(job.attempt)}
        with held.open_log_for_append() as out:
            return subprocess.Popen(
                held.shim(),
                stdin=held.lock,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=job.cwd,
                env=self.env | job.env | own,
                start_new_session=True,
            )


def peak_rss(maxrss: int) -> int | None:
    """ru_maxrss in bytes; None up to the worker's own peak, with which Linux lets every child
    begin: until its exec a vfork shares the parent's memory (getrusage(2), proc(5))."""
    if psutil.MACOS:
        return maxrss  # in bytes there
    with open("/proc/self/status") as file:
        own = int(file.read().partition("VmHWM:")[2].split()[0])
    return maxrss * 1024 if maxrss > own else None


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


def send_webhooks(url: str, jobs: queue.Queue[Job | None]) -> None:
    """Tell a URL which jobs ended, as JSON whose `text` Slack and Mattermost show. In a thread of
    its own, so that a slow or dead URL is never in the way of jobs."""
    import requests  # here: 15 MB that few workers need

    for job in iter(jobs.get, None):
        code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
        why = f": {job.reason}" if job.reason else ""
        text = f"{job.name or job.command} {job.status}{code}{why} (job {job.id})"
        for pause in WEBHOOK_BACKOFF:
            time.sleep(pause)
            try:
                body = {"text": text, "job": job.as_dict()}
                requests.post(url, json=body, timeout=10).raise_for_status()
                break
            except requests.RequestException as error:  # its text would tell the URL: a secret
                log.error("untold job=%s error=%s", job.id, type(error).__name__)


@click.command(context_settings={"show_default": True})
@click.option("--slots", type=click.IntRange(1), default=os.cpu_count() or 1, help="Jobs at once.")
@click.option("--queues", metavar="A,B", help="Serve these queues, not all.")
@click.option("--drain", is_flag=True, help="Exit once nothing is queued or running here.")
@click.option("--on-stop", type=ON_STOP, default="leave", help="What SIGTERM means for jobs.")
def main(slots: int, queues: str | None, drain: bool, on_stop: str) -> None:
    """Runs Tailboard's queued jobs."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.Formatter.converter = time.gmtime
    logging.Formatter.default_msec_format = "%s.%03dZ"
    host, pid = socket.gethostname(), os.getpid()
    names = [] if queues is None else [name.strip() for name in queues.split(",")]
    info = WorkerInfo(f"{host}-{pid}", host, pid, slots, names)
    try:
        settings = Settings.read()
        for name in foreign_settings():
            log.warning("ignored variable=%s reason=%r", name, "it is no setting of Tailboard")
        worker = Worker(open_store(settings.storage), settings, drain, on_stop, info)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    worker.run()


if __name__ == "__main__":
    main()
