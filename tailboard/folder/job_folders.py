"""The folders of jobs: finding, reading, listing and moving them.

Nothing here writes a job's files. folder_store.py, claim.py and cancel.py contain the transitions
between states; they import this file, and it imports none of them."""

from __future__ import annotations

import errno
import heapq
import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from math import isfinite
from typing import TypeVar

from tailboard.errors import JobDamaged, JobNotFound
from tailboard.files import (
    boot_id,
    exists_in,
    is_damage,
    mtime,
    open_folder,
    own_pid_namespace,
    paths_in,
    read_small,
)
from tailboard.folder.file_reading import list_files_in, open_file_in
from tailboard.folder.job_secrets import JobSecrets
from tailboard.folder.lanes import is_lane, is_urgent, lane_in, lane_of, queue_of
from tailboard.folder.listing import IDs, Listing
from tailboard.folder.secret_params import drop_params
from tailboard.folder.usage_files import read_latest_in, read_usage_in
from tailboard.job import Job, matches, parse_record, shorten
from tailboard.job_files import FileListing, OpenFile
from tailboard.journal import Attempt, parse_journal
from tailboard.judge import delay_before_start, judge
from tailboard.logs import FileLog, Log, is_sparse, log_size_and_time, log_start
from tailboard.masking import MaskedLog
from tailboard.notices import Kind
from tailboard.notifier import Notifier
from tailboard.program_log import RepeatedErrors
from tailboard.sealed import Sealer
from tailboard.status import FINISHED, Status
from tailboard.usage import UsageSample
from tailboard.values import (
    FULL_ERRNOS,
    ID_RE,
    RESOURCE_ERRNOS,
    ids_with,
    is_day,
    utc,
)

log = logging.getLogger("storage")

T = TypeVar("T")

RESERVE = 8  # empty folders kept for when the disk has no inode left
REMNANT = "a process that the job left behind has made it"
LOOKUPS = 8  # searches until a job that is found in no state counts as missing
SCAN_LIMIT = 2_000  # records read for one page of a filtered list
MAX_LISTINGS = 4_000  # folders whose names are remembered
LIKE_A_DATE_RE = re.compile(r"[0-9]{8}(?:-[0-9]{6}-[0-9a-z]{8})?")


