"""Pruning: deleting ended jobs that are too old or whose logs are too large, step by step.

retention.py decides which jobs; this file finds, trims and deletes."""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from tailboard.files import lock_file, mtime, paths_in, remove_tree_in_steps
from tailboard.folder.audit_files import AuditFiles
from tailboard.folder.job_folders import JobFolders
from tailboard.folder.retention import Bound, Retention, Sweep, is_being_read
from tailboard.log_limit import trim_ended_log
from tailboard.logs import disk_usage
from tailboard.status import FINISHED, Status

log = logging.getLogger("storage")


class Pruning:
    """One pass over a jobs folder. Each step of `run` deletes at most one job, or one of the many
    files that a job can have."""

    def __init__(
        self, folders: JobFolders, delete: Callable[[Status, str], Iterator[None]]
    ) -> None:
        """`delete` deletes the ended job of this status in this folder, in steps; the first raises
        BlockingIOError if it is locked."""
        self._folders, self._delete = folders, delete

    def run(self, days: int, max_bytes: int, audit_days: int) -> Iterator[None]:
        """See `WorkerStore.prune`, the contract."""
        ledger = lock_file(f"{self._folders.root}/retention", os.O_RDWR | os.O_CREAT)
        if ledger is None:  # another worker is deleting
            return
        try:
            retention = Retention.read(ledger, self._folders.boot, time.time())
            may_age = retention.believes_clock()
            retention.write(ledger)
            oldest = time.time() - days * 86_400 if days and may_age else 0.0
            yield from self._delete_finished(ledger, retention, oldest, max_bytes)
            if may_age:
                yield from self._delete_leftovers(oldest)
                yield from AuditFiles(self._folders.root).prune(audit_days, time.time())
        finally:
            os.close(ledger)

    def _delete_finished(
        self, ledger: int, retention: Retention, oldest: float, max_bytes: int
    ) -> Iterator[None]:
        before = None if max_bytes else f"{datetime.fromtimestamp(oldest, UTC):%Y%m%d}-99"
        counts = self._folders.counts()
        sweep = Sweep(max_bytes, oldest, retention, sum(counts[status] for status in FINISHED))
        streams = [self._folders.iter_newest_first(status, before) for status in FINISHED]
        for _, status, folder in heapq.merge(*streams, reverse=True):
            with suppress(OSError):
                bound = self._look_for_room(sweep, folder)
                if bound is not None and not is_being_read(f"{folder}/output.log"):
                    if bound == "age":
                        retention.count_deleted()
                        retention.write(ledger)
                    yield from self._delete_job(sweep, status, folder, bound)
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
                log.info(
                    "trimmed path=%s bytes=%d", os.path.relpath(large, self._folders.root), freed
                )
        return sweep.bound(self._ended_at(folder), time.time())

    def _delete_job(
        self, sweep: Sweep, status: Status, folder: str, bound: Bound
    ) -> Iterator[None]:
        size = disk_usage(f"{folder}/output.log")
        steps = self._delete(status, folder)
        next(steps, None)  # from here on the job is deleted, though not all its files are
        sweep.count_deleted(os.path.basename(folder), status, size, bound)
        with suppress(OSError):  # while it contains other jobs
            os.rmdir(os.path.dirname(folder))  # the day
        yield from steps

    def _delete_leftovers(self, oldest: float) -> Iterator[None]:
        """Delete drafts that are older than a day, and keys and records of notices as old as the
        jobs that are deleted by age."""
        a_day_ago = time.time() - 86_400
        for name, limit in (("tmp", a_day_ago), ("keys", oldest), ("notices/records", oldest)):
            for path in paths_in(f"{self._folders.root}/{name}"):
                if (seen := mtime(path)) is not None and seen < limit:
                    with suppress(OSError):
                        yield from self._remove(path)
                yield

    @staticmethod
    def _remove(path: str) -> Iterator[None]:
        if os.path.isdir(path) and not os.path.islink(path):
            yield from remove_tree_in_steps(path)
        else:
            os.unlink(path)

    @staticmethod
    def _ended_at(folder: str) -> float:
        """When a finished job ended: the record was the last write to its journal."""
        for name in ("journal", "job.json"):
            if (changed := mtime(f"{folder}/{name}")) is not None:
                return changed
        return 0.0
