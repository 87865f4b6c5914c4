"""Which queued job of a folder may start now: limits, keys, and jobs that wait for others.

Nothing is stored for this but the jobs themselves and queues/QUEUE.json. A claimer decides by what
the folder contains now, under a lock if another claim could change the answer, so a crash changes
nothing. tailboard/order.py has the rules."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tailboard.errors import JobError, JobNotFound, KeyBusy
from tailboard.files import open_regular
from tailboard.folder.cancel import cancel_queued, cancel_running
from tailboard.folder.job_folders import JobFolders
from tailboard.folder.limits import LimitFiles
from tailboard.job import IfBusy, Job
from tailboard.order import RunningJob, look_at_parents, replaced_by
from tailboard.status import Status

LOCK_PAUSE = 0.001  # seconds between two tries to get the lock
CLAIM_PATIENCE = 0.2  # seconds after which a claim leaves the job for later
SUBMIT_PATIENCE = 5.0  # seconds after which a submission fails
MAX_KNOWN = 50_000  # jobs whose records are remembered
REPLACING = (IfBusy.LATEST, IfBusy.REPLACE)


class KnownJob(NamedTuple):
    """A job's queue, key and `if_busy`, from its record, which never changes."""

    queue: str
    key: str | None
    if_busy: str | None


class Wait(NamedTuple):
    """Why a job cannot start now."""

    ids: Sequence[str] = ()  # of the jobs that it waits for
    key: str | None = None  # the key that one of them has
    is_full: bool = False  # its queue has as many running jobs as its limit
    failure: str | None = None  # why it can never start


class Turns:
    """The limits of a folder's queues, the keys of its jobs, and what jobs wait for."""

    def __init__(self, folders: JobFolders, limits: LimitFiles) -> None:
        self._folders, self._files = folders, limits
        self.limits: dict[str, int] = {}
        self._stamp = -1  # of the folder with the limits, when they were read
        self._known: dict[str, KnownJob] = {}  # queued and running jobs, by ID

    # Limits

    def refresh_limits(self, again: bool = False) -> bool:
        """Read the limits if one was stored since the last call, or if `again`. Returns True if
        they have changed."""
        try:
            stamp = os.stat(self._files.home).st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        if stamp == self._stamp and not again:
            return False
        before, self.limits = self.limits, self._files.list()
        # Do not trust a very recent time stamp, as in `JobFolders.names_in`.
        self._stamp = stamp if time.time_ns() - stamp > 100_000_000 else -1
        return self.limits != before

    # Whether a job may start

    def can_delay(self, job: Job) -> bool:
        """Can a limit, a key or another job delay this one? If not, it starts without the lock."""
        return bool(job.after) or job.key is not None or job.queue in self.limits

    def wait_for_parents(self, job: Job) -> Wait | None:
        """What a queued job waits for among the jobs of its `after`; None if it waits for none."""
        if not job.after:
            return None
        parents = look_at_parents(job, self.status_of)
        if parents.failure is None and not parents.open:
            return None
        return Wait(parents.open, failure=parents.failure)

    def status_of(self, job_id: str) -> Status | None:
        """The status of a job; None if it was deleted."""
        with suppress(JobNotFound):
            return self._folders.status(job_id)
        return None

    def wait_for_room(self, job: Job) -> Wait | None:
        """What a queued job waits for because of its key and the limit of its queue; None if it may
        start. The caller holds the lock. If the job replaces others with its key, they are
        cancelled."""
        if job.key is not None and (wait := self._wait_for_key(job)):
            return wait
        limit = self.limits.get(job.queue)
        if limit is None:
            return None
        running = [each.id for each in self.running() if each.queue == job.queue]
        return Wait(running, is_full=True) if len(running) >= limit else None

    def _wait_for_key(self, job: Job) -> Wait | None:
        for other, known in self._queued_with(job).items():
            if other > job.id and known.if_busy in REPLACING:
                return Wait(failure=replaced_by(other))
        self.replace_others(job)
        holders = [each.id for each in self.running() if each.key == job.key]
        return Wait(holders, key=job.key) if holders else None

    def replace_others(self, job: Job) -> None:
        """Cancel the older jobs with the key of this job, as its `if_busy` asks."""
        if job.key is None or job.if_busy not in REPLACING:
            return
        for older in [other for other in self._queued_with(job) if other < job.id]:
            with suppress(JobError, FileNotFoundError):
                status, folder = self._folders.locate(older)
                if status is Status.QUEUED:
                    cancel_queued(self._folders, folder, replaced_by(job.id))
        if job.if_busy != IfBusy.REPLACE:
            return
        for holder in [each.id for each in self.running() if each.key == job.key]:
            # A later one has started before a retry of this job.
            if holder < job.id and holder not in job.after:
                with suppress(JobError, FileNotFoundError):
                    folder = f"{self._folders.root}/running/{holder}"
                    cancel_running(self._folders, folder, replaced_by(job.id))

    def check_key(self, job: Job) -> None:
        """KeyBusy if the job is not to be queued, because another job has its key. The caller holds
        the lock."""
        if job.key is None or job.if_busy != IfBusy.SKIP:
            return
        running = [each.id for each in self.running() if each.key == job.key]
        waited_for = [other for other in running if other in job.after]
        for other in [*running, *self._queued_with(job)]:
            if other not in waited_for:
                raise KeyBusy(other, job.key)

    # The jobs that count

    def running(self) -> Sequence[RunningJob]:
        """The jobs in running/, sorted by ID."""
        names = self._folders.names_in(f"{self._folders.root}/running")
        jobs = ((job_id, self._know(job_id, f"running/{job_id}")) for job_id in names)
        return [RunningJob(job_id, job.queue, job.key) for job_id, job in jobs if job is not None]

    def _queued_with(self, job: Job) -> dict[str, KnownJob]:
        """The other queued jobs that have this job's key, by ID, oldest first. The first call reads
        the records of all queued jobs, later ones only those of new jobs."""
        found = {}
        for folder in self._folders.folders_of(Status.QUEUED):
            place = f"queued/{os.path.basename(folder)}"
            for job_id in self._folders.names_in(folder):
                known = self._know(job_id, f"{place}/{job_id}")
                if known is not None and known.key == job.key and job_id != job.id:
                    found[job_id] = known
        return dict(sorted(found.items()))

    def _know(self, job_id: str, place: str) -> KnownJob | None:
        """What the record of this job says; None if the job has just moved."""
        known = self._known.get(job_id)
        if known is None:
            if len(self._known) > MAX_KNOWN:  # most of them have ended
                self._known.clear()
            # If the disk prevents reading, nothing is known: the job must not count as another one.
            record = self._folders.load_record(f"{self._folders.root}/{place}", must_read=True)
            if record is None:
                return None
            known = self._known[job_id] = KnownJob(record.queue, record.key, record.if_busy)
        return known

    # The lock

    @contextmanager
    def lock(self, is_patient: bool = False) -> Iterator[None]:
        """Hold the lock of all limits and keys. BlockingIOError after a while, later if
        `is_patient`: another process holds it, and may be stopped."""
        patience = SUBMIT_PATIENCE if is_patient else CLAIM_PATIENCE
        home = self._files.home
        os.makedirs(home, mode=0o700, exist_ok=True)
        fd = open_regular(f"{home}/lock", os.O_RDWR | os.O_CREAT)
        try:
            self._wait_for_lock(fd, time.monotonic() + patience)
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _wait_for_lock(fd: int, until: float) -> None:
        while True:
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    text = "another process is starting a job of a limited queue"
                    raise BlockingIOError(errno.EAGAIN, text) from None
            time.sleep(LOCK_PAUSE)
