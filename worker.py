"""The worker: claims jobs, runs each under a shim that outlives it, records how they ended.

One thread, one loop: reap what ended, supervise what runs, recover what dead workers left, claim
what fits into the slots, pause. Whatever becomes of the worker, its jobs go on and the next worker
adopts them: the claim and crash rules stand at the top of storage.py. It imports nothing else of
ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from storage import (
    EXHAUSTED,
    QUEUE,
    SHIM,
    Held,
    Job,
    JobNotFound,
    LogKeeper,
    Outcome,
    Settings,
    Status,
    StoragePort,
    WorkerInfo,
    WrongState,
    open_storage,
    utc,
)

TICK = 0.25  # seconds between looks at running jobs for time-outs and cancels
BEAT = 5.0  # seconds between recoveries, and full scans of the queues
POLL = 0.2  # seconds between looks at the queues where nothing tells of a new job
GRACE = 10.0  # seconds from TERM to KILL
AGAIN = 1.0  # seconds until what failed is tried again; between rounds of KILL, too
NO_HOLES = "its log grew above TAILBOARD_LOG_MAX_BYTES ({}), and its head cannot be given back here"
PRUNING = 0.02  # seconds of deleting old jobs at each beat
PATIENCE = (1, 5, 25, 125)  # seconds between tries of the webhook
SHELL = "/bin/sh"
STOPPED = (Status.CANCELLED, Status.TIMED_OUT, Status.LOST)  # where remains may be left to kill
RETRIED = (Status.FAILED, Status.TIMED_OUT, Status.LOST)

log = logging.getLogger("worker")


class CannotStart(Exception):
    """The job's command cannot be started; says why and with which exit code, as shells do."""

    def __init__(self, why: str, exit_code: int | None = None) -> None:
        super().__init__(f"cannot start: {why}")
        self.exit_code = exit_code


@dataclass(eq=False)
class Running:
    """A job that this worker supervises: it started it, or adopted it from a dead worker."""

    job: Job
    pid: int  # of the shim
    process: subprocess.Popen[bytes] | None  # None: adopted
    pidfd: int | None = None  # tells the end of an adopted shim, where the system has pidfds
    keeper: LogKeeper | None = None
    verdict: tuple[Status, str] | None = None  # why we told it to end
    kill_at: float | None = None  # on the monotonic clock, once it was told to end
    ended: bool = False  # the shim is dead
    record_at: float = 0.0  # when to try again to record its end
    usage: tuple[float, int | None] | None = None  # CPU seconds, peak RSS in bytes

    def is_overdue(self, now: float) -> bool:
        """By the monotonic clock, which nobody sets."""
        job = self.job
        if job.timeout is None or job.started_monotonic is None:
            return False
        return now >= job.started_monotonic + job.timeout


