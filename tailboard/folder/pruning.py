"""Pruning: deleting the ended jobs that the rules no longer keep, step by step.

keep_rules.py decides which jobs, and prune_pass.py in which order; this file finds, trims and
deletes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from tailboard.files import lock_file, mtime, paths_in, read_small, remove_tree_in_steps
from tailboard.folder.audit_files import AuditFiles
from tailboard.folder.awaited import AwaitedJobs
from tailboard.folder.ended_jobs import EndedJobs
from tailboard.folder.job_folders import JobFolders
from tailboard.folder.retention import Retention, Tally, is_being_read, limits_in
from tailboard.keep_rules import DAY, EndedJob, Facts, KeepLimits, Prunable
from tailboard.log_limit import trim_ended_log
from tailboard.prune_pass import Deletion, PrunePass, Pruner, Scan
from tailboard.saved_rules import SavedRules
from tailboard.status import FINISHED, Status

log = logging.getLogger("storage")

# Deletes the ended job of this status in this folder, in steps, unless the function returns True
# while the job is locked. The first step raises BlockingIOError if it is locked already.
Delete = Callable[[Status, str, Callable[[], bool]], Iterator[None]]


class Pruning:
    """Deletes ended jobs from a folder. One for each process: it remembers what it has read."""

    def __init__(self, folders: JobFolders, delete: Delete, rules: SavedRules) -> None:
        self._folders, self._delete, self._rules = folders, delete, rules
        self.awaited = AwaitedJobs(folders)
        self._ended = EndedJobs(folders)

    def run(self, days: int, max_bytes: int, audit_days: int) -> Iterator[None]:
        """See `WorkerStore.prune`, the contract."""
        ledger = lock_file(f"{self._folders.root}/retention", os.O_RDWR | os.O_CREAT)
        if ledger is None:  # another worker is deleting
            return
        try:
            now = time.time()
            retention = Retention.read(ledger, self._folders.boot, now)
            retention.days, retention.max_bytes = days, max_bytes
            trusts_clock = retention.believes_clock()
            retention.write(ledger)
            yield from self.awaited.refresh()
            facts = self._facts(now, days, max_bytes, trusts_clock)
            yield from self._delete_jobs(facts, ledger, retention)
            if trusts_clock:
                yield from self._delete_leftovers(now - days * DAY if days else 0.0)
                yield from AuditFiles(self._folders.root).prune(audit_days, time.time())
        finally:
            os.close(ledger)

    def scan(self, measures_logs: bool) -> Scan:
        """The jobs that have ended, newest first."""
        return self._ended.scan(measures_logs)

    def facts_of_reader(self, days: int, max_bytes: int) -> Facts:
        """What decides now, for a process that only looks: the worker's file says whether the clock
        can be trusted."""
        now, trusts_clock = time.time(), False
        with suppress(OSError):
            content = read_small(f"{self._folders.root}/retention")
            trusts_clock = Retention.parse(content, self._folders.boot, now).believes_clock()
        self.awaited.waiting()
        return self._facts(now, days, max_bytes, trusts_clock)

    def limits(self) -> KeepLimits | None:
        """See `Jobs.keep_limits`, the contract."""
        with suppress(OSError):
            return limits_in(read_small(f"{self._folders.root}/retention"))
        return None

    def _facts(self, now: float, days: int, max_bytes: int, trusts_clock: bool) -> Facts:
        waiting = self.awaited.waiting()
        return Facts(now, days, max_bytes, trusts_clock, self._rules.all(), waiting)

    def _delete_jobs(self, facts: Facts, ledger: int, retention: Retention) -> Iterator[None]:
        counts = self._folders.counts()
        allowance = retention.allowance(sum(counts[status] for status in FINISHED))
        pruner = FolderPruner(self, facts, ledger, retention)
        steps = PrunePass(pruner, facts, allowance)
        yield from steps.run()
        pruner.tally.write_log(steps.kept)

    def is_still_due(self, found: Prunable, facts: Facts) -> bool:
        """Can the job be deleted? Not while its log is being read, and not if what has decided has
        changed since the pass began."""
        job = found.job
        if job.id in self.awaited.waiting() or is_being_read(f"{self.folder_of(job)}/output.log"):
            return False
        if found.guard is not None and not self._folders.has_ended(found.guard):
            return False  # it was deleted meanwhile, so this job may be the last success
        saved = job.origin.saved
        return saved is None or self._rules.of(saved) == facts.commands.get(saved)

    def delete(self, job: EndedJob) -> Iterator[None]:
        """Delete a job in steps, unless it is locked or another job waits for it by now. The first
        step decides; the others remove its files."""
        folder = self.folder_of(job)
        steps = self._delete(job.status, folder, lambda: job.id in self.awaited.waiting())
        next(steps, None)
        with suppress(OSError):  # while it contains other jobs
            os.rmdir(os.path.dirname(folder))  # the day
        yield
        yield from steps

    def folder_of(self, job: EndedJob) -> str:
        return f"{self._folders.root}/{job.status}/{job.id[:8]}/{job.id}"

    def _delete_leftovers(self, oldest: float) -> Iterator[None]:
        """Delete drafts that are older than a day, and keys and records of notices as old as the
        jobs that are deleted by age."""
        a_day_ago = time.time() - DAY
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


class FolderPruner(Pruner):
    """Deletes the jobs of one pass, and counts them."""

    def __init__(self, pruning: Pruning, facts: Facts, ledger: int, retention: Retention) -> None:
        self._pruning, self._facts = pruning, facts
        self._ledger, self._retention = ledger, retention
        self.tally = Tally(facts.max_bytes)

    def scan(self) -> Scan:
        return self._pruning.scan(measures_logs=self._facts.max_bytes > 0)

    def delete(self, found: Prunable) -> Deletion:
        with suppress(OSError):
            if not self._pruning.is_still_due(found, self._facts):
                return False
            if found.bound != "bytes":
                # Counted before the deletion: a crash in between must not let one more be deleted.
                self._retention.count_deleted()
                self._retention.write(self._ledger)
            steps = self._pruning.delete(found.job)
            next(steps, None)
            if os.path.lexists(self._pruning.folder_of(found.job)):
                return False
            self.tally.count_deleted(found)
            yield from steps
            return True
        return False

    def trim(self, job: EndedJob, limit: int) -> int:
        path = f"{self._pruning.folder_of(job)}/output.log"
        freed = trim_ended_log(path, limit)
        if freed:
            self.tally.count_trimmed(freed)
            place = f"{job.status}/{job.id[:8]}/{job.id}/output.log"
            log.info("trimmed path=%s bytes=%d", place, freed)
        return freed
