"""A claim: one job that this process has locked, to start it, supervise it and record its end."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import BinaryIO, Self

from tailboard.errors import JobDamaged, JobNotFound, WrongState
from tailboard.files import (
    DAMAGE_ERRNOS,
    SMALL_FILE,
    append_line,
    is_empty_file,
    lock_file,
    open_regular,
    read_small,
    write_new,
)
from tailboard.folder.files_folder import (
    FilesCount,
    count_files,
    make_files_folder,
    remove_if_empty,
)
from tailboard.folder.job_folders import JobFolders, fill_finished
from tailboard.folder.job_secrets import JobSecrets
from tailboard.folder.lanes import lane_in, queue_of
from tailboard.folder.secret_params import drop_params
from tailboard.job import Job
from tailboard.journal import Attempt, CancelRequest, Outcome, parse_journal
from tailboard.judge import Verdict, judge
from tailboard.log_limit import LogSupervisor
from tailboard.logs import disk_usage, log_size, log_start
from tailboard.masking import SecretsDamaged
from tailboard.notices import Kind
from tailboard.open_files import wait_until_closed
from tailboard.status import Status
from tailboard.values import utc

log = logging.getLogger("storage")

MAX_FAILED_STARTS = 3  # failed starts of its shim after which a job has failed
APPEND_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_cancel_request(folder: str) -> CancelRequest | None:
    """The request in the file `cancel`; None if it does not exist. Anything with that name counts
    as a request. OSError if the disk prevents the check."""
    try:
        os.lstat(f"{folder}/cancel")
    except FileNotFoundError:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return CancelRequest(str(json.loads(read_small(f"{folder}/cancel"))["reason"])[:1_000])
    return CancelRequest()


class Claim(AbstractContextManager["Claim"]):
    """A job that this process supervises, from its claim to the record of its end.

    It holds the flock on `times` all that time, so that no other process signals the job or records
    its end. It holds the journal's flock before the shim starts (`shim_input` passes it on) and
    after the shim has died (`acquire_lock`); `finish` and `requeue` need it."""

    def __init__(self, folders: JobFolders, folder: str, times: int, journal: int | None) -> None:
        self.folders, self.folder = folders, folder
        self._times, self._journal = times, journal
        self._supervisor: LogSupervisor | None = None
        self._stopping: Outcome | None = None  # in memory too, as a full disk may refuse the line
        self._written: Outcome | None = None  # how it ended, if the journal already says so
        self._has_secrets: bool | None = None  # None: not checked since its last start
        self._is_masked = False  # its log is masked on the disk
        self.job = Job(command="")
        self.attempt = Attempt()

    def read(self) -> Self:
        """Read the job and its last attempt; JobNotFound if it was deleted, OSError if the disk
        prevents it."""
        job = self.folders.load_folder(self.status, self.folder, must_read=True)
        if job is None:
            raise JobNotFound(f"job {os.path.basename(self.folder)} is gone")
        self.job = job
        self.attempt = job.attempts[-1] if job.attempts else Attempt()
        return self

    def read_record(self) -> Self:
        """Read the record of a queued job, as submitted; `read_verdict` reads what has happened
        since. JobNotFound if it was deleted, OSError if the disk prevents it."""
        job = self.folders.load_record(self.folder, must_read=True)
        if job is None:
            raise JobNotFound(f"job {os.path.basename(self.folder)} is gone")
        job.queue = queue_of(lane_in(self.folder))
        self.job = job
        return self

    @property
    def status(self) -> Status:
        """The status of the folder that it is in."""
        place = self.folder.removeprefix(f"{self.folders.root}/")
        return Status(place.partition("/")[0])

    # Starting it

    def shim_input(self) -> int:
        """The locked journal, for the shim's standard input; the shim appends to it. The lock is
        released once both the shim and this process have closed it: see `release_journal`."""
        assert self._journal is not None, "the lock was released"
        return self._journal

    def make_durable(self) -> None:
        """Fsync the claim. Without it, a power cut could make the job start twice: call this before
        any part of the job runs."""
        os.fsync(self.shim_input())

    def release_journal(self) -> None:
        """Close this process's copy of the locked journal. LOCK_UN would also release the shim's
        lock (flock(2))."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def open_log_for_append(self) -> BinaryIO:
        """The job's log, for its output and our notices; OSError if it is not a regular file."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        fd = open_regular(f"{self.folder}/output.log", flags)
        os.set_blocking(fd, True)  # the job inherits the descriptor and can see its flags
        return open(fd, "ab", buffering=0)

    def write_notice(self, line: str) -> None:
        """Append a line of our own to the job's log, ending an unfinished line first."""
        with self.open_log_for_append() as out:
            size = os.fstat(out.fileno()).st_size
            if size and os.pread(out.fileno(), 1, size - 1) != b"\n":
                out.write(b"\n")
            out.write(f"{line}\n".encode(errors="replace"))

    def seal_secrets(self, values: Iterable[bytes]) -> None:
        """Store the values that readers of the log mask, before this attempt opens the log.
        ValueError if the values of earlier attempts are damaged."""
        JobSecrets(self.folders.root, self.folder).add(values)

    def write_script(self, content: bytes) -> str:
        """Store the job's command as a file that can be run; returns its path. It replaces the file
        of an earlier attempt, of which a process may still be reading the old one."""
        path = f"{self.folder}/script"
        with suppress(FileNotFoundError):
            os.unlink(path)
        write_new(path, content, 0o700)
        return path

    def make_files_folder(self) -> str:
        """Make the folder for the files of this attempt; returns its path, the job's JOB_FILES.
        ValueError or OSError: see `files_folder.make_files_folder`."""
        return make_files_folder(self.folder, self._files_attempt())

    def _files_attempt(self) -> int | None:
        """The attempt that has files of its own; None if all attempts share them."""
        return self.attempt.number if self.job.keep_files else None

    # While it runs

    def cancel_requested(self) -> bool:
        """Does the file `cancel` exist?"""
        return os.path.lexists(f"{self.folder}/cancel")

    def is_there(self) -> bool:
        """Is the folder still in its place, neither moved nor removed by hand? OSError if the disk
        prevents the check."""
        try:
            return stat.S_ISDIR(os.stat(self.folder).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def write_stopping(self, status: Status, reason: str) -> None:
        """Record why this process is about to end the job, in case it dies before it records the
        end. OSError if that cannot be written; this process remembers it anyway."""
        self._stopping = Outcome(status, reason=reason)
        fd = open_regular(f"{self.folder}/journal", APPEND_FLAGS)
        try:
            append_line(fd, {"stopping": {"status": status, "reason": reason}})
        finally:
            os.close(fd)

    def sample_and_trim(self, limit: int) -> bool:
        """See LogSupervisor.sample_and_trim. Also returns True if the job has no log."""
        if self._supervisor is None:
            try:
                self._supervisor = LogSupervisor(f"{self.folder}/output.log", self._times)
            except FileNotFoundError:
                return True
        return self._supervisor.sample_and_trim(limit)

    # Its end

    def needs_mask(self) -> bool:
        """Must its log still be masked on the disk, because the job has secrets?"""
        if self._has_secrets is None:
            self._has_secrets = JobSecrets(self.folders.root, self.folder).exists()
        return self._has_secrets and not self._is_masked

    def mask_log(self, patience: float = 0.0) -> None:
        """Mask its log on the disk if the job has secrets. That takes as long as reading the log;
        any thread can call it. Before that, wait so many seconds for processes that the job has
        left behind and that can still write to the log, such as the `tee` of a script that begins
        with `exec > >(tee build.log)`. OSError if the disk prevents it. If the values cannot be
        read, the log stays as it is, and nobody can read it: the job must end anyway."""
        if not self.needs_mask():
            return
        is_closed = wait_until_closed(f"{self.folder}/output.log", patience)
        try:
            JobSecrets(self.folders.root, self.folder).mask_log()
        except SecretsDamaged as error:
            self.leave_unmasked(error)
        self._is_masked = True
        if not is_closed:  # readers mask what is still written
            self._has_secrets = False

    def leave_unmasked(self, error: Exception) -> None:
        """Give up masking its log on the disk. Its secrets stay, so that readers mask them; if they
        are damaged, nobody can read the log."""
        log.error("its log contains secrets job=%s reason=%r", self.job.id, str(error))
        self._has_secrets = False  # which are to be removed

    def _remove_secrets(self) -> None:
        """Remove its secrets, which readers need until its log is masked on the disk."""
        self.mask_log()
        if self._has_secrets:
            JobSecrets(self.folders.root, self.folder).remove()

    def remove_empty_files(self) -> bool:
        """Remove the folder for its files if it is empty. Returns True if the job has no files."""
        return remove_if_empty(self.folder, self._files_attempt())

    def count_files(self) -> FilesCount:
        """Count its files; any thread can call this. It takes a while if there are many."""
        return count_files(self.folder)

    def final_files(self) -> FilesCount:
        """Remove the folder for its files if it is empty; else count them."""
        return FilesCount(0, 0) if self.remove_empty_files() else self.count_files()

    def log_usage(self) -> int:
        """How many bytes its log takes up on disk."""
        return disk_usage(f"{self.folder}/output.log")

    def read_log_end(self, limit: int) -> bytes:
        """The last bytes of its log, `limit` at most, without the values of secrets; b"" if the log
        cannot be read. For an attempt that has ended."""
        with suppress(OSError), self.folders.open_log_in(self.folder) as log:
            log.holds_back = False
            return log.read(max(0, log.size - limit), limit)[1]
        return b""

    def acquire_lock(self, flags: int = 0) -> bool:
        """Lock the journal without waiting. Returns False if the shim is alive. FileNotFoundError
        if the folder is gone, JobDamaged if the journal is not the file that we made, another
        OSError if the disk prevents it. `flags` are added when the journal is opened."""
        if self._journal is None:
            try:
                self._journal = lock_file(f"{self.folder}/journal", APPEND_FLAGS | flags)
            except OSError as error:
                if error.errno not in DAMAGE_ERRNOS or not self.is_there():
                    raise
                raise JobDamaged(f"its journal cannot be read: {error.strerror}") from None
        return self._journal is not None

    def read_verdict(self) -> Verdict:
        """Where the job belongs, judged by what its folder contains now. Needs the lock."""
        journal = os.fstat(self.shim_input())
        if journal.st_size > SMALL_FILE:
            raise JobDamaged(f"its journal is larger than {SMALL_FILE:,} bytes")
        attempts = parse_journal(os.pread(self.shim_input(), journal.st_size, 0))
        if self.status is Status.RUNNING:
            self._ensure_claimed(attempts)
        self.attempt, self.job.attempts = attempts[-1], attempts[1:]
        if self.attempt.stopping is None:
            self.attempt.stopping = self._stopping  # decided before the job exited, but not written
        cancel = read_cancel_request(self.folder)
        return judge(self.job.retries, self.attempt, cancel, self.folders.boot, journal.st_mtime)

    def failed_start_verdict(self) -> Verdict:
        """Where a job belongs if its shim passed the gate but ended before it wrote its pid: in the
        queue at first, in failed/ after MAX_FAILED_STARTS tries, which the journal counts. A start
        that failed because the worker died is not the job's fault and does not count."""
        claims = [a.ended for a in self.job.attempts if a.number == self.attempt.number]
        count = 1 + max((ended.failed_starts for ended in claims if ended), default=0)
        if count < MAX_FAILED_STARTS:
            outcome = Outcome(Status.QUEUED, failed_starts=count, finished_at=utc())
            return Verdict(Status.QUEUED, outcome, False, self.attempt.number)
        reason = f"cannot start: /bin/sh ended {count} times before it started the command"
        outcome = Outcome(Status.FAILED, reason=reason, final=True)
        return Verdict(Status.FAILED, outcome, recorded=False)

    def _ensure_claimed(self, attempts: list[Attempt]) -> None:
        """JobDamaged if the journal has lost its claim: the job may have started and must not start
        again. A job moved into running/ by hand is different: it has neither claim nor log. A job
        whose first claim was lost in a power cut gets a new claim, so that this attempt is lost."""
        if attempts[-1].number != self.attempt.number:
            raise JobDamaged("its journal does not contain its claim")
        if attempts[-1].number:
            return
        log = f"{self.folder}/output.log"
        if os.fstat(self.shim_input()).st_size == 0 and not os.path.lexists(log):
            return  # by hand
        if attempts[-1] != Attempt() or not is_empty_file(log):
            raise JobDamaged("its journal does not contain its claim")
        claimed = Attempt(
            number=1,
            worker="unknown",
            host=os.uname().nodename,
            boot="",  # not this one: it may have started
            started_at=utc(os.fstat(self.shim_input()).st_mtime),
            started_monotonic=0.0,
        )
        append_line(self.shim_input(), {"claimed": claimed.claimed_line()})
        self.attempt = claimed
        attempts.append(claimed)

    def write_ended(self, outcome: Outcome) -> None:
        """Append to the journal how the job ended, without waiting for the disk. `finish` with the
        same outcome does the rest. If that fails, this is called again and again: the journal gets
        only one line."""
        if outcome is not self.attempt.ended:
            self._append_ended(outcome)
        self._written = outcome

    def finish(self, outcome: Outcome) -> Job:
        """Record how the job ended (queued, running -> finished). If a cancel request has arrived
        meanwhile, `judge` decides which of the two counts. The line is fsynced: once a client has
        seen the job ended, it stays ended."""
        self._expect("finished", Status.RUNNING, Status.QUEUED)
        self._remove_secrets()
        if outcome is not self._written:
            if outcome.files_count is None:
                outcome.add_files(*self.final_files())
            self._append_ended(outcome)
        if outcome.status is not Status.CANCELLED and self.cancel_requested():
            verdict = self.read_verdict()
            if verdict.status is Status.CANCELLED:
                self._append_ended(verdict.outcome)
                outcome = verdict.outcome
        os.fsync(self.shim_input())
        if outcome.status is Status.SUCCEEDED and self.job.then is not None:
            outcome = self._start_next(outcome)
        self._request_notice_of_end()
        if self.job.secret_params or self.job.version == 0:
            drop_params(self.folder)
        self.folder = self.folders.move_folder(self.folder, self._home(outcome.status))
        job, self.attempt.ended, self.attempt.result = self.job, outcome, outcome
        job.status, job.pid, job.log_size = outcome.status, None, log_size(self.folder)
        if job.attempts:
            job.attempts[-1] = self.attempt
        fill_finished(job, self.attempt)
        return job

    def _start_next(self, outcome: Outcome) -> Outcome:
        """Start the saved command that follows this job, whose success is durable and can no longer
        be cancelled. This is done before the folder moves: after a crash in between, the process
        that moves it starts the command first, under the same key. Returns the outcome, with a
        reason if the command cannot start."""
        problem = self.folders.start_next(self.job)
        if problem is None:
            return outcome
        outcome = replace(outcome, reason=problem)
        self._append_ended(outcome)
        os.fsync(self.shim_input())
        return outcome

    def requeue(self, outcome: Outcome) -> Job:
        """Put the job back into its queue (queued, running -> queued): for its next attempt or, if
        the outcome's status is QUEUED, because it never started. Then the line is fsynced: if a
        power cut lost it, the job would look started. A cancel request that has arrived meanwhile
        ends the job instead."""
        self._expect("requeued", Status.RUNNING, Status.QUEUED)
        self.mask_log()
        self.remove_empty_files()
        self._append_ended(outcome)
        if self.cancel_requested():
            verdict = self.read_verdict()
            if verdict.status is Status.CANCELLED:
                return self.finish(verdict.outcome)
        if outcome.status is Status.QUEUED:
            os.fsync(self.shim_input())
        return self.move_to(Status.QUEUED, self.folders.requeue_home(self.job))

    def finish_damaged(self, status: Status) -> Job:
        """Finish a job whose journal is damaged and cannot be written: only the folder moves."""
        return self.move_to_ended(status)

    def move_to_ended(self, status: Status) -> Job:
        """Move the folder to those of the jobs that ended so, and read the job again. The journal
        says how it ended, or cannot."""
        self._remove_secrets()
        self.remove_empty_files()
        self._request_notice_of_end()
        drop_params(self.folder)
        return self.move_to(status, self._home(status))

    def _request_notice_of_end(self) -> None:
        """This is done before anyone can see the end: after a crash in between, the process that
        moves the folder makes the same request again."""
        job_id = os.path.basename(self.folder)
        job = self.job if self.job.id else self.folders.load_record(self.folder)
        self.folders.request_notice(job or Job(command="", id=job_id), Kind.END)

    def _home(self, status: Status) -> str:
        """The folder for jobs of this job's day that ended so."""
        return f"{self.folders.root}/{status}/{os.path.basename(self.folder)[:8]}"

    def _append_ended(self, outcome: Outcome) -> None:
        if outcome.status is Status.QUEUED:
            append_line(self.shim_input(), {"ended": outcome.ended_line()})
            return
        outcome.log_start = log_start(self.folder)
        # A job never ends before its start, even if the clock was set back meanwhile.
        outcome.finished_at = max(outcome.finished_at or utc(), self.attempt.started_at or "")
        append_line(self.shim_input(), {"ended": outcome.ended_line()})

    def _expect(self, verb: str, *allowed: Status) -> None:
        if self.status not in allowed:
            raise WrongState(f"job {self.job.id} is {self.status}: it cannot be {verb}")

    def move_to(self, status: Status, home: str) -> Job:
        """Move the folder into `home` and read the job again."""
        self.folder = self.folders.move_folder(self.folder, home)
        job = self.folders.load_folder(status, self.folder)
        if job is not None:
            self.job = job
        return self.job

    def release(self) -> None:
        """Release both locks. If the job still runs, the next worker that looks for orphans adopts
        it."""
        self.release_journal()
        if self._supervisor is not None:
            self._supervisor.close()
            self._supervisor = None
        if self._times >= 0:
            os.close(self._times)
            self._times = -1

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_queued(folders: JobFolders, folder: str) -> Claim:
    """Lock a queued job: first `times`, then the journal. BlockingIOError if it is locked."""
    if os.path.islink(folder):
        raise FileNotFoundError(errno.ENOENT, "it is a symbolic link", folder)
    times = lock_times(folder)
    claim = Claim(folders, folder, times, None)
    try:
        if not claim.acquire_lock(os.O_CREAT):  # a folder made by hand has no journal
            raise BlockingIOError(errno.EAGAIN, "its journal is locked", folder)
        return claim.read_record()
    except BaseException:
        claim.release()
        raise


def lock_times(folder: str) -> int:
    """Lock `times`, which is the right to supervise the job; BlockingIOError if it is taken."""
    path = f"{folder}/times"
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):  # caused by the job
            os.rename(path, f"{path}.damaged-{os.urandom(4).hex()}")
    times = lock_file(path, os.O_RDWR | os.O_CREAT)
    if times is None:
        raise BlockingIOError(errno.EAGAIN, "another process supervises it", folder)
    return times
