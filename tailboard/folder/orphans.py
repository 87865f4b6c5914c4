"""Orphans: running jobs whose worker is dead. Another worker on the same host adopts them."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator
from contextlib import suppress

from tailboard.errors import JobNotFound
from tailboard.folder.claim import Claim, lock_times
from tailboard.folder.job_folders import REMNANT, JobFolders, is_remnant
from tailboard.folder.worker_files import WorkerFiles
from tailboard.journal import Attempt
from tailboard.status import Status
from tailboard.values import RESOURCE_ERRNOS

log = logging.getLogger("storage")


class Orphans:
    """The orphans of a jobs folder, as a worker looks for them."""

    def __init__(self, folders: JobFolders, workers: WorkerFiles) -> None:
        self._folders, self._workers = folders, workers
        self._left_alone: set[str] = set()  # jobs of other PID namespaces that have been logged

    def take_over(self, host: str, ours: Container[str]) -> Iterator[Claim]:
        """See `WorkerStore.orphans`, the contract."""
        alive = {info.name for info in self._workers.list()} - {self._workers.own_name}
        running = self._folders.names_in(f"{self._folders.root}/running")
        self._left_alone.intersection_update(running)
        for job_id in running:
            folder = f"{self._folders.root}/running/{job_id}"
            if job_id in ours or os.path.islink(folder):
                continue
            try:
                if claim := self._lock(folder, host, alive):
                    yield claim
            except (BlockingIOError, FileNotFoundError, JobNotFound):
                pass  # another worker got it first
            except Exception as error:
                if isinstance(error, OSError) and error.errno in RESOURCE_ERRNOS:
                    raise
                self._folders.errors.report(f"running/{job_id}", error)

    def _lock(self, folder: str, host: str, alive: Container[str]) -> Claim | None:
        """Lock and read this job if it is an orphan. None if its worker is alive, or if it belongs
        to another host, is a copy of a job that has ended, or runs in another PID namespace."""
        claimed = self._folders.read_attempts(folder, must_read=True)[-1]
        if not self._folders.is_own_host(claimed.host, host):
            return None
        if claimed.worker in alive and not self._workers.is_namesake(claimed):
            return None
        times = lock_times(folder)
        claim = Claim(self._folders, folder, times, None)
        try:
            if reason := self._why_aside(claim):
                self._folders.move_aside(folder, reason)
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

    def _why_aside(self, claim: Claim) -> str | None:
        """Why this folder is set aside; None if it is the only one of its job, or if its shim is
        alive."""
        job_id = os.path.basename(claim.folder)
        has_ended = self._folders.has_ended(job_id)
        if is_remnant(claim.folder):  # it has no journal that a shim could lock
            return REMNANT if has_ended or self._is_queued(job_id) else None
        return "another job has its ID" if has_ended and claim.acquire_lock() else None

    def _is_queued(self, job_id: str) -> bool:
        homes = self._folders.folders_of(Status.QUEUED)
        return any(os.access(f"{home}/{job_id}", os.F_OK) for home in homes)

    def _is_foreign(self, claimed: Attempt) -> bool:
        """Does the pid of its shim belong to another PID namespace, such as another container's?
        Here the same pid may be an unrelated process."""
        own = self._folders.pid_namespace
        return bool(own and claimed.pid_namespace and claimed.pid_namespace != own)

    def _leave_alone(self, job_id: str) -> None:
        """Log once per job that only a worker in its own namespace can stop it."""
        if job_id not in self._left_alone:
            self._left_alone.add(job_id)
            reason = "it runs in another PID namespace, whose workers supervise it"
            log.warning("left alone job=%s reason=%r", job_id, reason)


def set_remnants_aside(folders: JobFolders, job_id: str) -> None:
    """Set aside the folders of this job that are only remnants of it, see `is_remnant`, unless a
    worker supervises them. In lost/, a worker has recorded one as if it were the job."""
    root = folders.root
    for folder in (f"{root}/running/{job_id}", f"{root}/lost/{job_id[:8]}/{job_id}"):
        if os.path.isdir(folder) and is_remnant(folder):
            with (
                suppress(BlockingIOError, FileNotFoundError),
                Claim(folders, folder, lock_times(folder), None),
            ):
                folders.move_aside(folder, REMNANT)
