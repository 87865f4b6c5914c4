"""Deleting the ended jobs from Redis that the rules no longer keep."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator

from tailboard.folder.retention import CLOCK_TOLERANCE, Retention, Tally, limits_in
from tailboard.keep_rules import EndedJob, Facts, KeepLimits, Prunable
from tailboard.machines.answers import none_if_damaged
from tailboard.machines.redis_ended import RedisAwaited, RedisEnded
from tailboard.machines.redis_jobs import RedisJobs
from tailboard.machines.redis_saved import RedisSaved
from tailboard.prune_pass import Deletion, PrunePass, Pruner, Scan, dry_run
from tailboard.saved_rules import SavedRules


class RedisPruning:
    """Finds and deletes them. It remembers what it has read of each job."""

    def __init__(self, jobs: RedisJobs, saved: RedisSaved) -> None:
        self._jobs, self.link = jobs, jobs.link
        self._rules = SavedRules(saved)
        self.awaited = RedisAwaited(jobs)
        self._ended = RedisEnded(jobs)

    def run(
        self, retention: Retention, days: int, max_bytes: int, trusts_clock: bool
    ) -> Iterator[None]:
        """See `RelayStore.prune`, the contract."""
        limits = json.dumps(KeepLimits(days, max_bytes)._asdict())
        self.link.ask(("SET", self.link.key("keep-limits"), limits))
        yield from self.awaited.refresh()
        facts = self._facts(days, max_bytes, trusts_clock)
        allowance = retention.allowance(sum(self._jobs.finished_totals().values()))
        pruner = RedisPruner(self, facts, retention)
        steps = PrunePass(pruner, facts, allowance)
        yield from steps.run()
        pruner.tally.write_log(steps.kept)

    def limits(self) -> KeepLimits | None:
        """See `Jobs.keep_limits`, the contract."""
        (answer,) = self.link.try_all([("GET", self.link.key("keep-limits"))])
        return limits_in(none_if_damaged(answer) or b"")

    def prunable(self, days: int, max_bytes: int) -> Iterator[Collection[Prunable]]:
        """See `Jobs.prunable`. Only the workers know whether the clock of Redis can be trusted, so
        it must agree with ours."""
        for _ in self.awaited.refresh():
            pass
        trusts_clock = abs(self.link.now() - time.time()) < CLOCK_TOLERANCE
        facts = self._facts(days, max_bytes, trusts_clock)
        return dry_run(self.scan, facts, trims=False)

    def _facts(self, days: int, max_bytes: int, trusts_clock: bool) -> Facts:
        now, waiting = self.link.now(), self.awaited.waiting
        return Facts(now, days, max_bytes, trusts_clock, self._rules.all(), waiting)

    def scan(self) -> Scan:
        return self._ended.scan()

    def is_still_due(self, found: Prunable, facts: Facts) -> bool:
        """Can the job be deleted? Not while its log is being read, and not if what has decided has
        changed since the pass began."""
        job, guard = found.job, found.guard
        if job.id in self.awaited.waiting:
            return False
        commands = [("EXISTS", self.link.key(f"reading:{job.id}"))]
        if guard is not None:
            commands.append(("EXISTS", self.link.key(f"state:{guard}")))
        is_read, *has_guard = self.link.ask(*commands)
        if is_read or not all(has_guard):
            return False
        saved = job.origin.saved
        return saved is None or self._rules.of(saved) == facts.commands.get(saved)

    def delete(self, job: EndedJob) -> Deletion:
        """Delete a job, unless another waits for it by now."""
        while (answer := self.link.run("delete", job.id, self.awaited.seen)) == b"awaited":
            yield from self.awaited.refresh()
            if job.id in self.awaited.waiting:
                return False
        return bool(answer == b"deleted")


class RedisPruner(Pruner):
    """Deletes the jobs of one pass, and counts them."""

    def __init__(self, pruning: RedisPruning, facts: Facts, retention: Retention) -> None:
        self._pruning, self._facts, self._retention = pruning, facts, retention
        self.tally = Tally(facts.max_bytes)

    def scan(self) -> Scan:
        return self._pruning.scan()

    def delete(self, found: Prunable) -> Deletion:
        if not self._pruning.is_still_due(found, self._facts):
            return False
        if found.bound != "bytes":
            self._retention.count_deleted()
        is_deleted = yield from self._pruning.delete(found.job)
        if is_deleted:
            self.tally.count_deleted(found)
        return is_deleted

    def trim(self, job: EndedJob, limit: int) -> int:
        """Redis keeps only the end of each log."""
        return 0