class Worker:
    def __init__(
        self,
        storage: StoragePort,
        settings: Settings,
        slots: int,
        queues: list[str],
        drain: bool,
        on_stop: str,
    ) -> None:
        self.storage, self.settings, self.drain, self.on_stop = storage, settings, drain, on_stop
        self.webhook = Webhook(settings) if settings.webhook else None
        self.pruning: Iterator[None] = iter(())
        host, pid = socket.gethostname(), os.getpid()
        self.info = WorkerInfo(f"{host}-{pid}", host, pid, slots, queues, 0, utc(), utc())
        self.running: dict[str, Running] = {}  # by job ID
        self.stop_reason: str | None = None
        self.next_tick = self.next_beat = 0.0  # on the monotonic clock
        self.selector = selectors.DefaultSelector()
        self.is_open = False
        self.queue_fd: int | None = None  # tells of queued jobs, where something does
        os.umask(umask := os.umask(0))
        self.umask = f"{umask:03o}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
        self.env = kept | {"PYTHONUNBUFFERED": "1"}  # else Python's output shows up late

    # The loop

    def run(self) -> None:
        self._catch_signals()
        while not self._is_done():
            try:
                self.open()
                self.reap()
                self.supervise()
                self.recover()
                self.claim()
                if self._is_done():
                    break
                self.pause()
            except OSError as error:  # the disk is full, the folder went away: it may come back
                log.error("storage error=%r again=%gs", str(error), AGAIN)
                self.next_beat = self.next_tick = time.monotonic() + AGAIN
                self.selector.select(AGAIN)
        log.info("stops reason=%r leaves=%d", self.stop_reason, len(self.running))
        if self.webhook:
            self.webhook.finish()

    def open(self) -> None:
        """Show ourselves and watch the queues, once that can be done."""
        if self.is_open:
            return
        self.storage.heartbeat(self.info)
        self.queue_fd = self.storage.subscribe(self.info.queues)
        if self.queue_fd is not None:
            self.selector.register(self.queue_fd, selectors.EVENT_READ)
        self.is_open = True
        queues = ",".join(self.info.queues) or "all"
        log.info("starts worker=%s slots=%d queues=%s", self.info.name, self.info.slots, queues)

    def _catch_signals(self) -> None:
        self.woken, wake = socket.socketpair()
        self.woken.setblocking(False)
        wake.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake.detach(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes the selector
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Claim nothing more; jobs are left, waited for or cancelled. Twice: leave them."""
        if self.stop_reason:
            self.on_stop = "leave"
        self.stop_reason = signal.Signals(number).name
        self.next_tick = 0

    def _is_done(self) -> bool:
        return bool(self.stop_reason) and (self.on_stop == "leave" or not self.running)

    def pause(self) -> None:
        """Wait until a child ends, a job is queued, a signal comes or something is due."""
        now = time.monotonic()
        due = min(self.next_beat, self.next_tick if self.running else self.next_beat)
        if self.queue_fd is None:
            due = min(due, now + POLL)
        if not (ready := self.selector.select(0)):
            if self.info.running != len(self.running):
                self._beat()
            ready = self.selector.select(max(0, due - now))
        for key, _ in ready:
            if isinstance(key.data, Running):  # the pidfd of an adopted shim
                key.data.ended = True
            elif key.fileobj is self.woken:
                with suppress(BlockingIOError):
                    self.woken.recv(1 << 16)

    def _beat(self) -> None:
        self.info.running, self.info.seen_at = len(self.running), utc()
        self.storage.heartbeat(self.info)

    # The steps

    def reap(self) -> None:
        """See which shims have ended, and record how."""
        with suppress(ChildProcessError):
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                pid, _, used = found
                for entry in self.running.values():
                    if entry.process and entry.pid == pid:
                        entry.process.returncode = 0  # reaped here, for the rusage
                        entry.ended = True
                        seconds = round(used.ru_utime + used.ru_stime, 6)
                        entry.usage = seconds, peak(used.ru_maxrss)
        for entry in list(self.running.values()):
            if (entry.ended or not entry.process) and time.monotonic() >= entry.record_at:
                try:
                    self.settle(entry)
                except OSError as error:  # the disk is full, say: what ended stays known
                    log.error(
                        "unrecorded job=%s error=%r again=%gs", entry.job.id, str(error), AGAIN
                    )
                    entry.record_at = time.monotonic() + AGAIN

    def settle(self, entry: Running) -> None:
        """Record a job's end, unless it lives on, or something that it started still has grace."""
        held = self.storage.hold(entry.job.id)
        if held is None and not entry.ended:
            if entry.pidfd is not None or self.is_running(entry.job.id):
                return  # adopted, and alive
        if held is not None:
            with held:
                entry.ended = True
                if entry.kill_at is not None and time.monotonic() < entry.kill_at:
                    if any(processes(self.cookie(entry.job), None)):
                        return
                self.record(held, entry)
        del self.running[entry.job.id]
        if entry.keeper is not None:
            entry.keeper.close()
        if entry.pidfd is not None:
            self.selector.unregister(entry.pidfd)
            os.close(entry.pidfd)

    def is_running(self, job_id: str) -> bool:
        with suppress(JobNotFound):
            return self.storage.status(job_id) is Status.RUNNING
        return False

    def record(self, held: Held, entry: Running | None = None) -> None:
        """Finish or requeue a job whose shim is dead; its lock is ours."""
        outcome, job = self.storage.outcome(held), held.job
        if outcome is None:
            self.storage.requeue(held, retry=False)
            log.info("requeued job=%s reason=%r", job.id, "it had not started")
            return
        if entry and entry.verdict:
            outcome.status, outcome.reason = entry.verdict
        if outcome.status in STOPPED:
            kill(self.cookie(job), None, signal.SIGKILL)
        if entry and entry.usage:
            job.cpu_seconds, job.max_rss_bytes = entry.usage
        if outcome.status in RETRIED and job.attempt <= job.retries:
            self.storage.requeue(held, retry=True)
            log.info("retried job=%s after=%s attempt=%d", job.id, outcome.status, job.attempt)
        else:
            self.finish(held, outcome)

    def finish(self, held: Held, outcome: Outcome) -> None:
        job = self.storage.finish(held, outcome)
        log.info("%s job=%s exit_code=%s reason=%r", job.status, job.id, job.exit_code, job.reason)
        if self.webhook:
            self.webhook.tell(job)

    def supervise(self) -> None:
        """Look after the running jobs: their logs, their time-outs, their cancels."""
        now = time.monotonic()
        if now < self.next_tick:
            return
        self.next_tick = now + TICK
        for entry in list(self.running.values()):
            try:
                if entry.ended:
                    continue  # what it left behind is settle's
                self.keep_log(entry)
                if entry.kill_at is None:
                    self.judge(entry, now)
                elif now >= entry.kill_at:
                    self.signal(entry, signal.SIGKILL, AGAIN)
            except OSError as error:
                log.error("unsupervised job=%s error=%r", entry.job.id, str(error))

    def keep_log(self, entry: Running) -> None:
        if entry.keeper is None:
            entry.keeper = self.storage.keep_log(entry.job.id)
        if entry.keeper is not None:
            limit = self.settings.log_max_bytes
            if not entry.keeper.trim(limit) and entry.kill_at is None:
                self.stop_job(entry, Status.FAILED, NO_HOLES.format(limit))
            entry.keeper.sample()

    def judge(self, entry: Running, now: float) -> None:
        """Has the job to end?"""
        if self.storage.cancelled(entry.job.id):
            self.signal(entry, signal.SIGTERM, GRACE)
        elif entry.is_overdue(now):
            reason = f"ran longer than its timeout of {entry.job.timeout:g} s"
            self.stop_job(entry, Status.TIMED_OUT, reason)
        elif self.stop_reason and self.on_stop == "kill":
            self.stop_job(entry, Status.CANCELLED, "its worker was told to stop")

    def stop_job(self, entry: Running, status: Status, reason: str) -> None:
        """End a job for a reason of ours, which the marker keeps should we be gone by then."""
        with suppress(WrongState, JobNotFound):  # it ended, or went away, meanwhile
            try:
                self.storage.cancel(entry.job.id, reason, status)
            except OSError as error:  # a full disk must not save the job that fills it
                log.error("unmarked job=%s error=%r", entry.job.id, str(error))
            entry.verdict = status, reason
            self.signal(entry, signal.SIGTERM, GRACE)

    def signal(self, entry: Running, number: signal.Signals, grace: float) -> None:
        """Signal everything that the job started; the shim lives on to record the exit code."""
        entry.kill_at = time.monotonic() + grace
        if entry.process is None and (held := self.storage.hold(entry.job.id)):
            with held:  # its shim is dead, and its pid may be anybody's
                entry.ended = True
                return
        log.info("signals job=%s signal=%s reason=%r", entry.job.id, number.name, entry.verdict)
        found = kill(self.cookie(entry.job), entry.pid, number)
        if number is signal.SIGTERM or not found:
            with suppress(ProcessLookupError):
                os.killpg(entry.pid, number)
                os.killpg(entry.pid, signal.SIGCONT)  # a stopped process takes no TERM

    def recover(self) -> None:
        """Take over what dead workers of this host left: record ends, adopt what is alive."""
        now = time.monotonic()
        if now < self.next_beat:
            return
        self.next_beat = now + BEAT
        self._beat()
        self.storage.refresh(scan=True)
        self.prune()
        alive = {info.name for info in self.storage.workers()} - {self.info.name}
        for job in self.storage.list(Status.RUNNING, limit=1_000_000)[0]:
            ours = job.host in (None, self.info.host) and job.worker not in alive
            if ours and job.id not in self.running:
                try:
                    self.take_over(job)
                except OSError as error:
                    log.error("unrecovered job=%s error=%r", job.id, str(error))

    def take_over(self, job: Job) -> None:
        pidfd = None
        with suppress(OSError, AttributeError):  # opened before the look at the lock
            pidfd = os.pidfd_open(job.pid) if job.pid else None
        if held := self.storage.hold(job.id):
            with held:
                self.record(held)
        elif job.pid and self.adopt(Running(job, job.pid, None, pidfd)):
            return
        if pidfd is not None:
            os.close(pidfd)

    def adopt(self, entry: Running) -> bool:
        entry.keeper = self.storage.keep_log(entry.job.id)
        if entry.keeper is None:  # another worker was faster
            return False
        self.running[entry.job.id] = entry
        if entry.pidfd is not None:
            self.selector.register(entry.pidfd, selectors.EVENT_READ, entry)
        log.info("adopted job=%s from=%s pid=%d", entry.job.id, entry.job.worker, entry.pid)
        return True

    def prune(self) -> None:
        """Delete what is kept long enough, for a few milliseconds at a time."""
        until = time.monotonic() + PRUNING
        while time.monotonic() < until:
            if next(self.pruning, self) is self:
                keep = self.settings
                self.pruning = self.storage.prune(keep.keep_days, keep.keep_bytes)
                return

    def claim(self) -> None:
        """Fill the free slots with the oldest jobs."""
        self.storage.refresh()
        while not self.stop_reason and self._busy() < self.info.slots:
            held = self.storage.claim(self.info.name, self.info.host)
            if held is None:
                if self.drain and not self.running:
                    self.stop_reason = "nothing is queued or running"
                return
            with held:
                self.start(held)

    def _busy(self) -> int:
        """Slots in use: one that ended and only cannot be recorded keeps nobody waiting."""
        return sum(not entry.record_at for entry in self.running.values())

    # One job

    def start(self, held: Held) -> None:
        """Run a claimed job; one that cannot be started fails, and its log says why."""
        job = held.job
        log.info("claimed job=%s attempt=%d name=%r", job.id, job.attempt, job.name or job.command)
        try:
            with held.append_log() as out:
                try:
                    process = self.spawn(held, out.fileno())
                except CannotStart as error:
                    say(out.fileno(), f"tailboard: {error}")
                    self.finish(held, Outcome(Status.FAILED, error.exit_code, str(error)))
                    return
        except OSError as error:
            if error.errno in EXHAUSTED:  # not this job's fault: again, when the machine can
                self.storage.requeue(held, retry=False)
                raise
            reason = f"cannot start: its log cannot be written: {error.strerror}"
            self.finish(held, Outcome(Status.FAILED, reason=reason))
            return
        self.running[job.id] = Running(job, process.pid, process)

    def cookie(self, job: Job) -> dict[str, str]:
        """The variables that tell what a job has started; a copy of the jobs folder, restored
        from a backup say, has jobs of the same ID that are not ours to kill."""
        return {"JOB_ID": job.id, "JOB_STORAGE": self.storage.identity()}

    def spawn(self, held: Held, out: int) -> subprocess.Popen[bytes]:
        job = held.job
        if job.attempt > 1:
            say(out, f"--- attempt {job.attempt} ---")
        own = self.cookie(job) | {"JOB_ATTEMPT": str(job.attempt)}
        env = self.env | job.env | own
        try:
            return subprocess.Popen(
                [SHELL, "-c", SHIM, held.folder, self.umask, *program(job, env)],
                stdin=held.lock,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=job.cwd,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            raise CannotStart(error.strerror or str(error), 126) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise CannotStart(str(error)) from None


def say(out: int, line: str) -> None:
    """A line of our own in a job's log."""
    size = os.fstat(out).st_size
    glued = size and os.pread(out, 1, size - 1) != b"\n"
    os.write(out, f"{chr(10) * bool(glued)}{line}\n".encode(errors="replace"))


def program(job: Job, env: dict[str, str]) -> list[str]:
    """The command as arguments, the first of them a path; CannotStart, with the reason."""
    folder = job.cwd or os.getcwd()
    if not os.path.isdir(folder):
        raise CannotStart(f"there is no folder {folder!r}")
    if isinstance(job.command, str):
        return [SHELL, "-c", job.command]
    name = job.command[0]
    path = os.path.join(folder, name) if "/" in name else shutil.which(name, path=env.get("PATH"))
    if path is None or not os.path.exists(path):
        raise CannotStart(f"there is no program {name!r}", 127)
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise CannotStart(f"{name!r} is not executable", 126)
    return [path, *job.command[1:]]


class Webhook(threading.Thread):
    """Tells a URL which jobs ended, as JSON whose `text` Slack and Mattermost show. A thread of
    its own, so that a slow or dead URL is never in the way of jobs."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.url, self.statuses = settings.webhook, settings.webhook_on.split(",")
        self.jobs: queue.Queue[Job | None] = queue.Queue(1_000)
        self.start()

    def tell(self, job: Job) -> None:
        if job.status in self.statuses:
            try:
                self.jobs.put_nowait(job)
            except queue.Full:
                log.error("untold job=%s error='too many wait for the webhook'", job.id)

    def finish(self) -> None:
        """Half a second for what is still to be told."""
        with suppress(queue.Full):
            self.jobs.put_nowait(None)
        self.join(0.5)

    def run(self) -> None:
        from http.client import HTTPException  # here: 8 MB that few workers need
        from urllib.request import Request, urlopen

        for job in iter(self.jobs.get, None):
            for pause in (*PATIENCE, None):
                try:
                    request = Request(
                        self.url, self.body(job), {"Content-Type": "application/json"}
                    )
                    urlopen(request, timeout=10).close()
                    break
                except (OSError, ValueError, HTTPException) as error:
                    log.error("untold job=%s error=%r again=%s", job.id, str(error), pause)
                    if pause is not None:
                        time.sleep(pause)

    @staticmethod
    def body(job: Job) -> bytes:
        code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
        why = f": {job.reason}" if job.reason else ""
        text = f"{job.name or job.command} {job.status}{code}{why} (job {job.id})"
        return json.dumps({"text": text, "job": job.as_dict()}).encode()


def peak(maxrss: int) -> int | None:
    """ru_maxrss in bytes; None up to the worker's own peak, with which Linux lets every child
    begin: until its exec a vfork shares the parent's memory (getrusage(2), proc(5))."""
    if sys.platform == "darwin":
        return maxrss  # in bytes there
    own = 0
    with suppress(OSError), open("/proc/self/status") as file:
        own = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return maxrss * 1024 if maxrss > own else None


# What a job has started, wherever it went (Linux; elsewhere only its process group is known)


def processes(cookie: dict[str, str], leader: int | None) -> Iterator[int]:
    """The living processes that carry the job's cookie in their environment, as Jenkins finds
    strays, or, if its shim `leader` is known to live, that are in its group or session."""
    names = os.listdir("/proc") if sys.platform == "linux" else []
    return (int(n) for n in names if n.isdigit() and belongs(int(n), cookie, leader))


def belongs(pid: int, cookie: dict[str, str], leader: int | None) -> bool:
    with suppress(OSError):
        with open(f"/proc/{pid}/stat", "rb") as file:  # proc(5): pid (comm) state ppid pgrp session
            state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
        if pid == leader or state in (b"Z", b"X"):
            return False
        if leader and leader in (int(group), int(session)):
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = b"\0" + file.read()
        return all(f"\0{name}={text}\0".encode() in environment for name, text in cookie.items())
    return False


def kill(cookie: dict[str, str], leader: int | None, number: signal.Signals) -> int:
    """Signal them, but for the shim, and count them. TERM leaves the group out: it gets its own,
    all at once. The pidfd pins a process before the proof that it is the job's is read."""
    count = 0
    for pid in processes(cookie, leader):
        with suppress(OSError):
            if number is signal.SIGTERM and leader and os.getpgid(pid) == leader:
                continue
            pidfd = os.pidfd_open(pid)
            try:
                if belongs(pid, cookie, leader):
                    signal.pidfd_send_signal(pidfd, number)
                    count += 1
            finally:
                os.close(pidfd)
    return count


def whole(low: int, allowed: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"must be {allowed}")
        return int(text)

    return parse


def queue_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(QUEUE.fullmatch(name) for name in names):
        raise argparse.ArgumentTypeError("must be names of 1 to 32 of a-z 0-9 _ -, with commas")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs Tailboard's queued jobs.")
    parser.add_argument(
        "--slots",
        type=whole(1, "a whole number above 0"),
        default=os.cpu_count() or 1,
        help="jobs at a time (default: one a processor)",
    )
    parser.add_argument("--queues", type=queue_names, default=[], help="a,b (default: all)")
    parser.add_argument(
        "--drain", action="store_true", help="exit once nothing is queued or running here"
    )
    parser.add_argument(
        "--on-stop",
        choices=("leave", "wait", "kill"),
        default="leave",
        help="what SIGTERM or Ctrl-C means for running jobs (default: leave; they go on)",
    )
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.Formatter.converter = time.gmtime
    logging.Formatter.default_msec_format = "%s.%03dZ"
    try:
        settings = Settings.read()
        storage = open_storage(settings.storage)
    except (OSError, ValueError) as error:
        sys.exit(f"worker: {error}")
    Worker(storage, settings, **vars(options)).run()


if __name__ == "__main__":
    main()
