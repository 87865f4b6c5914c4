"""The jobs of a folder that other jobs wait for: they are kept until those have started.

A job is submitted while its parents' journals are locked for reading, and pruning deletes a job
only while it holds its journal's lock for writing, and after it has looked at the queue once more.
So either the submission finds no parent, or pruning finds the new job."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from tailboard.errors import JobNotFound
from tailboard.files import open_regular
from tailboard.folder.job_folders import JobFolders
from tailboard.job import Job
from tailboard.status import FINISHED, Status

LOCK_PAUSE = 0.001  # seconds between two tries to get a lock
LOCK_PATIENCE = 5.0  # seconds; a process that holds it for longer has been stopped


class AwaitedJobs:
    """Which jobs the queued and the running jobs wait for. A running job counts, too: if it is
    retried, it must find its parents again. Each record is read once."""

    def __init__(self, folders: JobFolders) -> None:
        self._folders = folders
        self._listings: Sequence[Sequence[str]] = ()  # when `_after` was brought up to date
        self._after: dict[str, Sequence[str]] = {}  # of each unfinished job, by ID
        self._waiting: dict[str, str] = {}  # parent -> one of the jobs that wait for it

    def refresh(self) -> Iterator[None]:
        """Bring `waiting` up to date. A generator: there may be many jobs to read."""
        places = (*self._folders.folders_of(Status.QUEUED), f"{self._folders.root}/running")
        listings = [self._folders.names_in(folder) for folder in places]
        if listings == self._listings:
            return
        after: dict[str, Sequence[str]] = {}
        for folder, names in zip(places, listings, strict=True):
            for job_id in names:
                known = self._after.get(job_id)
                if known is None:
                    known = self._read(f"{folder}/{job_id}")
                    yield
                if known is not None:
                    after[job_id] = known
        has_missed = len(after) < sum(map(len, listings))  # one has just moved
        self._waiting = {p: child for child, parents in after.items() for p in parents}
        # Last: another thread that finds these listings uses what was made from them.
        self._after, self._listings = after, () if has_missed else listings

    def _read(self, path: str) -> Sequence[str] | None:
        """The jobs that a job waits for; None if it has just moved."""
        record = self._folders.load_record(path, must_read=True)
        return None if record is None else tuple(record.after)

    def waiting(self) -> Mapping[str, str]:
        """For each job that another waits for, one of those, as they are now."""
        for _ in self.refresh():
            pass
        return self._waiting

    # Submitting

    @contextmanager
    def keep_parents(self, job: Job) -> Iterator[None]:
        """Let no pruning delete the jobs that a new job waits for, until it is in its queue."""
        locks = []
        try:
            for parent in job.after:
                lock = self._lock(parent)
                if lock is not None:
                    locks.append(lock)
            yield
        finally:
            for lock in locks:
                os.close(lock)

    def _lock(self, job_id: str) -> int | None:
        """Lock an ended job against deletion. None if it has not ended, does not exist or is
        damaged, or if the lock is not free for too long."""
        until = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < until:
            try:
                status, folder = self._folders.locate(job_id)
                if status not in FINISHED:
                    return None
                lock = open_regular(f"{folder}/journal", os.O_RDONLY)
            except (JobNotFound, OSError):
                return None
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if os.path.exists(f"{folder}/journal"):
                    return lock
            os.close(lock)
            time.sleep(LOCK_PAUSE)
        return None
