"""The storage in a folder."""

from __future__ import annotations

import errno
import fcntl
import heapq
import json
import logging
import os
import re
import stat
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from tailboard.errors import (
    JobDamaged,
    JobError,
    JobNotFound,
    StoreError,
    WrongState,
    cannot_cancel,
    cannot_delete,
)
from tailboard.files import (
    SMALL_FILE,
    append_line,
    boot_id,
    fsync_folder,
    is_damage,
    lock_file,
    make_empty,
    mtime,
    open_private,
    open_regular,
    own_pid_namespace,
    paths_in,
    read_descriptor,
    read_small,
    remove_tree,
    write_new,
)
from tailboard.folder.backlog import DelayedJobs
from tailboard.folder.claim import (
    APPEND_FLAGS,
    Claim,
    fill_finished,
    fill_queued,
    fill_running,
    read_cancel_request,
)
from tailboard.folder.listing import IDs, Listing
from tailboard.folder.pauses import PauseFiles
from tailboard.folder.retention import Bound, Retention, Sweep, is_being_read
from tailboard.folder.saved_files import SavedFiles
from tailboard.job import RECORD, VERSION, Job, matches, parse_record, shorten
from tailboard.journal import Attempt, Outcome, parse_journal
from tailboard.judge import Verdict, delay_before_start, judge
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run
from tailboard.log_limit import trim_ended_log
from tailboard.logs import FileLog, Log, disk_usage, is_sparse, log_size, log_start
from tailboard.notifier import Notifier
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import SavedCommand
from tailboard.schedules import SCHEDULE, Schedule, ScheduleDecision, firing_key
from tailboard.status import FINISHED, Status
from tailboard.values import (
    FULL_ERRNOS,
    ID_RE,
    QUEUE_NAMES,
    QUEUE_RE,
    RESOURCE_ERRNOS,
    check_queue,
    ids_with,
    is_day,
    is_queue_name,
    new_id,
    parse_time,
    utc,
)
from tailboard.workers import Machine, WorkerInfo, encode_worker, parse_counts, parse_worker

log = logging.getLogger("storage")

WORKER_RECORD = 1 << 12  # bytes of a worker's file, always
SECRET_BYTES = 32
RESERVE = 8  # empty folders kept for when the disk has no inode left
RECORDING_PAUSE = 0.005  # seconds between two checks of a job whose end is being recorded
RECORDING_TIME = 5.0  # seconds after which a cancel gives up on such a job
LOOKUPS = 8  # until a job that is found in no state counts as missing
SCAN_INTERVAL = 5.0  # seconds between full scans of the queues
SCAN_LIMIT = 2_000  # records read for one page of a filtered list
MAX_LISTINGS = 4_000  # folders whose names are remembered
HASH_RE = re.compile("[0-9a-f]{64}")
LIKE_A_DATE_RE = re.compile(r"[0-9]{8}(?:-[0-9]{6}-[0-9a-z]{8})?")


