"""Random histories: pruning deletes what a limit exceeds, and never what a rule keeps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from past_jobs import left_in, put_ended, trust_clock
from past_jobs import prune as prune_folder

from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.keep_rules import Bound, EndedJob, Facts, Origin, Prunable, Rules
from tailboard.prune_pass import Deletion, DryRun, PrunePass, dry_run
from tailboard.saved_command import SavedCommand
from tailboard.status import FINISHED, Status
from tailboard.values import first_id

HOUR, DAY = 3_600.0, 86_400.0
UNIT = 4_096  # bytes: a block of the file system
FAILED = (Status.FAILED, Status.TIMED_OUT, Status.LOST)
COMMANDS = ("backup", "deploy", "deleted")  # the last one no longer exists
TITLES = ("make", "report")

rules = st.builds(
    Rules,
    keep_runs=st.none() | st.integers(1, 4),
    keep_days=st.none() | st.integers(1, 40),
)


@st.composite
def histories(draw: st.DrawFn, now: float, least: int = 30) -> tuple[list[EndedJob], Facts]:
    """Ended jobs, newest first, and the limits and commands that decide about them. `least`:
    seconds since the end of each."""
    jobs = []
    for number in range(draw(st.integers(0, 25))):
        name = draw(st.sampled_from([*COMMANDS, *TITLES]))
        saved = name if name in COMMANDS else None
        ended_at = now - draw(st.integers(0, 60)) * DAY - draw(st.integers(0, 3)) * HOUR / 2
        ended_at -= draw(st.sampled_from([least, 60]))
        jobs.append(
            EndedJob(
                id=first_id(now - 61 * DAY + number * HOUR),
                status=draw(st.sampled_from(FINISHED)),
                ended_at=ended_at,  # a job can end long after those that were submitted later
                origin=Origin(name, saved, draw(rules)),
                log_bytes=draw(st.integers(0, 5)) * UNIT,
                files_bytes=draw(st.integers(0, 2)) * UNIT,
            )
        )
    awaited = draw(st.lists(st.sampled_from([job.id for job in jobs]), max_size=2)) if jobs else []
    facts = Facts(
        now=now,
        days=draw(st.sampled_from([0, 1, 30])),
        max_bytes=draw(st.sampled_from([0, 1, 10, 40])) * UNIT,
        trusts_clock=draw(st.booleans()),
        commands={"backup": draw(rules), "deploy": draw(st.none() | rules)},
        awaited=dict.fromkeys(awaited, "a-queued-job"),
    )
    return jobs[::-1], facts


class Rulebook:
    """The rules once more, one job at a time: slow, but obviously right."""

    def __init__(self, jobs: Sequence[EndedJob], facts: Facts) -> None:
        self.jobs, self.facts = jobs, facts

    def rules_of(self, job: EndedJob) -> Rules:
        current = self.facts.commands.get(job.origin.saved or "")
        return job.origin.rules if current is None else current

    def newer_runs(self, job: EndedJob) -> list[EndedJob]:
        return [o for o in self.jobs if o.id > job.id and o.origin.group == job.origin.group]

    def is_too_old(self, job: EndedJob) -> bool:
        days = self.facts.days
        if self.rules_of(job).keep_runs is not None:
            days = 0
        if self.rules_of(job).keep_days is not None:
            days = self.rules_of(job).keep_days or 0
        too_old = job.ended_at < self.facts.now - days * DAY
        return bool(days) and self.facts.trusts_clock and too_old

    def is_too_much(self, job: EndedJob) -> bool:
        most = self.rules_of(job).keep_runs
        if self.facts.now - job.ended_at < 60:
            return False
        return most is not None and len(self.newer_runs(job)) >= most

    def is_last_of_its_kind(self, job: EndedJob) -> bool:
        if job.origin.saved not in self.facts.commands:
            return False
        kind = [Status.SUCCEEDED] if job.status is Status.SUCCEEDED else FAILED
        return job.status in kind and not any(o.status in kind for o in self.newer_runs(job))

    def must_keep(self, job: EndedJob) -> bool:
        return job.id in self.facts.awaited or self.is_last_of_its_kind(job)

    def may_save_bytes(self, job: EndedJob) -> bool:
        return not self.must_keep(job) and self.facts.now - job.ended_at >= HOUR

    def has_rules(self, job: EndedJob) -> bool:
        return self.rules_of(job) != Rules(None, None)

    def check(self, deleted: Mapping[str, Bound]) -> None:
        """Are exactly the right jobs deleted?"""
        left = [job for job in self.jobs if job.id not in deleted]
        for job in self.jobs:
            bound = deleted.get(job.id)
            is_overdue = self.is_too_old(job) or self.is_too_much(job)
            if self.must_keep(job):
                assert bound is None, f"{job} must be kept"
            elif is_overdue:
                assert bound in ("age", "runs"), f"{job} must be deleted"
            elif bound is not None:
                assert bound == "bytes" and self.may_save_bytes(job), f"{job} must be kept"
        self.check_bytes(left, [job for job in self.jobs if deleted.get(job.id) == "bytes"])

    def check_bytes(self, left: Sequence[EndedJob], deleted: Sequence[EndedJob]) -> None:
        """`deleted`: the jobs that were deleted to save bytes."""
        most, size = self.facts.max_bytes, total(left)
        others = [job for job in left if job.size and self.may_save_bytes(job)]
        assert not most or size <= most or not others, "too many bytes are left"
        assert not deleted or most, "there is no limit of bytes"
        needs_all = any(map(self.has_rules, deleted))  # then no job without rules is left
        for job in deleted:
            if self.has_rules(job) or not needs_all:
                assert size + job.size > most, f"there was room for {job}"
            for other in others:
                if self.has_rules(job):
                    assert self.has_rules(other), "jobs without rules go first"
                if self.has_rules(job) == self.has_rules(other) and other.id < job.id:
                    assert other.size < job.size, "older jobs go first"


def total(jobs: Iterable[EndedJob]) -> int:
    return sum(job.log_bytes + job.files_bytes for job in jobs)


def prune(jobs: Sequence[EndedJob], facts: Facts) -> dict[str, Bound]:
    """What a pass without a limit per hour deletes: ID -> bound."""
    found = list(dry_run(lambda: iter(jobs), facts, trims=False))[-1]
    return {each.job.id: each.bound for each in found}


NOW = 1_780_000_000.0


@settings(max_examples=200, deadline=None)
@given(histories(NOW))
def test_a_pass_deletes_exactly_the_jobs_that_no_rule_keeps(
    history: tuple[list[EndedJob], Facts],
) -> None:
    jobs, facts = history
    Rulebook(jobs, facts).check(prune(jobs, facts))


@settings(max_examples=50, deadline=None)
@given(histories(NOW))
def test_a_second_pass_finds_nothing_more(history: tuple[list[EndedJob], Facts]) -> None:
    jobs, facts = history
    deleted = prune(jobs, facts)
    assert prune([job for job in jobs if job.id not in deleted], facts) == {}


@settings(max_examples=50, deadline=None)
@given(histories(NOW), st.integers(0, 3))
def test_the_limit_per_hour_lets_the_oldest_be_deleted(
    history: tuple[list[EndedJob], Facts], most: int
) -> None:
    jobs, facts = history
    due = [job_id for job_id, bound in prune(jobs, facts).items() if bound != "bytes"]
    pruner = DryRun(lambda: iter(jobs), trims=False)
    list(PrunePass(pruner, facts, most).run())
    deleted = [each.job.id for each in pruner.found.values() if each.bound != "bytes"]
    assert deleted == sorted(due)[:most]


class InUse(DryRun):
    """Does not delete the job A, which is being read."""

    def delete(self, found: Prunable) -> Deletion:
        return (yield from super().delete(found)) if found.job.id != "A" else False


def test_a_job_that_cannot_be_deleted_takes_its_room() -> None:
    origin = Origin("make", None, Rules())
    jobs = [
        EndedJob(name, Status.SUCCEEDED, NOW - DAY, origin, size * UNIT, 0)
        for name, size in (("C", 3), ("B", 1), ("A", 11), ("0", 6))
    ]
    facts = Facts(NOW, 0, 10 * UNIT, True, {}, {})
    pruner = InUse(lambda: iter(jobs), trims=False)
    list(PrunePass(pruner, facts, 100).run())
    assert pruner.found.keys() == {"0"}


# --- A real folder --------------------------------------------------------------------------------


def make_folder(root: Path, jobs: Sequence[EndedJob], facts: Facts) -> FolderStore:
    storage = FolderStore(root)
    trust_clock(storage, facts.trusts_clock)
    for job in jobs:
        saved, group = job.origin.saved, job.origin.group
        put_ended(
            storage,
            job.ended_at,
            job.status,
            job.id,
            job.log_bytes,
            job.files_bytes,
            saved=saved,
            name=None if saved else group,
            **job.origin.rules._asdict(),
        )
    for name, current in facts.commands.items():
        if current is None:  # damaged
            Path(storage.root, "saved").mkdir(exist_ok=True)
            Path(storage.root, "saved", f"{name}.json").write_text("{")
        else:
            storage.saved.save(SavedCommand(saved=name, command="true", **current._asdict()))
    for parent in facts.awaited:
        storage.submit(Job(command="true", after=[parent]))
    return storage


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.deferred(lambda: histories(time.time(), least=60)))  # of now, not of the import
def test_a_folder_is_pruned_by_these_rules(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[list[EndedJob], Facts]
) -> None:
    jobs, facts = history
    storage = make_folder(tmp_path_factory.mktemp("jobs"), jobs, facts)
    *_, found = storage.prunable(facts.days, facts.max_bytes)
    due: dict[str, Bound] = {each.job.id: each.bound for each in found}
    prune_folder(storage, facts.days, facts.max_bytes)
    assert left_in(storage) == {job.id for job in jobs} - due.keys()
    Rulebook(jobs, facts).check(due)