class JobFolders(ABC):
    """The folders of jobs below `root`. `errors` collects what cannot be read, by path below
    `root`."""

    def __init__(self, root: str | os.PathLike[str], create: bool = True) -> None:
        """`create`: make the folders that are missing, also `root` itself. Otherwise they are made
        only if `root` exists."""
        self.root = os.path.abspath(root)
        self.boot = boot_id()
        self.pid_namespace = own_pid_namespace()
        self.errors = RepeatedErrors(log)
        self._listings: dict[str, Listing] = {}  # by folder
        self._listing_lock = threading.Lock()
        if create or os.path.isdir(self.root):
            self._make_folders()

    def _make_folders(self) -> None:
        for name in (
            "",
            *Status,
            "queued/default",
            "workers",
            "keys",
            "paused",
            "queues",
            "set-aside",
            "tmp",
        ):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
        self._fill_reserve()

    def _fill_reserve(self) -> None:
        """Make the missing folders of the reserve. A full disk is not an error: a worker must start
        even then, to end the running jobs and to record their ends."""
        try:
            for name in ("", *range(RESERVE)):
                os.makedirs(f"{self.root}/reserve/{name}", mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    # Finding

    def locate(self, job_id: str) -> tuple[Status, str]:
        # A requeue moves a job backwards, past this search: search again before it is missing.
        for _ in range(LOOKUPS if ID_RE.fullmatch(job_id) else 0):
            for status in Status:
                for folder in self.folders_of(status, job_id[:8]):
                    path = f"{folder}/{job_id}"
                    if os.path.isdir(path) and not os.path.islink(path):
                        return status, path
        raise JobNotFound(f"there is no job {job_id!r}")

    def folders_of(self, status: Status, day: str | None = None) -> list[str]:
        """The folders with the jobs of this status (and day), newest first."""
        home = f"{self.root}/{status}"
        if status is Status.RUNNING:
            return [home]
        if day and status is not Status.QUEUED:
            return [f"{home}/{day}"]
        is_wanted = is_lane if status is Status.QUEUED else is_day
        return [f"{home}/{name}" for name in reversed(self.names_in(home, is_wanted))]

    def names_in(
        self, folder: str, is_wanted: Callable[[str], object] = ID_RE.fullmatch
    ) -> Sequence[str]:
        """The names in a folder that `is_wanted` accepts, sorted, cached until the folder changes.
        A folder that cannot be read counts as empty and is reported to `errors`."""
        thing = folder.removeprefix(f"{self.root}/")
        asked_at = time.monotonic()
        try:
            stamp = os.stat(folder).st_mtime_ns
            known = self._listings.get(folder)
            if known and known.stamp == stamp:
                return known.names
            # One thread reads; the others wait and use its listing. Otherwise, while jobs end, each
            # of many requests would read all names and keep them in memory.
            with self._listing_lock:
                known = self._listings.get(folder)
                if known is None or known.read_at < asked_at:
                    known = self._read_listing(folder, thing, is_wanted)
        except FileNotFoundError:
            self.errors.resolved(thing)
            return []
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS:
                raise
            self.errors.report(thing, JobDamaged(error.strerror))
            return []
        self.errors.resolved(thing)
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
                self.errors.report(f"{thing}/{name}", JobDamaged("there is no such date"))
        if is_wanted == ID_RE.fullmatch:
            names = IDs(names)
        # Do not trust a very recent time stamp: it would hide another change in the same clock
        # tick.
        if time.time_ns() - stamp <= 100_000_000:
            stamp = -1
        listing = self._listings[folder] = Listing(stamp, read_at, names)
        if len(self._listings) > MAX_LISTINGS:  # such as days that were deleted long ago
            self._listings.pop(next(iter(self._listings)), None)
        return listing

    def is_own_host(self, claimed: str | None, host: str) -> bool:
        """Was an attempt claimed on this host? If its claim is damaged (`claimed` is None), every
        host may judge the job."""
        return claimed in (None, host)

    @abstractmethod
    def start_next(self, job: Job) -> str | None:
        """Submit the run that follows this job, which has succeeded, unless that was done before.
        Returns why no run follows although `job.then` names a command; OSError if it must be tried
        again."""

    @abstractmethod
    def request_notice(self, job: Job, kind: Kind, text: str = "") -> None:
        """Make the request that somebody looks at this job, because of what has happened to it, if
        anyone is to be notified of that; see notices.py."""

    def is_elsewhere(self, job_id: str) -> bool:
        """Is there a running or finished job with this ID?"""
        running = f"{self.root}/running/{job_id}"
        is_running = os.access(running, os.F_OK) and not is_remnant(running)
        return is_running or self.has_ended(job_id)

    def has_ended(self, job_id: str) -> bool:
        places = (f"{self.root}/{status}/{job_id[:8]}/{job_id}" for status in FINISHED)
        return any(os.access(place, os.F_OK) for place in places)

    def status(self, job_id: str) -> Status:
        return self.locate(job_id)[0]

    def watch(self, job_id: str) -> Notifier:
        while True:
            with suppress(FileNotFoundError):
                return Notifier(self.locate(job_id)[1])

    def open_log(self, job_id: str) -> Log:
        while True:
            status, folder = self.locate(job_id)
            try:
                log = self.open_log_in(folder)
                log.holds_back = status not in FINISHED
                return log
            except FileNotFoundError:
                if os.path.isdir(folder):  # and has not just moved
                    raise

    def open_log_in(self, folder: str) -> Log:
        """The log in a job's folder, masked if the job has secrets. FileNotFoundError if it has no
        log, or has just moved. SecretsDamaged if the values cannot be read."""
        # A descriptor, since the folder can move at any moment, and even return.
        folder_fd = open_folder(folder)
        is_masked = False
        try:
            log = FileLog(f"{folder}/output.log")
            try:
                # Looked up after the log was opened: `secrets` is older than the log, and is
                # removed only once the log is masked on the disk.
                is_masked = exists_in(folder_fd, "secrets")
                return MaskedLog(log, folder_fd, Sealer(self.root).unseal) if is_masked else log
            except BaseException:
                log.close()
                raise
        finally:
            if not is_masked:  # else the MaskedLog closes it
                os.close(folder_fd)

    def list_files(self, job_id: str) -> FileListing:
        return self._read_in(job_id, list_files_in)

    def open_file(self, job_id: str, path: bytes) -> OpenFile:
        return self._read_in(job_id, lambda folder: open_file_in(folder, path))

    def usage(self, job_id: str) -> Sequence[UsageSample]:
        return self._read_in(job_id, read_usage_in)

    def latest_usage(self, ids: Iterable[str]) -> Mapping[str, Sequence[UsageSample]]:
        found = {}
        for job_id in ids:
            with suppress(JobNotFound):
                found[job_id] = self._latest_usage_of(job_id)
        return {job_id: samples for job_id, samples in found.items() if samples}

    def _latest_usage_of(self, job_id: str) -> Sequence[UsageSample]:
        """A list asks for hundreds of jobs that are running: look for them there first."""
        if ID_RE.fullmatch(job_id):
            with suppress(FileNotFoundError):
                return read_latest_in(f"{self.root}/{Status.RUNNING}/{job_id}")
        return self._read_in(job_id, read_latest_in)

    def _read_in(self, job_id: str, read: Callable[[str], T]) -> T:
        """The result of `read` for the folder of a job. FileNotFoundError is raised only if the
        folder has not just moved."""
        while True:
            folder = self.locate(job_id)[1]
            try:
                return read(folder)
            except FileNotFoundError:
                if os.path.isdir(folder):
                    raise

    # Reading

    def get(self, job_id: str) -> Job:
        while True:
            if job := self.load_folder(*self.locate(job_id)):
                return job

    def get_many(self, ids: Sequence[str]) -> Iterator[Job]:
        for job_id in ids:
            with suppress(JobNotFound):
                yield self.get(job_id)

    def load_folder(self, status: Status, folder: str, must_read: bool = False) -> Job | None:
        """The job in this folder; None if it has just moved, or is not a job. `must_read`: see
        load_record."""
        if os.path.islink(folder):
            return None
        job = self.load_record(folder, must_read)
        if job is None:
            return None
        job.status = status
        job.log_size, job.log_changed_at = log_size_and_time(folder)
        attempts = self.read_attempts(folder, must_read)
        job.attempts = attempts[1:]
        if status is Status.QUEUED:
            lane = lane_in(folder)
            job.queue, job.urgent = queue_of(lane), is_urgent(lane)
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
        `must_read`: OSError if the disk prevents reading, for callers that act on the result."""
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
            self.errors.report(os.path.relpath(folder, self.root), JobDamaged(reason))
            job = Job(id=job_id, command="", reason=reason, version=0)
        return job

    @staticmethod
    def read_attempts(folder: str, must_read: bool = False) -> list[Attempt]:
        """The attempts in a job's journal, as parse_journal returns them. `must_read`: see
        load_record."""
        try:
            return parse_journal(read_small(f"{folder}/journal"))
        except OSError as error:
            if must_read and not is_damage(error):
                raise
            return [Attempt()]  # no journal, or a damaged one: nothing is known

    # Listing

    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
        since: str | None = None,
        short: bool = False,
        by: str | None = None,
    ) -> tuple[Sequence[Job], str | None]:
        jobs: list[Job] = []
        last = ""
        needle = text.casefold()
        merged = heapq.merge(
            *(self.iter_newest_first(s, before) for s in ([status] if status else Status)),
            reverse=True,
        )
        for read, (job_id, found, folder) in enumerate(merged):
            if since is not None and job_id < since:  # all the rest are older
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
            if job is not None and matches(job, status, queue, needle, by):
                jobs.append(shorten(job) if short else job)
        return jobs, None

    def iter_newest_first(
        self, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        """(ID, status, folder) of the jobs below the ID `before`, newest first. The folder of a day
        is read only if the caller gets that far."""
        parts = (self._iter_folder(folder, status, before) for folder in self.folders_of(status))
        if status is Status.QUEUED:  # jobs of several queues interleave; days do not
            return heapq.merge(*parts, reverse=True)
        return chain.from_iterable(parts)

    def _iter_folder(
        self, folder: str, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        names = self.names_in(folder)
        count = bisect_left(names, before) if before else len(names)
        for place in reversed(range(count)):
            name = names[place]
            yield name, status, f"{folder}/{name}"

    def find(self, part: str) -> Sequence[str]:
        folders = (folder for status in Status for folder in self.folders_of(status))
        return ids_with(part, (name for folder in folders for name in self.names_in(folder)))

    def unfinished_ids(self) -> set[str]:
        states = (Status.QUEUED, Status.RUNNING)  # the order in which jobs move
        folders = (folder for status in states for folder in self.folders_of(status))
        return {name for folder in folders for name in self.names_in(folder)}

    def iter_finished_ids(self) -> Iterator[str]:
        streams = (self.iter_newest_first(status, None) for status in FINISHED)
        return (job_id for job_id, _, _ in heapq.merge(*streams, reverse=True))

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        found: dict[str, Sequence[str]] = {}
        for folder in self.folders_of(Status.QUEUED):
            queue, names = queue_of(os.path.basename(folder)), self.names_in(folder)
            if names:
                found[queue] = sorted([*found[queue], *names]) if queue in found else names
        return dict(sorted(found.items()))

    def counts(self) -> dict[Status, int]:
        return {s: sum(len(self.names_in(f)) for f in self.folders_of(s)) for s in Status}

    def count_since(self, since: str, status: Status | None = None) -> int:
        folders = (f for s in ([status] if status else Status) for f in self.folders_of(s))
        listings = (self.names_in(folder) for folder in folders)
        return sum(len(names) - bisect_left(names, since) for names in listings)

    # Moving

    def requeue_home(self, job: Job) -> str:
        """The folder into which a job moves that is to run again."""
        return f"{self.root}/queued/{lane_of(job.queue, job.urgent)}"

    def move_folder(self, folder: str, home: str) -> str:
        """Move a job's folder into `home`; returns its new path. If `home` already contains that
        ID, this folder is set aside, or the other one if it is only a remnant."""
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
            if not is_remnant(target):
                return self.move_aside(folder)
            self.move_aside(target, REMNANT)
            os.rename(folder, target)
        return target

    def _make_home(self, home: str) -> None:
        try:
            os.makedirs(home, mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            self.use_reserve(home)

    def use_reserve(self, path: str) -> None:
        """Move a folder of the reserve to `path`, which needs no new inode. OSError if the reserve
        is empty."""
        for spare in paths_in(f"{self.root}/reserve"):
            with suppress(FileNotFoundError):
                os.utime(spare)
                os.rename(spare, path)
                return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def move_aside(self, folder: str, reason: str = "another job has its ID") -> str:
        """Move a folder to set-aside/, for example a second one with the same ID. It is kept for
        inspection and never runs. Returns its new path."""
        name = os.path.basename(folder)
        target = f"{self.root}/set-aside/{name}.{os.urandom(4).hex()}"
        drop_params(folder)
        JobSecrets(self.root, folder).close()
        with suppress(FileNotFoundError):
            os.rename(folder, target)
            log.warning("set aside job=%s reason=%r to=%s", name, reason, target)
        return target


def is_remnant(folder: str) -> bool:
    """Does this folder of a job contain neither a record nor a journal? A process that a job has
    left behind makes such a folder with `mkdir -p $JOB_FILES` after the job's folder has moved."""
    return not any(os.path.lexists(f"{folder}/{name}") for name in ("job.json", "journal"))


def fill_queued(job: Job, attempt: Attempt, boot: str, changed_at: float) -> None:
    """Fill in the number of the next attempt, and the earliest time at which it can start."""
    verdict = judge(job.retries, attempt, None, boot, changed_at)
    job.attempt = verdict.next_attempt
    delay, now = delay_before_start(job, verdict, changed_at), time.time()
    if isfinite(delay.at_most) and delay.until > 0:
        job.retried_at = utc(min(delay.until, now + delay.at_most))


def fill_running(job: Job, attempt: Attempt) -> None:
    """Fill in which worker runs it, and since when."""
    job.attempt = max(attempt.number, 1)
    job.worker, job.host, job.pid = attempt.worker, attempt.host, attempt.pid
    job.started_at = attempt.started_at


def fill_finished(job: Job, attempt: Attempt) -> None:
    """Fill in how the job ended. Fields that the journal does not contain stay None."""
    job.attempt = max(attempt.number, 1)
    ended = attempt.ended
    if ended is None:
        return
    job.exit_code, job.finished_at = ended.exit_code, ended.finished_at
    job.reason, job.hint = job.reason or ended.reason, ended.hint
    job.cpu_seconds, job.max_rss_bytes = ended.cpu_seconds, ended.max_rss_bytes
    job.files_count, job.files_bytes = ended.files_count, ended.files_bytes
    job.log_start = max(job.log_start, ended.log_start)
    if attempt.result is None or ended is attempt.result:
        job.worker, job.host, job.started_at = (
            attempt.worker,
            attempt.host,
            attempt.started_at,
        )
    else:  # cancelled while it waited for its next attempt
        job.attempt += 1
