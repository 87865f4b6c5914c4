"""The running jobs of a worker: each is watched, ended if necessary, and its end is recorded."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tailboard import intervals
from tailboard.errors import JobDamaged
from tailboard.folder.claim import Claim
from tailboard.folder.files_folder import FilesCount
from tailboard.folder.secret_params import drop_params_if_started
from tailboard.job import Job
from tailboard.job_files import MAX_LISTED
from tailboard.journal import Outcome
from tailboard.judge import RETRIED, Verdict
from tailboard.program_log import RepeatedErrors
from tailboard.run.end_steps import FilesCounting, LogMasking
from tailboard.run.files_meter import FilesMeter
from tailboard.run.hint import HINT_BYTES, find_hint
from tailboard.run.job_limits import JobLimits
from tailboard.run.processes import PeakMemory
from tailboard.run.running import Running
from tailboard.run.terminator import Terminator
from tailboard.run.usage_sampler import UsageSampler
from tailboard.settings import Settings
from tailboard.status import Status
from tailboard.workers import FENCED_REASON

log = logging.getLogger("worker")

NO_HOLES_REASON = "its log exceeded {} ({}), and this file system cannot free the oldest part"
FILES_REASON = "its files exceeded TAILBOARD_FILES_MAX_BYTES ({:,} bytes)"
# Tries to mask a log, RETRY_DELAY apart. Then the end is recorded although the disk does not work.
MASK_TRIES = 30
# Some processes of such a job may still have to be killed.
STOPPED = (Status.CANCELLED, Status.TIMED_OUT, Status.LOST)


class Supervisor:
    """Supervises the jobs that a worker has started or adopted. In each pass of its loop the worker
    calls `reap`, `supervise_all` and, after its claims, `record_ends`. An error of one job is
    logged once and tried again after RETRY_DELAY; it never stops the others."""

    def __init__(
        self,
        settings: Settings,
        tracking_env: Callable[[str], Mapping[str, str]],
        notify: Callable[[Job], None],
        wake: Callable[[], None],
    ) -> None:
        """`tracking_env`: see `WorkerStore.tracking_env`. `notify` is called with each job that has
        ended. `wake` ends the pause of the worker's loop; any thread can call it."""
        self.terminator, self.limits = Terminator(tracking_env), JobLimits(settings.memory)
        self.log_max_bytes, self.notify = settings.log_max_bytes, notify
        self.wake, self.files_meter = wake, FilesMeter(settings.files_max_bytes)
        self.running: dict[str, Running] = {}  # by job ID
        self.next_poll = 0.0  # on the monotonic clock
        self.errors = RepeatedErrors(log)  # by job
        self.peak_memory = PeakMemory()
        self.sampler = UsageSampler(tracking_env)

    def start(self) -> None:
        """Start the threads that look at what the running jobs use. The first job must not fail
        because they cannot start."""
        self.sampler.start()
        self.files_meter.start()

    def add(self, entry: Running) -> None:
        self.running[entry.job.id] = entry
        self.sampler.add(entry)
        self.files_meter.add(entry.job.id, entry.claim.folder)

    def busy_slots(self) -> int:
        """How many jobs hold a slot. A job that has ended holds none, even if its end is still to
        be recorded."""
        ended = [entry for entry in self.running.values() if entry.ended]
        over = [e for e in ended if e.verdict or e.retry_at or (e.end_steps and not e.keeps_slot)]
        return len(self.running) - len(over)

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
                    entry.usage = seconds, self.peak_memory.of_child(used.ru_maxrss)

    def supervise_all(self, cancels_all: bool = False) -> None:
        """Judge the jobs that have ended. Every POLL_INTERVAL, also check those that are still
        running. `cancels_all`: end them all, because this worker is stopping."""
        now = time.monotonic()
        is_due = now >= self.next_poll
        if is_due:
            self.next_poll = now + intervals.POLL_INTERVAL
        self.terminator.begin_pass()
        for entry in list(self.running.values()):
            if now >= entry.retry_at and all(step.is_done for step in entry.end_steps):
                with self._isolated(entry):
                    self._check_job(entry, now, is_due, cancels_all)

    @contextmanager
    def _isolated(self, entry: Running) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk, for example
            self.errors.report(f"job={entry.job.id}", error)
            entry.retry_at = time.monotonic() + intervals.RETRY_DELAY
        else:
            self.errors.resolved(f"job={entry.job.id}")

    def _check_job(self, entry: Running, now: float, is_due: bool, cancels_all: bool) -> None:
        try:
            if self._lock_if_ended(entry):
                self._handle_exit(entry)
            elif is_due:
                self._supervise(entry, now, cancels_all)
        except FileNotFoundError:
            if entry.claim.is_there():
                raise
            self._abandon(entry)
        except JobDamaged as error:
            self._record_damaged(entry, error)

    def _lock_if_ended(self, entry: Running) -> bool:
        """Take the lock of a job whose shim is dead. Returns False if the shim is alive."""
        if entry.process is not None and not entry.ended:
            return False
        return entry.claim.acquire_lock()

    # --- While it runs ---

    def _supervise(self, entry: Running, now: float, cancels_all: bool) -> None:
        """End the job if this was requested or its time is up, kill it if it has not ended by then,
        and check its log and its files. Ending comes first, so that no other error can prevent
        it."""
        claim, job = entry.claim, entry.job
        if not claim.is_there():
            raise FileNotFoundError(job.id)
        if entry.kill_at:
            if now >= entry.kill_at:
                self.terminator.kill(entry)
        elif claim.cancel_requested() or claim.attempt.stopping:
            self.terminator.terminate(entry)
        elif job.timeout and now >= (claim.attempt.started_monotonic or now) + job.timeout:
            reason = f"ran longer than its time limit of {job.timeout:.15g} s"
            self._stop_job(entry, Status.TIMED_OUT, reason)
        elif cancels_all:
            self._stop_job(entry, Status.CANCELLED, "its worker was stopped")
        drop_params_if_started(claim.folder, job, claim.attempt.number)
        limit = self._log_limit(job)
        if not claim.sample_and_trim(limit) and not entry.kill_at:
            is_own = limit == job.log_max_bytes
            setting = "its log_max_bytes" if is_own else "TAILBOARD_LOG_MAX_BYTES"
            self._stop_job(entry, Status.FAILED, NO_HOLES_REASON.format(setting, limit))
        if self.files_meter.is_exceeded(job.id) and not entry.kill_at:
            reason = FILES_REASON.format(self.files_meter.limit)
            with suppress(OSError):  # the disk may be full by now
                claim.write_notice(f"tailboard: {reason}")
            self._stop_job(entry, Status.FAILED, reason)

    def _log_limit(self, job: Job) -> int:
        """How much of a job's log is kept on the disk."""
        return min(job.log_max_bytes or self.log_max_bytes, self.log_max_bytes)

    def _stop_job(self, entry: Running, status: Status, reason: str) -> None:
        """End a job that was not cancelled. Its journal keeps the reason in case this worker dies
        first."""
        entry.stop_outcome = status, reason
        try:
            entry.claim.write_stopping(status, reason)
        finally:  # a full disk must not protect the job that is filling it
            self.terminator.terminate(entry)

    def _abandon(self, entry: Running) -> None:
        """Kill a job whose folder was removed or moved away, and free its slot."""
        log.error("gone job=%s reason=%r", entry.job.id, "its folder was removed or moved")
        self.terminator.kill_abandoned(entry)
        self._remove(entry)

    # --- When it has ended ---

    def _handle_exit(self, entry: Running) -> None:
        """When no process of the job is left, judge how it ended and append that to its journal.
        `record_ends` does the rest, which waits for the disk."""
        entry.ended = True
        try:
            verdict = entry.claim.read_verdict()
        except JobDamaged as error:
            self._record_damaged(entry, error)
            return
        has_not_started = verdict.outcome.status is Status.QUEUED and not verdict.recorded
        if has_not_started and entry.process is not None:  # its gate was opened
            verdict = entry.claim.failed_start_verdict()
        if verdict.outcome.status in STOPPED and not self.terminator.sweep(entry, verdict):
            return
        if not self._is_masked(entry, keeps_slot=verdict.status is Status.QUEUED):
            return
        if verdict.status is not Status.QUEUED and not self._has_counted_files(entry):
            return
        self._complete_outcome(entry, verdict.outcome)
        if has_not_started and verdict.status is Status.FAILED:
            with suppress(OSError):  # the log itself may be the cause
                entry.claim.write_notice(f"tailboard: {verdict.outcome.reason}")
        if verdict.status is Status.QUEUED:
            self._record(entry, verdict)  # before the next claim, since it may be the oldest
        else:
            # On ext4 with a journal, the next claim's fsync brings this line to the disk, too.
            entry.claim.write_ended(verdict.outcome)
            entry.verdict = verdict

    def _is_masked(self, entry: Running, keeps_slot: bool = False) -> bool:
        """Is the job's log masked on the disk, if it has secrets? If not, a thread masks it, and
        the job is judged again after that. `keeps_slot`: the job is to be queued again."""
        masking, entry.masking = entry.masking, None
        if masking is not None and masking.error is not None:
            entry.mask_errors += 1
            if entry.mask_errors < MASK_TRIES:
                raise masking.error
            entry.claim.leave_unmasked(masking.error)
        if not entry.claim.needs_mask():
            return True
        entry.keeps_slot = keeps_slot
        entry.masking = LogMasking(entry.claim, self.wake)
        return False

    def _has_counted_files(self, entry: Running) -> bool:
        """Are the job's files counted? If not, a thread counts them, and the job is judged again
        after that. The end of a job without files does not wait for a thread."""
        counting, entry.counting = entry.counting, None
        if counting is not None:
            entry.files = counting.result or FilesCount(MAX_LISTED, 0)
        elif entry.files is None and entry.claim.remove_empty_files():
            entry.files = FilesCount(0, 0)
        if entry.files is None:
            entry.counting = FilesCounting(entry.claim, self.wake)
        return entry.files is not None

    def _complete_outcome(self, entry: Running, outcome: Outcome) -> None:
        """Add the job's resource usage and its files, and the log line that explains a failure;
        trim its log, in case it has grown since the last poll."""
        outcome.cpu_seconds, outcome.max_rss_bytes = entry.usage
        self.sampler.end(entry.job.id, outcome.cpu_seconds)
        if entry.files is not None:
            outcome.add_files(*entry.files)
        limit = self._log_limit(entry.job)
        if entry.claim.log_usage() > limit:
            with suppress(OSError):  # its end must be recorded in any case
                entry.claim.sample_and_trim(limit)
        if outcome.status in RETRIED and outcome.hint is None:
            attempt = entry.claim.attempt.number
            outcome.hint = find_hint(entry.claim.read_log_end(HINT_BYTES), attempt)
        self.limits.explain(entry, outcome)

    def _record_damaged(self, entry: Running, error: JobDamaged) -> None:
        """Record a job whose journal was destroyed, so that its end is unknown. It is cancelled if
        that was requested, and lost otherwise."""
        entry.ended = True
        lost = Verdict(Status.LOST, Outcome(Status.LOST), recorded=False)
        if not self.terminator.sweep(entry, lost) or not self._is_masked(entry):
            return
        # Checked last: a request may have arrived during the sweep.
        status = Status.CANCELLED if entry.claim.cancel_requested() else Status.LOST
        entry.claim.finish_damaged(status)
        log.error("%s job=%s reason=%r", status, entry.job.id, str(error))
        self._remove(entry)

    def record_ends(self) -> bool:
        """Record how jobs ended. The worker has given their slots to the next jobs by now, which
        run while this waits for the disk. If it fails, the job is judged again later. Returns False
        if no job has ended."""
        ended = [entry for entry in self.running.values() if entry.verdict is not None]
        for entry in ended:
            verdict, entry.verdict = entry.verdict, None
            if verdict is not None:
                with self._isolated(entry):
                    self._record(entry, verdict)
        return bool(ended)

    def _record(self, entry: Running, verdict: Verdict) -> None:
        """Finish or requeue a job whose shim is dead and whose lock this process holds."""
        if verdict.status is Status.QUEUED:
            self._requeue(entry.claim, verdict.outcome)
        else:
            self.finish(entry.claim, verdict.outcome)
        self._remove(entry)

    def _requeue(self, claim: Claim, outcome: Outcome) -> None:
        job = claim.requeue(outcome)
        if outcome.status in RETRIED:
            log.info("retried job=%s after=%s attempt=%d", job.id, outcome.status, job.attempt)
        else:
            log.info("requeued job=%s reason=%r", job.id, "it had not started")
        if outcome.failed_starts:
            log.warning("cannot start job=%s tries=%d", job.id, outcome.failed_starts)

    def finish(self, claim: Claim, outcome: Outcome) -> None:
        """Finish a job whose lock this process holds. It need not have been added."""
        job = claim.finish(outcome)
        log.info("%s job=%s exit_code=%s reason=%r", job.status, job.id, job.exit_code, job.reason)
        if job.reason != FENCED_REASON:
            self.notify(job)

    def _remove(self, entry: Running) -> None:
        self.sampler.remove(entry.job.id)
        entry.claim.release()
        self.limits.release(entry.job)
        del self.running[entry.job.id]
        self.files_meter.remove(entry.job.id)
