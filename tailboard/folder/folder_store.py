"""The storage in a folder: it submits, claims, cancels and deletes jobs.

It builds on job_folders.py, which finds, reads, lists and moves jobs. Its parts are claim.py (one
job and its locks), backlog.py (the queues), turns.py (limits, keys, order), lanes.py, limits.py,
orphans.py, cancel.py, pruning.py, worker_files.py, pauses.py, session_files.py, audit_files.py,
secret_params.py, job_secrets.py, notice_files.py, remover.py and saved_files.py.

The docstring of storage.py describes the files on disk and the rules for locks and crashes; read it
first."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

from tailboard.chains import next_job, next_key, not_started
from tailboard.disk_space import Space
from tailboard.errors import (
    JobDamaged,
    JobError,
    JobNotFound,
    KeyBusy,
    WrongState,
    cannot_delete,
    not_queued,
)
from tailboard.files import (
    append_line,
    fsync_folder,
    make_empty,
    make_once,
    open_private,
    open_regular,
    read_small,
    remove_tree,
    write_new,
)
from tailboard.folder.audit_files import AuditFiles
from tailboard.folder.backlog import Backlog
from tailboard.folder.cancel import cancel, cancel_queued
from tailboard.folder.claim import Claim, lock_queued, lock_times
from tailboard.folder.deletions import Deletions
from tailboard.folder.job_folders import JobFolders, fill_running
from tailboard.folder.key_files import KeyFiles
from tailboard.folder.lanes import Entry, lane_of
from tailboard.folder.limits import LimitFiles
from tailboard.folder.notice_files import NAMED_URLS, NoticeFiles
from tailboard.folder.orphans import Orphans
from tailboard.folder.pauses import PauseFiles
from tailboard.folder.pruning import Pruning
from tailboard.folder.remover import Remover
from tailboard.folder.saved_files import SavedFiles
from tailboard.folder.secret_params import seal_params
from tailboard.folder.session_files import SessionFiles
from tailboard.folder.turns import LOCK_PAUSE, Turns
from tailboard.folder.worker_files import WorkerFiles
from tailboard.job import RECORD, VERSION, IfBusy, Job
from tailboard.journal import Attempt, Outcome
from tailboard.judge import Verdict, delay_before_start
from tailboard.keep_rules import KeepLimits, Prunable
from tailboard.notices import Kind, Request
from tailboard.notifier import Notifier
from tailboard.order import RunningJob
from tailboard.prune_pass import dry_run
from tailboard.saved_command import SavedCommand
from tailboard.saved_rules import SavedRules
from tailboard.schedules import SCHEDULE, Schedule, ScheduleDecision, firing_key
from tailboard.sealed import Sealer
from tailboard.status import FINISHED, Status
from tailboard.values import FULL_ERRNOS, RESOURCE_ERRNOS, check_queue, new_id, parse_time, utc
from tailboard.workers import Machine, WorkerInfo

log = logging.getLogger("storage")

SECRET_BYTES = 32
MOVE_PATIENCE = 5.0  # seconds after which a job that is being started is not made urgent
UNSTARTABLE_TIME = 0.05  # seconds for jobs that can never start, in a claim that finds no other


class FolderStore(JobFolders):
    """Jobs in a folder, on a local file system or a shared one whose flock works: a WorkerStore."""

    decides_turns = True  # whether a job has to wait for its turn
    seals_params = True

    def __init__(self, root: str | os.PathLike[str], create: bool = True) -> None:
        super().__init__(root, create)
        self._durable_lanes: set[str] = set()  # folders that this process has made durable
        self._has_started_next = False  # since the last claim
        self.pauses = PauseFiles(self.root)
        self.limits = LimitFiles(self.root)
        self.sessions = SessionFiles(self.root)
        self.audit = AuditFiles(self.root)
        self.notices = NoticeFiles(self.root)
        self.saved = SavedFiles(self.root, self.errors, self.names_in)
        self._keys = KeyFiles(self.root, self.get)
        self._deletions = Deletions(self.root)
        self._remover = Remover(self.root, self.notices, self._deletions)
        self._workers = WorkerFiles(self.root, self.boot, self.pid_namespace, self.errors)
        self._orphans = Orphans(self, self._workers)
        self._turns = Turns(self, self.limits)
        self._backlog = Backlog(self, self.pauses, self._turns)
        self._pruning = Pruning(self, self._remover.delete, self.saved_rules())

    # Submitting

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        check_queue(job.queue)
        job = replace(job, id=new_id(), submitted_at=utc())
        if key is None:
            with self._pruning.awaited.keep_parents(job):
                self._check_parents(job)
                return self._enqueue_in_turn(job)
        with open(open_regular(self._keys.path(key), os.O_RDWR | os.O_CREAT), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = self._keys.find(key, job, request)
            if known is not None:
                return replace(known, is_repeat=True)
            with self._pruning.awaited.keep_parents(job):
                self._check_parents(job)
                if job.if_busy == IfBusy.SKIP:  # before the key names a job
                    self._turns.check_key(job)
                self._write_key(file, f"{job.id} {request or ''}".strip())
                return self._enqueue_in_turn(job)

    def _write_key(self, file: BinaryIO, text: str) -> None:
        """Write the ID before the job exists: after a crash here the key names no job, and a client
        may use it again."""
        file.truncate()  # the hash of an earlier request must not follow the ID
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
        fsync_folder(f"{self.root}/keys")  # otherwise a power cut could lose the key

    def _check_parents(self, job: Job) -> None:
        """ValueError if a job that this one waits for does not exist."""
        for parent in job.after:
            if self._turns.status_of(parent) is None:
                raise ValueError(f"after: there is no job {parent!r}")

    def _enqueue_in_turn(self, job: Job) -> Job:
        """Queue a job, or raise KeyBusy, as its key and `if_busy` ask."""
        if job.if_busy != IfBusy.SKIP:
            queued = self._enqueue(job)
            self._turns.replace_others(queued)
            return queued
        try:
            with self._turns.lock(is_patient=True):  # two such jobs must not both find the key free
                self._turns.check_key(job)
                return self._enqueue(job)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, f"{error.strerror}; try again") from None

    def _enqueue(self, job: Job) -> Job:
        """Put a job into its queue. It is durable when this returns."""
        lane = lane_of(job.queue, job.urgent)
        draft, home = f"{self.root}/tmp/{job.id}", f"{self.root}/queued/{lane}"
        record = {name: getattr(job, name) for name in RECORD}
        try:
            os.mkdir(draft, mode=0o700)
            make_empty(f"{draft}/journal")
            make_empty(f"{draft}/times")
            # On ext4, the first new name after an fsync waits for the journal. If the worker made
            # this folder, it would run a quarter fewer jobs per second.
            os.mkdir(f"{draft}/files", mode=0o700)
            seal_params(self.root, draft, job.secret_values)
            # Write job.json last: on ext4 its fsync also writes the names in the folder, which
            # leaves the next fsync little to do.
            write_new(f"{draft}/job.json", json.dumps(record).encode() + b"\n")
            fsync_folder(draft)
            self._make_lane(lane)
            if job.saved is not None:
                self.saved.note_run(job.saved, job.id)
            self.notices.request_wait(job)
            os.rename(draft, f"{home}/{job.id}")
        except OSError:
            with suppress(OSError):
                remove_tree(draft)
            raise
        fsync_folder(home)
        job.secret_values = {}
        return job

    def _make_lane(self, lane: str) -> None:
        """Make the folder of a queue, or of its urgent jobs, and fsync the path to it. One that
        exists may not be durable yet: the process that made it may have died before its fsync."""
        home = f"{self.root}/queued/{lane}"
        if lane in self._durable_lanes and os.path.isdir(home):
            return
        os.makedirs(home, mode=0o700, exist_ok=True)
        for folder in (f"{self.root}/queued", self.root):
            fsync_folder(folder)
        with suppress(PermissionError):  # the parent may belong to another user
            fsync_folder(os.path.dirname(self.root))
        self._durable_lanes.add(lane)

    # Claiming

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        return self._backlog.listen(queues)

    def close(self) -> None:
        """Stop listening."""
        self._backlog.close()

    def next_due(self) -> float:
        return self._backlog.next_due()

    def expects_more(self) -> bool:
        return self._backlog.expects_more()

    def claim(self, worker: str, host: str) -> Claim | None:
        self._backlog.refresh()
        self._end_unstartable(0.0)  # one of them, however busy this worker is
        while (entry := self._next_entry()) is not None:
            try:
                claim = self.claim_job(entry, worker, host)
            except BlockingIOError:  # another process records, cancels or claims it
                self._backlog.retry_later(entry)
            except FileNotFoundError:
                pass  # another worker got it first
            except JobDamaged as error:
                self._fail_damaged(f"{self.root}/queued/{entry.lane}/{entry.id}", error)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                    raise
                self.errors.report(f"queued/{entry.lane}/{entry.id}", error)
            else:
                if claim:
                    return claim
        return None

    def claim_job(self, entry: Entry, worker: str, host: str) -> Claim | None:
        """Claim this queued job (queued -> running). None if it must not run now; if it does not
        belong in the queue, it has been moved. BlockingIOError if it is locked."""
        folder = f"{self.root}/queued/{entry.lane}/{entry.id}"
        claim = lock_queued(self, folder)
        try:
            # Check under the lock: otherwise a requeue could move the job here after the check.
            if self.is_elsewhere(entry.id):
                self.move_aside(folder)
            elif self._begin_attempt(claim, entry, worker, host):
                return claim
        except BaseException:
            claim.release()
            raise
        claim.release()
        if self._backlog.is_held_back(entry) and claim.cancel_requested():
            # A cancel arrived while we held the lock. Nobody else checks this job as long as it is
            # held back, so claim it again now.
            return self.claim_job(entry, worker, host)
        return None

    def _next_entry(self) -> Entry | None:
        """The next job to try. If there is none, ends some of those that can never start, for which
        others may wait. One that was found in its queue although it has ended may have started the
        next command."""
        entry = self._backlog.pop()
        if entry is None:
            self._end_unstartable(UNSTARTABLE_TIME)
            entry = self._backlog.pop()
        if entry is None and self._has_started_next:
            self._has_started_next = False
            self._backlog.refresh()
            entry = self._backlog.pop()
        return entry

    def _end_unstartable(self, seconds: float) -> None:
        """Cancel one job that can never start, and others for so long. There may be thousands, each
        takes an fsync, and other jobs must not wait for them."""
        until = time.monotonic() + seconds
        while (found := self._backlog.pop_unstartable()) is not None:
            entry, reason = found
            folder = f"{self.root}/queued/{entry.lane}/{entry.id}"
            with suppress(FileNotFoundError, JobError):
                cancel_queued(self, folder, reason)
            self._backlog.wake_waiting_for(entry.id)
            if time.monotonic() >= until:
                return

    def _begin_attempt(self, claim: Claim, entry: Entry, worker: str, host: str) -> bool:
        """Begin the job's next attempt and return True, if it may start now. Returns False if it
        may not; a job that does not belong in the queue is moved."""
        if claim.job.version == 0 and os.path.exists(f"{claim.folder}/job.json"):
            claim.finish(Outcome(Status.FAILED, final=True, reason=claim.job.reason))
            return False
        if claim.job.version != VERSION:
            return False  # incomplete, or made by another version: leave it
        verdict = claim.read_verdict()
        if verdict.status is not Status.QUEUED:
            self._correct_place(claim, verdict)
            return False
        if not self._hold_until_due(claim, entry, verdict):
            return False
        if not self.decides_turns or not self._turns.can_delay(claim.job):
            self._start_attempt(claim, verdict, worker, host)
            return True
        self._backlog.watch_ends()  # before the check, so that no end is missed
        wait = self._turns.wait_for_parents(claim.job)
        if wait is None:
            with self._turns.lock():
                wait = self._turns.wait_for_room(claim.job)
                if wait is None:
                    self._start_attempt(claim, verdict, worker, host)
                    return True
        self._backlog.hold(entry, wait)
        return False

    def _start_attempt(self, claim: Claim, verdict: Verdict, worker: str, host: str) -> None:
        attempt = Attempt(
            number=verdict.next_attempt,
            worker=worker,
            host=host,
            boot=self.boot,
            started_at=utc(),
            started_monotonic=time.monotonic(),
            pid_namespace=self.pid_namespace,
        )
        append_line(claim.shim_input(), {"claimed": attempt.claimed_line()})
        claim.folder = self.move_folder(claim.folder, f"{self.root}/running")
        claim.attempt = attempt
        claim.job.attempts.append(attempt)
        claim.job.status, claim.job.retried_at = Status.RUNNING, None
        fill_running(claim.job, attempt)
        if attempt.number == 1:
            self.notices.drop_wait(claim.job)
            if claim.job.pings:
                self.request_notice(claim.job, Kind.START)

    def _hold_until_due(self, claim: Claim, entry: Entry, verdict: Verdict) -> bool:
        """Returns True if the job's delay has ended. If not, the backlog remembers the job, and no
        claim reads it before the delay ends."""
        delay = delay_before_start(claim.job, verdict, os.fstat(claim.shim_input()).st_mtime)
        if not delay.until:
            return True
        return self._backlog.hold_until_due(entry, verdict.next_attempt, delay)

    def _correct_place(self, claim: Claim, verdict: Verdict) -> None:
        """Move a job that has already ended out of the queue: a person or a power cut put it
        there."""
        if verdict.outcome.status is Status.LOST and claim.attempt.boot == self.boot:
            # Its processes may be alive: recovery in running/ ends them first.
            claim.folder = self.move_folder(claim.folder, f"{self.root}/running")
        elif verdict.recorded and verdict.status is not Status.SUCCEEDED:
            os.fsync(claim.shim_input())
            claim.move_to_ended(verdict.status)
        else:
            claim.finish(verdict.outcome)

    def _fail_damaged(self, folder: str, error: JobDamaged) -> None:
        """Fail a queued job whose journal is damaged: it can never run."""
        log.warning("failed job=%s reason=%r", os.path.basename(folder), str(error))
        with (
            suppress(BlockingIOError),
            Claim(self, folder, lock_times(folder), None) as claim,
        ):
            if self.is_elsewhere(os.path.basename(folder)):
                self.move_aside(folder)
            else:
                claim.finish_damaged(Status.FAILED)

    def tracking_env(self, job_id: str) -> dict[str, str]:
        # Includes the inode of the jobs folder: a restored backup has jobs with the same IDs.
        found = os.stat(self.root)
        return {"JOB_ID": job_id, "JOB_STORAGE": f"{found.st_dev}-{found.st_ino}"}

    def orphans(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        return self._orphans.take_over(host, ours)

    # Ending

    def start_next(self, job: Job) -> str | None:
        if job.then is None:
            return None
        try:
            self.submit(next_job(job, self.saved.load), next_key(job.id))
        except (JobError, ValueError) as error:
            return not_started(job, error)
        self._has_started_next = True
        return None

    def request_notice(self, job: Job, kind: Kind, text: str = "") -> None:
        if not self.notices.concerns(job):
            return
        try:
            self.notices.request(Request(job.id, kind, text=text))
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS and error.errno not in FULL_ERRNOS:
                raise
            # A job must start and end even if the disk is full or its folder for requests damaged.
            log.error("nobody is notified job=%s of=%s reason=%r", job.id, kind, error.strerror)

    def cancel(self, job_id: str, reason: str) -> Job:
        return cancel(self, job_id, reason)

    def set_urgent(self, job_id: str, urgent: bool) -> Job:
        until = time.monotonic() + MOVE_PATIENCE
        while True:
            status, folder = self.locate(job_id)
            if status is not Status.QUEUED:
                raise not_queued(job_id, status)
            with suppress(FileNotFoundError, JobNotFound, BlockingIOError):  # it is being moved
                return self._move_to_lane(folder, urgent)
            if time.monotonic() > until:
                raise OSError(errno.EBUSY, "this job is being started; try again")
            time.sleep(LOCK_PAUSE)

    def _move_to_lane(self, folder: str, urgent: bool) -> Job:
        """Move a queued job into the lane of its queue for urgent jobs, or out of it, durably."""
        with lock_queued(self, folder) as claim:
            lane = lane_of(claim.job.queue, urgent)
            self._make_lane(lane)
            home = os.path.dirname(folder)
            if os.path.basename(home) == lane:
                return self.get(claim.job.id)
            job = claim.move_to(Status.QUEUED, f"{self.root}/queued/{lane}")
            fsync_folder(f"{self.root}/queued/{lane}")
            fsync_folder(home)
            return job

    def list_running(self) -> Sequence[RunningJob]:
        return self._turns.running()

    def is_cancel_requested(self, job_id: str) -> bool:
        return os.path.lexists(f"{self.locate(job_id)[1]}/cancel")

    def delete(self, job_id: str) -> None:
        status, folder = self.locate(job_id)
        if status not in FINISHED:
            raise cannot_delete(job_id, status)
        try:
            for _ in self._remover.delete(status, folder):
                pass
        except FileNotFoundError:
            raise JobNotFound(f"there is no job {job_id!r}") from None
        except BlockingIOError:
            raise WrongState(f"job {job_id} is being recorded; try again") from None

    def finished_totals(self) -> dict[Status, int]:
        deleted = self._deletions.totals()
        here = self.counts()  # last, so that a job that is deleted meanwhile is not counted twice
        return {status: here[status] + deleted.get(status, 0) for status in FINISHED}

    def prune(self, days: int, max_bytes: int, audit_days: int = 0) -> Iterator[None]:
        return self._pruning.run(days, max_bytes, audit_days)

    def saved_rules(self) -> SavedRules:
        """Whose rules decide how long a job of a saved command is kept."""
        return SavedRules(self.saved)

    def prunable(self, days: int, max_bytes: int) -> Iterator[Collection[Prunable]]:
        facts = self._pruning.facts_of_reader(days, max_bytes)
        return dry_run(lambda: self._pruning.scan(measures_logs=True), facts, trims=True)

    def keep_limits(self) -> KeepLimits | None:
        return self._pruning.limits()

    def waiting_for(self, job_id: str) -> str | None:
        return self._pruning.awaited.waiting().get(job_id)

    # Saved commands

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        name = command.saved
        with self.saved.lock(wait=False):
            if not self.saved.is_as_seen(command, seen):
                return None
            if seen.firing is not None:
                fired = self._fired(command, seen.firing)
                if fired is not None:
                    self._request_notice_of_missed(fired, fired.submit_reason)
                self.saved.finish_interrupted(name, seen, fired is not None)
                return None
            if job is None or decision.key is None:
                self._request_notice_of_skipped(decision)
                self.saved.write_schedule(name, decision.schedule)
                return None
            # Write `firing` before submitting the job: a worker that finds it after a crash checks
            # whether a job has the key.
            self.saved.write_schedule(name, replace(seen, firing=decision.schedule.settled))
            try:
                submitted = self.submit(job, decision.key)
            except KeyBusy:
                self.saved.write_schedule(name, seen)
                raise
            self._request_notice_of_missed(submitted, decision.notice)
            self.saved.write_schedule(name, decision.schedule)
            return submitted

    def _fired(self, command: SavedCommand, moment: str) -> Job | None:
        """The job that was submitted for this scheduled time (RFC 3339); None if none was."""
        job = Job(command=command.command, saved=command.saved, submitted_by=SCHEDULE)
        return self._keys.find(firing_key(command, parse_time(moment)), job)

    def _request_notice_of_missed(self, job: Job, text: str | None) -> None:
        if text is not None:
            self.request_notice(job, Kind.MISSED, text)

    def _request_notice_of_skipped(self, decision: ScheduleDecision) -> None:
        active = decision.schedule.skipped_for
        if decision.notice is not None and active is not None:
            with suppress(JobNotFound):  # it was deleted meanwhile
                self._request_notice_of_missed(self.get(active), decision.notice)

    # Workers

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        if not self._workers.is_registered(info.name):
            self._make_folders()
        self._workers.heartbeat(info, running)

    def workers(self) -> Sequence[WorkerInfo]:
        return self._workers.list()

    def machines(self) -> Sequence[Machine]:
        return []

    # The storage itself

    def space(self) -> Space | None:
        return Space.of(self.root)

    def describe(self) -> dict[str, Any]:
        return {"kind": "folder"}

    def problem(self) -> str | None:
        return None

    def check(self) -> None:
        """Nothing to check: a folder does not lose jobs."""

    def check_writable(self) -> None:
        path = f"{self.root}/tmp/check-{new_id()}"  # several checks can run at once
        try:
            with open(path, "xb", opener=open_private) as file:
                file.write(b"x" * 4096)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def unreadable(self) -> Sequence[str]:
        self.counts()
        self.workers()
        for command in self.saved.list():
            self.saved.load_schedule(command.saved)
        known = self.errors.current
        for thing in [thing for thing in known if not os.path.lexists(f"{self.root}/{thing}")]:
            self.errors.resolved(thing)
        return [f"{thing}: {why}" for thing, why in sorted(known.items())]

    def secret(self) -> bytes:
        path = f"{self.root}/secret"
        if not os.path.lexists(path):
            make_once(path, os.urandom(SECRET_BYTES), f"{self.root}/tmp")
            fsync_folder(self.root)
        found = read_small(path)
        if len(found) != SECRET_BYTES:  # an empty secret, for example, could be guessed
            raise OSError(errno.EINVAL, f"{path} is damaged: remove it", path)
        return found

    def make_all_names(self) -> None:
        """Make in advance the files and folders that are otherwise made when first needed, so that
        no other user can make them. A full disk is not an error: other users cannot make files on
        it either, and a worker must start."""
        try:
            self.saved.make_folders()
            self.sessions.make_folder()
            self.audit.make_folder()
            self.notices.make_folders()
            for name in ("deleted", "retention", NAMED_URLS):
                os.close(open_regular(f"{self.root}/{name}", os.O_RDWR | os.O_CREAT))
            self.secret()
            Sealer(self.root).make_key()
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