class FolderStore:
    """Jobs in a folder, on a local file system or a shared one whose flock works: a WorkerStore."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._listings: dict[str, Listing] = {}  # by folder
        self._listing_lock = threading.Lock()
        self._backlog: list[tuple[str, str]] = []  # a heap of (ID, queue) to claim
        self._busy: list[tuple[str, str]] = []  # those of it that were locked when tried
        self._waiting = DelayedJobs()
        self._scanned_at = -SCAN_INTERVAL  # on the monotonic clock
        self._queues: frozenset[str] = frozenset()  # those that this worker serves; none: all
        self._paused: set[str] = set()  # from which nothing is claimed, as last seen
        self._notifier: Notifier | None = None
        self._watched: dict[int, str] = {}  # the notifier's numbers -> queue
        self.boot = boot_id()
        self.pid_namespace = own_pid_namespace()
        self._left_alone: set[str] = set()  # jobs of other PID namespaces, which were logged
        self._durable_queues: set[str] = set()  # queues that this process has made durable
        self._name: str | None = None  # as heartbeat says
        self._registration: int | None = None  # the locked descriptor of workers/NAME.json
        self._errors = RepeatedErrors(log)  # by path in this folder
        self.pauses = PauseFiles(self.root)
        self.saved = SavedFiles(self.root, self._errors, self._listing)
        self._make_folders()

    def _make_folders(self) -> None:
        for name in (
            "",
            *Status,
            "queued/default",
            "workers",
            "keys",
            "paused",
            "set-aside",
            "tmp",
        ):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
        self._fill_reserve()

    def _fill_reserve(self) -> None:
        """Make the folders of the reserve that are missing. On a full disk that must wait: a worker
        has to start there, too, to end and to record what runs."""
        try:
            for name in ("", *range(RESERVE)):
                os.makedirs(f"{self.root}/reserve/{name}", mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    # Looking

    def _find(self, job_id: str) -> tuple[Status, str]:
        # A requeue moves a job backwards, past this search: search again before giving up.
        for _ in range(LOOKUPS if ID_RE.fullmatch(job_id) else 0):
            for status in Status:
                for folder in self._folders(status, job_id[:8]):
                    path = f"{folder}/{job_id}"
                    if os.path.isdir(path) and not os.path.islink(path):
                        return status, path
        raise JobNotFound(f"there is no job {job_id!r}")

    def _folders(self, status: Status, day: str | None = None) -> list[str]:
        """The folders that hold the jobs of this status (and day), newest first."""
        home = f"{self.root}/{status}"
        if status is Status.RUNNING:
            return [home]
        if day and status is not Status.QUEUED:
            return [f"{home}/{day}"]
        is_wanted = is_queue_name if status is Status.QUEUED else is_day
        return [f"{home}/{name}" for name in reversed(self._listing(home, is_wanted))]

    def _listing(
        self, folder: str, is_wanted: Callable[[str], object] = ID_RE.fullmatch
    ) -> Sequence[str]:
        """The wanted names in a folder, sorted, cached until the folder changes. A folder that
        cannot be read counts as empty and is listed by `unreadable`."""
        thing = folder.removeprefix(f"{self.root}/")
        asked_at = time.monotonic()
        try:
            stamp = os.stat(folder).st_mtime_ns
            known = self._listings.get(folder)
            if known and known.stamp == stamp:
                return known.names
            # One thread at a time, whose listing serves all that wait: else each of many requests
            # would read all names while jobs end, and hold them in memory.
            with self._listing_lock:
                known = self._listings.get(folder)
                if known is None or known.read_at < asked_at:
                    known = self._read_listing(folder, thing, is_wanted)
        except FileNotFoundError:
            self._errors.resolved(thing)
            return []
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS:
                raise
            self._errors.report(thing, JobDamaged(error.strerror))
            return []
        self._errors.resolved(thing)
        return known.names

    def _read_listing(self, folder: str, thing: str, is_wanted: Callable[[str], object]) -> Listing:
        read_at, stamp = time.monotonic(), os.stat(folder).st_mtime_ns
        names: Sequence[str]
        others: list[str] = []
        names = []
        for name in os.listdir(folder):
            (names if is_wanted(name) else others).append(name)
        names.sort()
        for name in others:
            if LIKE_A_DATE_RE.fullmatch(name):
                self._errors.report(f"{thing}/{name}", JobDamaged("there is no such date"))
        if is_wanted == ID_RE.fullmatch:
            names = IDs(names)
        # A very recent time stamp is not trusted: another change in the same clock tick would not
        # show.
        if time.time_ns() - stamp <= 100_000_000:
            stamp = -1
        listing = self._listings[folder] = Listing(stamp, read_at, names)
        if len(self._listings) > MAX_LISTINGS:  # such as days that were deleted long ago
            self._listings.pop(next(iter(self._listings)), None)
        return listing

    def unreadable(self) -> Sequence[str]:
        self.counts()
        self.workers()
        for command in self.saved.list():
            self.saved.load_schedule(command.saved)
        known = self._errors.current
        for thing in [thing for thing in known if not os.path.lexists(f"{self.root}/{thing}")]:
            self._errors.resolved(thing)
        return [f"{thing}: {why}" for thing, why in sorted(known.items())]

    def load_folder(self, status: Status, folder: str, must_read: bool = False) -> Job | None:
        """The job in this folder; None if it has just moved, or is not a job. `must_read`: see
        load_record."""
        if os.path.islink(folder):
            return None
        job = self.load_record(folder, must_read)
        if job is None:
            return None
        job.status = status
        job.log_size = log_size(folder)
        attempts = self._read_attempts(folder, must_read)
        job.attempts = attempts[1:]
        if status is Status.QUEUED:
            job.queue = os.path.basename(os.path.dirname(folder))
            changed_at = mtime(f"{folder}/journal") if job.retry_delay else None
            fill_queued(job, attempts[-1], self.boot, changed_at or 0.0)
        elif status is Status.RUNNING:
            fill_running(job, attempts[-1])
            job.log_start = log_start(folder)
        else:
            if is_sparse(folder):  # retention may have trimmed it since
                job.log_start = log_start(folder)
            fill_finished(job, attempts[-1])
        return job

    def load_record(self, folder: str, must_read: bool = False) -> Job | None:
        """The job as it was submitted, without what happened since; None if it has just moved.
        `must_read`: OSError if the disk prevents it, for those who act on what they read."""
        job_id = os.path.basename(folder)
        try:
            job = parse_record(read_small(f"{folder}/job.json"), job_id)
        except (OSError, ValueError, RecursionError) as error:
            if not os.path.isdir(folder):
                return None
            if must_read and isinstance(error, OSError) and not is_damage(error):
                raise
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"its job.json cannot be read: {why}"
            self._errors.report(os.path.relpath(folder, self.root), JobDamaged(reason))
            job = Job(id=job_id, command="", reason=reason, version=0)
        return job

    @staticmethod
    def _read_attempts(folder: str, must_read: bool = False) -> list[Attempt]:
        try:
            return parse_journal(read_small(f"{folder}/journal"))
        except OSError as error:
            if must_read and not is_damage(error):
                raise
            return [Attempt()]  # none, or damaged: nothing is known

    def get(self, job_id: str) -> Job:
        while True:
            if job := self.load_folder(*self._find(job_id)):
                return job

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        for job_id in ids:
            with suppress(JobNotFound):
                yield self.get(job_id)

    def _iter_folder(
        self, folder: str, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        names = self._listing(folder)
        count = bisect_left(names, before) if before else len(names)
        for place in reversed(range(count)):
            name = names[place]
            yield name, status, f"{folder}/{name}"

    def _iter_newest_first(
        self, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        """(ID, status, folder), newest first; days that the caller does not reach are not read."""
        parts = (self._iter_folder(folder, status, before) for folder in self._folders(status))
        if status is Status.QUEUED:  # jobs of several queues interleave, days do not
            return heapq.merge(*parts, reverse=True)
        return chain.from_iterable(parts)

    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
        since: str | None = None,
        short: bool = False,
    ) -> tuple[Sequence[Job], str | None]:
        jobs: list[Job] = []
        last = ""
        needle = text.casefold()
        merged = heapq.merge(
            *(self._iter_newest_first(s, before) for s in ([status] if status else Status)),
            reverse=True,
        )
        for read, (job_id, found, folder) in enumerate(merged):
            if since is not None and job_id < since:  # so are all that follow
                return jobs, None
            if len(jobs) == limit or read == SCAN_LIMIT:
                return jobs, last
            if job_id == last:  # it moved while we listed
                continue
            last = job_id
            job = self.load_folder(found, folder)
            if job is None:
                with suppress(JobNotFound):
                    job = self.get(job_id)
            if job is not None and matches(job, status, queue, needle):
                jobs.append(shorten(job) if short else job)
        return jobs, None

    def find(self, part: str) -> Sequence[str]:
        folders = (folder for status in Status for folder in self._folders(status))
        return ids_with(part, (name for folder in folders for name in self._listing(folder)))

    def unfinished_ids(self) -> set[str]:
        states = (Status.QUEUED, Status.RUNNING)  # the order in which jobs move
        folders = (folder for status in states for folder in self._folders(status))
        return {name for folder in folders for name in self._listing(folder)}

    def iter_finished_ids(self) -> Iterator[str]:
        streams = (self._iter_newest_first(status, None) for status in FINISHED)
        return (job_id for job_id, _, _ in heapq.merge(*streams, reverse=True))

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        listings = {os.path.basename(f): self._listing(f) for f in self._folders(Status.QUEUED)}
        return {queue: names for queue, names in sorted(listings.items()) if names}

    def counts(self) -> dict[Status, int]:
        return {s: sum(len(self._listing(f)) for f in self._folders(s)) for s in Status}

    def open_log(self, job_id: str) -> Log:
        while True:
            folder = self._find(job_id)[1]
            try:
                return FileLog(f"{folder}/output.log")
            except FileNotFoundError:
                if os.path.isdir(folder):  # and has not just moved
                    raise

    def watch(self, job_id: str) -> Notifier:
        while True:
            with suppress(FileNotFoundError):
                return Notifier(self._find(job_id)[1])

    def status(self, job_id: str) -> Status:
        return self._find(job_id)[0]

    # Transitions

    def submit(self, job: Job, key: str | None = None, request: str | None = None) -> Job:
        check_queue(job.queue)
        job = replace(job, id=new_id(), submitted_at=utc())
        if key is None:
            return self._enqueue(job)
        with open(open_regular(self._key_path(key), os.O_RDWR | os.O_CREAT), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = self._job_of_key(key, job, request)
            if known is not None:
                return known
            # The ID first: after a crash here the key names no job and may be used again.
            file.truncate()  # an ID must not be followed by the hash of another one's request
            file.write(f"{job.id} {request or ''}".strip().encode())
            file.flush()
            os.fsync(file.fileno())
            fsync_folder(f"{self.root}/keys")  # else a power cut may forget the key
            return self._enqueue(job)

    def _key_path(self, key: str) -> str:
        return f"{self.root}/keys/{hash_key(key)}"

    def _job_of_key(self, key: str, job: Job, request: str | None = None) -> Job | None:
        """The job that was submitted under a key, or under its earlier form for the same purpose
        as `job`; None if there is no such job, or it was deleted. KeyReused as in `submit`."""
        with suppress(FileNotFoundError, JobNotFound):
            known, sent = self._read_key(key)
            check_request(known, sent, request)
            return known
        earlier = earlier_key(key)
        if earlier is not None:
            with suppress(FileNotFoundError, JobNotFound):
                known, sent = self._read_key(earlier)
                return known if sent is None and is_same_run(known, job) else None
        return None

    def _read_key(self, key: str) -> tuple[Job, str | None]:
        """The job of a key and the hash of the request that submitted it; None instead of the hash
        if that is not known: earlier versions wrote the ID alone."""
        job_id, _, request = read_small(self._key_path(key)).decode(errors="replace").partition(" ")
        return self.get(job_id), request if HASH_RE.fullmatch(request) else None

    def _enqueue(self, job: Job) -> Job:
        draft, home = f"{self.root}/tmp/{job.id}", f"{self.root}/queued/{job.queue}"
        record = {name: getattr(job, name) for name in RECORD}
        try:
            os.mkdir(draft, mode=0o700)
            make_empty(f"{draft}/journal")
            make_empty(f"{draft}/times")
            # Last: on ext4 its fsync writes the names in the folder, too, and the next finds little
            # left to do.
            write_new(f"{draft}/job.json", json.dumps(record).encode() + b"\n")
            fsync_folder(draft)
            self._make_queue(job.queue)
            if job.saved is not None:
                self.saved.note_run(job.saved, job.id)
            os.rename(draft, f"{home}/{job.id}")
        except OSError:
            with suppress(OSError):
                remove_tree(draft)
            raise
        fsync_folder(home)
        return job

    def _make_queue(self, queue: str) -> None:
        """Make a queue's folder and fsync the path to it. One that exists may not be durable yet:
        the process that made it may have died before its fsync."""
        home = f"{self.root}/queued/{queue}"
        if queue in self._durable_queues and os.path.isdir(home):
            return
        os.makedirs(home, mode=0o700, exist_ok=True)
        for folder in (f"{self.root}/queued", self.root):
            fsync_folder(folder)
        with suppress(PermissionError):  # the parent may belong to another user
            fsync_folder(os.path.dirname(self.root))
        self._durable_queues.add(queue)

    def claim(self, worker: str, host: str) -> Claim | None:
        self._refresh_backlog()
        while self._backlog:
            job_id, queue = heapq.heappop(self._backlog)
            if queue in self._paused:  # its scan, once it is resumed, finds the job again
                continue
            try:
                claim = self.claim_job(job_id, queue, worker, host)
            except BlockingIOError:  # by its recorder, a canceller or another claimer: try it again
                self._busy.append((job_id, queue))
            except FileNotFoundError:
                pass  # another worker was faster
            except JobDamaged as error:
                self._fail_damaged(f"{self.root}/queued/{queue}/{job_id}", error)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                    raise
                self._errors.report(f"queued/{queue}/{job_id}", error)
            else:
                if claim:
                    return claim
        return None

    def claim_job(self, job_id: str, queue: str, worker: str, host: str) -> Claim | None:
        """Claim this queued job (queued -> running). None if it is not to run; it is then moved to
        where it belongs. BlockingIOError if it is locked."""
        folder = f"{self.root}/queued/{queue}/{job_id}"
        claim = self._lock_queued(folder)
        try:
            # Under the lock: before it, a requeue could bring the job here after this look.
            if self._is_elsewhere(job_id):
                self._set_aside(folder)
            elif self._begin_attempt(claim, worker, host):
                return claim
        except BaseException:
            claim.release()
            raise
        claim.release()
        if (job_id, queue) in self._waiting.jobs and claim.cancel_requested():
            # A cancel arrived while we held the lock. Nobody else checks this job before its delay
            # ends, so claim it again now.
            return self.claim_job(job_id, queue, worker, host)
        return None

    def _lock_queued(self, folder: str) -> Claim:
        """Lock a queued job: first `times`, then the journal. BlockingIOError if it is locked."""
        if os.path.islink(folder):
            raise FileNotFoundError(errno.ENOENT, "it is a link", folder)
        times = self._lock_times(folder)
        claim = Claim(self, folder, times, None)
        try:
            if not claim.acquire_lock(os.O_CREAT):  # a folder made by hand has no journal
                raise BlockingIOError(errno.EAGAIN, "its journal is locked", folder)
            return claim.read_record()
        except BaseException:
            claim.release()
            raise

    @staticmethod
    def _lock_times(folder: str) -> int:
        """Lock `times`, which is the right to supervise the job; BlockingIOError if it is taken."""
        path = f"{folder}/times"
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(path).st_mode):  # a job's doing
                os.rename(path, f"{path}.damaged-{os.urandom(4).hex()}")
        times = lock_file(path, os.O_RDWR | os.O_CREAT)
        if times is None:
            raise BlockingIOError(errno.EAGAIN, "somebody supervises it", folder)
        return times

    def _begin_attempt(self, claim: Claim, worker: str, host: str) -> bool:
        """Claim the job if it belongs in the queue; else move it to where it belongs."""
        if claim.job.version == 0 and os.path.exists(f"{claim.folder}/job.json"):
            claim.finish(Outcome(Status.FAILED, final=True, reason=claim.job.reason))
            return False
        if claim.job.version != VERSION:
            return False  # half copied, or made by another version: left alone
        verdict = claim.read_verdict()
        if verdict.status is not Status.QUEUED:
            self._correct_place(claim, verdict)
            return False
        if not self._wait_is_over(claim, verdict):
            return False
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
        return True

    def _wait_is_over(self, claim: Claim, verdict: Verdict) -> bool:
        """Returns True if its delay has ended; else remembers it: no claim reads it before."""
        delay = delay_before_start(claim.job, verdict, os.fstat(claim.shim_input()).st_mtime)
        if not delay.until:
            return True
        key = claim.job.id, os.path.basename(os.path.dirname(claim.folder))
        return self._waiting.hold_until_due(key, verdict.next_attempt, delay)

    def _correct_place(self, claim: Claim, verdict: Verdict) -> None:
        """Move a job that ended already out of the queue; a person or a power cut put it there."""
        if verdict.outcome.status is Status.LOST and claim.attempt.boot == self.boot:
            # Its processes may be alive: recovery in running/ ends them first.
            claim.folder = self.move_folder(claim.folder, f"{self.root}/running")
        elif verdict.recorded:
            os.fsync(claim.shim_input())
            claim.move_to(verdict.status, f"{self.root}/{verdict.status}/{claim.day}")
        else:
            claim.finish(verdict.outcome)

    def _fail_damaged(self, folder: str, error: JobDamaged) -> None:
        """Fail a queued job whose journal is damaged: it can never run."""
        log.warning("failed job=%s reason=%r", os.path.basename(folder), str(error))
        with (
            suppress(BlockingIOError),
            Claim(self, folder, self._lock_times(folder), None) as claim,
        ):
            if self._is_elsewhere(os.path.basename(folder)):
                self._set_aside(folder)
            else:
                claim.finish_damaged(Status.FAILED)

    def _is_elsewhere(self, job_id: str) -> bool:
        """Is there a running or finished folder with this ID?"""
        return os.access(f"{self.root}/running/{job_id}", os.F_OK) or self._has_ended(job_id)

    def _has_ended(self, job_id: str) -> bool:
        places = (f"{self.root}/{status}/{job_id[:8]}/{job_id}" for status in FINISHED)
        return any(os.access(place, os.F_OK) for place in places)

    def _set_aside(self, folder: str, reason: str = "its ID is taken") -> str:
        """Move a folder to set-aside/, say a second one with the same ID. It is kept for inspection
        and never runs."""
        name = os.path.basename(folder)
        target = f"{self.root}/set-aside/{name}.{os.urandom(4).hex()}"
        with suppress(FileNotFoundError):
            os.rename(folder, target)
            log.warning("set aside job=%s reason=%r to=%s", name, reason, target)
        return target

    def orphans(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        alive = {info.name for info in self.workers()} - {self._name}
        running = self._listing(f"{self.root}/running")
        self._left_alone.intersection_update(running)
        for job_id in running:
            folder = f"{self.root}/running/{job_id}"
            if job_id in ours or os.path.islink(folder):
                continue
            try:
                if claim := self._lock_orphan(folder, host, alive):
                    yield claim
            except (BlockingIOError, FileNotFoundError, JobNotFound):
                pass  # another worker was faster
            except Exception as error:
                if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                    raise
                self._errors.report(f"running/{job_id}", error)

    def _lock_orphan(self, folder: str, host: str, alive: Container[str]) -> Claim | None:
        """None if it belongs to another host, is a copy of a job that has ended, or runs in another
        PID namespace."""
        claimed = self._read_attempts(folder, must_read=True)[-1]
        if not self.is_own_host(claimed.host, host):
            return None
        if claimed.worker in alive and not self._is_namesake(claimed):
            return None
        times = self._lock_times(folder)
        claim = Claim(self, folder, times, None)
        try:
            if self._has_ended(os.path.basename(folder)) and claim.acquire_lock():
                self._set_aside(folder)
                claim.release()
                return None
            if self._is_foreign(claimed) and not claim.acquire_lock():
                self._leave_alone(os.path.basename(folder))
                claim.release()
                return None
            return claim.read()
        except BaseException:
            claim.release()
            raise

    def _is_namesake(self, claimed: Attempt) -> bool:
        """Is the living worker of this name another one, in another PID namespace?"""
        found = None
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            record = json.loads(read_small(f"{self.root}/workers/{claimed.worker}.json"))
            found = record.get("pid_namespace")
        return bool(found and claimed.pid_namespace and found != claimed.pid_namespace)

    def _is_foreign(self, claimed: Attempt) -> bool:
        """Does the pid of its shim belong to another PID namespace, such as another container's?
        Here the same pid may be an unrelated process."""
        own = self.pid_namespace
        return bool(own and claimed.pid_namespace and claimed.pid_namespace != own)

    def _leave_alone(self, job_id: str) -> None:
        """Log, once for each job, that only a worker of its own namespace can stop it."""
        if job_id not in self._left_alone:
            self._left_alone.add(job_id)
            reason = "it runs in another PID namespace, whose workers supervise it"
            log.warning("left alone job=%s reason=%r", job_id, reason)

    def is_own_host(self, claimed: str | None, host: str) -> bool:
        """Was an attempt claimed on this host? If its claim is damaged (None), any host may judge
        it."""
        return claimed in (None, host)

    def requeue_home(self, queue: str) -> str:
        """The folder for a job that is to run again."""
        return f"{self.root}/queued/{queue}"

    def move_folder(self, folder: str, home: str) -> str:
        """Move a job's folder into `home`; returns its new path. If that ID is there already, this
        folder is set aside."""
        target = f"{home}/{os.path.basename(folder)}"
        try:
            try:
                os.rename(folder, target)
            except FileNotFoundError:  # the first job of its day, or the home was removed
                self._make_home(home)
                os.rename(folder, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return self._set_aside(folder)
        return target

    def _make_home(self, home: str) -> None:
        try:
            os.makedirs(home, mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            self._use_reserve(home)

    def _use_reserve(self, path: str) -> None:
        """Move a reserve folder to `path`, which needs no new inode; OSError if none is left."""
        for spare in paths_in(f"{self.root}/reserve"):
            with suppress(FileNotFoundError):
                os.utime(spare)
                os.rename(spare, path)
                return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def cancel(self, job_id: str, reason: str) -> Job:
        is_requested, deadline = False, time.monotonic() + RECORDING_TIME
        while True:
            found, folder = self._find(job_id)
            if found is Status.CANCELLED and is_requested:  # its recorder has seen the request
                return self.get(job_id)
            if found in FINISHED:
                if is_requested:  # too late: the recorder had already looked for one
                    self._withdraw_request(folder)
                raise cannot_cancel(job_id, found)
            with suppress(FileNotFoundError, JobNotFound):  # it has moved: look again
                if found is Status.QUEUED and (job := self._cancel_queued(folder, reason)):
                    return job
                if self._has_just_ended(folder):
                    raise WrongState(f"job {job_id} has just ended and can no longer be cancelled")
                self._request_cancel(folder, reason)
                is_requested = True
                fsync_folder(folder)
                # Whoever had its lock may have released it, since it is not due yet: try again.
                if found is Status.QUEUED and (job := self._cancel_queued(folder, reason)):
                    return job
                if self._will_be_seen(folder):
                    return self.get(job_id)
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "the end of this job is being recorded")
                time.sleep(RECORDING_PAUSE)

    def _has_just_ended(self, folder: str) -> bool:
        """Does the journal contain the end of the last attempt, which neither an earlier request to
        cancel it nor another attempt follows?"""
        attempt = self._read_attempts(folder, must_read=True)[-1]
        if attempt.exit_code is None and attempt.ended is None:
            return False
        job = self.load_record(folder, must_read=True)
        if job is None:
            raise FileNotFoundError(errno.ENOENT, "it has moved", folder)
        cancel, changed_at = read_cancel_request(folder), mtime(f"{folder}/journal") or 0.0
        verdict = judge(job.retries, attempt, cancel, self.boot, changed_at)
        return verdict.status in FINISHED and verdict.status is not Status.CANCELLED

    def _will_be_seen(self, folder: str) -> bool:
        """Is whoever records or claims this job next certain to see the request in its folder?

        A recorder looks for one after it has written `ended`, so a journal without that line is
        enough. So is a job that nobody supervises: whoever does next judges it again. Otherwise its
        recorder moves the folder within milliseconds. FileNotFoundError if it has moved."""
        attempt = self._read_attempts(folder, must_read=True)[-1]
        if attempt.ended is None and os.path.isdir(folder):
            return True
        try:
            os.close(self._lock_times(folder))
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def _withdraw_request(folder: str) -> None:
        """Remove a request that came too late, so that it cannot change the end that was seen."""
        with suppress(OSError):
            os.unlink(f"{folder}/cancel")
        with suppress(OSError):  # a folder of the reserve
            os.rmdir(f"{folder}/cancel")

    def _cancel_queued(self, folder: str, reason: str) -> Job | None:
        """None if the job is locked, because somebody is about to start or move it, or if the disk
        is too full for a line. The file `cancel` stays in the folder for the next one to see."""
        with suppress(BlockingIOError), self._lock_queued(folder) as claim:
            verdict = claim.read_verdict()
            is_to_cancel = verdict.status is Status.CANCELLED and not verdict.recorded
            has_ended = verdict.recorded or claim.attempt.exit_code is not None
            if verdict.status in FINISHED and has_ended and not is_to_cancel:
                raise cannot_cancel(claim.job.id, verdict.status)
            line = {"status": Status.CANCELLED, "reason": reason, "finished_at": utc()}
            try:
                append_line(claim.shim_input(), {"ended": line})
                os.fsync(claim.shim_input())
            except OSError as error:
                if error.errno not in FULL_ERRNOS:
                    raise
                return None
            home = f"{self.root}/{Status.CANCELLED}/{claim.day}"
            return claim.move_to(Status.CANCELLED, home)
        return None

    def _request_cancel(self, folder: str, reason: str) -> None:
        """Make the file `cancel`, unless there is a request already. It appears with its content:
        whoever found it empty would record the cancel without its reason."""
        path, draft = f"{folder}/cancel", f"{folder}/cancel-{os.urandom(4).hex()}"
        if os.path.lexists(path):
            return
        try:
            with open(draft, "xb", opener=open_private) as file:
                file.write(json.dumps({"reason": reason}).encode() + b"\n")
                file.flush()
                os.rename(draft, path)
                os.fsync(file.fileno())
        except IsADirectoryError:  # another request has taken a reserve folder
            os.unlink(draft)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            with suppress(FileNotFoundError):
                os.unlink(draft)
            self._request_on_full_disk(path)

    def _request_on_full_disk(self, path: str) -> None:
        """An empty file is enough: it needs no block. If no inode is left, a reserve folder takes
        its name."""
        try:
            make_empty(path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            self._use_reserve(path)

    def delete(self, job_id: str) -> None:
        status, folder = self._find(job_id)
        if status not in FINISHED:
            raise cannot_delete(job_id, status)
        try:
            self._delete(status, folder)
        except FileNotFoundError:
            raise JobNotFound(f"there is no job {job_id!r}") from None
        except BlockingIOError:
            raise WrongState(f"job {job_id} is being recorded: try again") from None

    def _delete(self, status: Status, folder: str) -> None:
        """BlockingIOError if the job is locked, for example while it is being recorded."""
        journal = None
        try:
            journal = open_regular(f"{folder}/journal", APPEND_FLAGS)
        except OSError as error:
            if not is_damage(error):
                raise
            # Missing or damaged: nobody can hold its lock.
        try:
            if journal is not None:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            grave = f"{self.root}/tmp/{os.path.basename(folder)}.deleted"
            os.rename(folder, grave)
            fsync_folder(f"{self.root}/tmp")  # else it may come back without journal, and run
        finally:
            if journal is not None:
                os.close(journal)
        with suppress(OSError):  # retention tries it again
            remove_tree(grave)
        self._count_deleted(status)  # on a full disk there is room for it now

    def _count_deleted(self, status: Status) -> None:
        with open(open_regular(f"{self.root}/deleted", os.O_RDWR | os.O_CREAT), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            counts = parse_counts(file.read())
            counts[status] += 1
            file.seek(0)
            file.write(json.dumps(counts).encode().ljust(256))

    def finished_totals(self) -> dict[Status, int]:
        here = self.counts()
        with suppress(OSError):
            for status, count in parse_counts(read_small(f"{self.root}/deleted")).items():
                here[status] += count
        return {status: here[status] for status in FINISHED}

    def prune(self, days: int, max_bytes: int) -> Iterator[None]:
        ledger = lock_file(f"{self.root}/retention", os.O_RDWR | os.O_CREAT)
        if ledger is None:  # another worker is deleting
            return
        try:
            retention = Retention.read(ledger, self.boot, time.time())
            may_age = retention.believes_clock()
            retention.write(ledger)
            oldest = time.time() - days * 86_400 if days and may_age else 0.0
            yield from self._prune_finished(ledger, retention, oldest, max_bytes)
            if may_age:
                yield from self._prune_leftovers(oldest)
        finally:
            os.close(ledger)

    def _prune_finished(
        self, ledger: int, retention: Retention, oldest: float, max_bytes: int
    ) -> Iterator[None]:
        before = None if max_bytes else f"{datetime.fromtimestamp(oldest, UTC):%Y%m%d}-99"
        counts = self.counts()
        sweep = Sweep(max_bytes, oldest, retention, sum(counts[status] for status in FINISHED))
        streams = [self._iter_newest_first(status, before) for status in FINISHED]
        for _, status, folder in heapq.merge(*streams, reverse=True):
            with suppress(OSError):
                bound = self._look_for_room(sweep, folder)
                if bound is not None and not is_being_read(f"{folder}/output.log"):
                    if bound == "age":
                        retention.deleted += 1
                        retention.write(ledger)
                    self._prune_job(sweep, status, folder, bound)
            yield
        sweep.write_log()

    def _look_for_room(self, sweep: Sweep, folder: str) -> Bound | None:
        """The bound that this job exceeds; None if it is kept. Large logs are trimmed first."""
        path = f"{folder}/output.log"
        size = disk_usage(path)
        sweep.kept += size
        if sweep.max_bytes and size > sweep.log_limit:
            heapq.heappush(sweep.large, (-size, path))
        while sweep.is_full() and sweep.large:
            _, large = heapq.heappop(sweep.large)
            if freed := trim_ended_log(large, sweep.log_limit):
                sweep.count_trimmed(freed)
                log.info("trimmed path=%s bytes=%d", os.path.relpath(large, self.root), freed)
        return sweep.bound(self._ended_at(folder), time.time())

    def _prune_job(self, sweep: Sweep, status: Status, folder: str, bound: Bound) -> None:
        size = disk_usage(f"{folder}/output.log")
        self._delete(status, folder)
        sweep.count_deleted(os.path.basename(folder), status, size, bound)
        os.rmdir(os.path.dirname(folder))  # fails while it holds other jobs

    def _prune_leftovers(self, oldest: float) -> Iterator[None]:
        for name, limit in (("tmp", time.time() - 86_400), ("keys", oldest)):
            for path in paths_in(f"{self.root}/{name}"):
                if (seen := mtime(path)) is not None and seen < limit:
                    with suppress(OSError):
                        remove_tree(path) if os.path.isdir(path) else os.unlink(path)
                yield

    @staticmethod
    def _ended_at(folder: str) -> float:
        """When a finished job ended: the record was the last write to its journal."""
        for name in ("journal", "job.json"):
            if (changed := mtime(f"{folder}/{name}")) is not None:
                return changed
        return 0.0

    def check(self) -> None:
        """Nothing to check: a folder does not lose jobs."""

    def check_writable(self) -> None:
        path = f"{self.root}/tmp/check-{new_id()}"  # not of another check
        try:
            with open(path, "xb", opener=open_private) as file:
                file.write(b"x" * 4096)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def secret(self) -> bytes:
        path = f"{self.root}/secret"
        if not os.path.lexists(path):
            self._make_secret(path)
        found = read_small(path)
        if len(found) != SECRET_BYTES:  # an empty one, say, could be guessed
            raise OSError(errno.EINVAL, f"{path} is damaged: remove it", path)
        return found

    def make_all_names(self) -> None:
        """Make the files and folders that are otherwise made when they are first needed, so that no
        other user can make them. A full disk has room for nobody's, and a worker must start."""
        try:
            self.saved.make_folders()
            for name in ("deleted", "retention"):
                os.close(open_regular(f"{self.root}/{name}", os.O_RDWR | os.O_CREAT))
            self.secret()
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    def _make_secret(self, path: str) -> None:
        draft = f"{self.root}/tmp/secret-{os.urandom(8).hex()}"
        write_new(draft, os.urandom(SECRET_BYTES))
        try:
            with suppress(FileExistsError):  # another was quicker: theirs stays
                os.link(draft, path)
        finally:
            os.unlink(draft)
        fsync_folder(self.root)

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None:
        name = command.saved
        with self.saved.lock(wait=False):
            if not self.saved.is_as_seen(command, seen):
                return None
            if seen.firing is not None:
                is_submitted = self._has_fired(command, seen.firing)
                self.saved.finish_interrupted(name, seen, is_submitted)
                return None
            if job is None or decision.key is None:
                self.saved.write_schedule(name, decision.schedule)
                return None
            # Written before the job is submitted: whoever finds it after a crash checks whether a
            # job has the key.
            self.saved.write_schedule(name, replace(seen, firing=decision.schedule.settled))
            submitted = self.submit(job, decision.key)
            self.saved.write_schedule(name, decision.schedule)
            return submitted

    def _has_fired(self, command: SavedCommand, moment: str) -> bool:
        """Was the job of this time (RFC 3339) submitted?"""
        job = Job(command=command.command, saved=command.saved, submitted_by=SCHEDULE)
        return self._job_of_key(firing_key(command, parse_time(moment)), job) is not None

    # Workers

    def tracking_env(self, job_id: str) -> dict[str, str]:
        # The folder's place on the disk is a part: a restored backup has jobs with the same IDs.
        found = os.stat(self.root)
        return {"JOB_ID": job_id, "JOB_STORAGE": f"{found.st_dev}-{found.st_ino}"}

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        info.running, info.seen_at = running, utc()
        shown = f"{self.root}/workers/{info.name}.json"
        if self._registration is None or not os.path.exists(shown):
            self._register(info)
        assert self._registration is not None
        # In place and of the same length always: a rename would leave the lock on the old file.
        record = encode_worker(info)
        record["heartbeat"] = {"boot": self.boot, "monotonic": time.monotonic()}
        record["pid_namespace"] = self.pid_namespace
        os.pwrite(self._registration, json.dumps(record).encode().ljust(WORKER_RECORD), 0)

    def _register(self, info: WorkerInfo) -> None:
        self._make_folders()
        self._remove_dead_workers()
        wanted = info.name
        for number in range(2, 100):
            path = f"{self.root}/workers/{info.name}.json"
            registration = lock_file(path, os.O_RDWR | os.O_CREAT)
            if registration is not None:
                if self._registration is not None:  # its folder was removed
                    os.close(self._registration)
                self._registration, self._name = registration, info.name
                return
            info.name = f"{wanted}-{number}"
        raise OSError(errno.EBUSY, f"a hundred workers are called {wanted}")

    def _remove_dead_workers(self) -> None:
        """Remove the files whose lock is free, but no file that is not ours."""
        for path in paths_in(f"{self.root}/workers", ".json"):
            with suppress(OSError, ValueError):
                dead = lock_file(path, os.O_RDWR)
                if dead is not None:
                    with open(dead, "rb") as file:
                        if content := file.read(SMALL_FILE):
                            parse_worker(content, self.boot)
                        os.unlink(path)

    def workers(self) -> Sequence[WorkerInfo]:
        found = []
        for path in paths_in(f"{self.root}/workers", ".json"):
            thing = os.path.relpath(path, self.root)
            try:
                with open(open_regular(path, os.O_RDONLY), "rb") as file:
                    content = read_descriptor(file.fileno())
                    info = parse_worker(content, self.boot) if content else None
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:  # a file whose lock is free belongs to a dead one
                        found += [info] if info else []
                self._errors.resolved(thing)
            except FileNotFoundError:
                self._errors.resolved(thing)
            except (OSError, ValueError) as error:
                self._errors.report(thing, error)
        return sorted(found, key=lambda info: info.name)

    def machines(self) -> Sequence[Machine]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"kind": "folder"}

    def problem(self) -> str | None:
        return None

    # The queues, as a worker watches them

    def listen(self, queues: Iterable[str]) -> Notifier | None:
        self._queues = frozenset(queues)
        if not all(map(QUEUE_RE.fullmatch, self._queues)):
            raise ValueError(f"queues must be {QUEUE_NAMES}, with commas between them")
        self.close()
        self._notifier = Notifier()
        self._scan_queues()
        return None if self._notifier.fileno() is None else self._notifier

    def close(self) -> None:
        """Stop listening."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def _refresh_backlog(self) -> None:
        """Add the jobs that have entered the queues. The folders are read again every few seconds,
        or on each call where the system reports no changes."""
        needs_scan = time.monotonic() > self._scanned_at + SCAN_INTERVAL
        if self._notifier is None or self._notifier.fileno() is None:
            needs_scan = True
        else:
            for number, name in self._notifier.changes():
                queue = self._watched.get(number)
                if queue and ID_RE.fullmatch(name):
                    self._waiting.forget((name, queue))
                    heapq.heappush(self._backlog, (name, queue))
                else:  # a queue was made, removed, paused or resumed, or events were lost
                    needs_scan = True
        if (paused := self.pauses.queues()) != self._paused:
            self._paused, needs_scan = paused, True
        if needs_scan:
            self._scan_queues()
        for entry in chain(self._busy, self._waiting.pop_due()):
            heapq.heappush(self._backlog, entry)
        self._busy.clear()

    def next_due(self) -> float:
        return self._waiting.next_due()

    def _scan_queues(self) -> None:
        self._scanned_at = time.monotonic()
        backlog = []
        if self._notifier is not None:
            self._notifier.add(f"{self.root}/queued")
            with suppress(FileNotFoundError):
                self._notifier.add(f"{self.root}/paused", removals=True)
        for folder in self._folders(Status.QUEUED):
            queue = os.path.basename(folder)
            if self._queues and queue not in self._queues:
                continue
            if queue in self._paused:
                self._finish_requested((job_id, queue) for job_id in self._listing(folder))
                continue
            try:
                if self._notifier is not None:
                    # Watch first, then list, so that no job is missed in between.
                    self._watched[self._notifier.add(folder)] = queue
            except OSError as error:
                if error.errno in RESOURCE_ERRNOS:
                    raise
                continue  # gone or not a folder; `_listing` reports one that cannot be read
            backlog += [(job_id, queue) for job_id in self._listing(folder)]
        self._backlog = sorted(self._waiting.without_delayed(backlog))
        self._finish_requested(list(self._waiting.jobs))

    def _finish_requested(self, held_back: Iterable[tuple[str, str]]) -> None:
        """Cancel the jobs that no claim looks at for now, since their queue is paused or they are
        not due, but that carry a request: the disk was full when somebody cancelled them."""
        for job_id, queue in held_back:
            folder = f"{self.root}/queued/{queue}/{job_id}"
            try:
                if request := read_cancel_request(folder):
                    self._cancel_queued(folder, request.reason)
            except (FileNotFoundError, JobError):
                pass  # another worker was faster
            except OSError as error:  # of this job alone: it must not prevent claims
                if error.errno in RESOURCE_ERRNOS:
                    raise
                self._errors.report(f"queued/{queue}/{job_id}", error)


@contextmanager
def naming_setting(variable: str, path: str) -> Iterator[None]:
    """Make an OSError while a folder is opened name the setting that it comes from."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(error.errno, f"{variable}: {path} is not a folder") from None
    except OSError as error:
        text = f"{variable}: {path} cannot be used as a folder: {error.strerror}"
        raise StoreError(error.errno, text) from None
