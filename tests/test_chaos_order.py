"""Chaos with limits, keys and chains of jobs, while workers are killed: `--chaos-order 5000` is the
long run. What ran when is taken from the jobs' own notes of their starts and ends."""

from __future__ import annotations

import random
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Processes, RedisServer, quick_worker

from storage import Store
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.machines.redis_store import RedisStore
from tailboard.status import FINISHED, Status

LIMITS = {"single": 1, "double": 2}  # and the queue "free" has none
QUEUES = [*LIMITS, "free"]
KEYS = 20
MACHINES = ("a", "b", "c")
KILL_INTERVAL = 0.5  # seconds
LONG = 500  # jobs
NOTE = 'note() {{ echo "$JOB_ID $1 $(date +%s%N)" >>{notes}; }}; '


class Planned(NamedTuple):
    """A submitted job, and how it must end."""

    job: Job
    status: Status


class Run(NamedTuple):
    """When a job ran, in nanoseconds by its own clock."""

    start: int
    end: int


class Plan:
    """Chains of three jobs, over three queues and with twenty keys; some of them fail."""

    def __init__(self, store: Store, notes: Path, dice: random.Random) -> None:
        self.store, self.notes, self.dice = store, notes, dice
        self.jobs: dict[str, Planned] = {}
        notes.touch()

    def submit(self, count: int) -> None:
        for queue, limit in LIMITS.items():
            self.store.limits.set(queue, limit)
        while len(self.jobs) < count:
            parent = self.submit_one(None)
            for _ in range(2):
                parent = self.submit_one(parent)

    def submit_one(self, parent: Planned | None) -> Planned:
        """A job that waits for `parent`; it expects its success, or only its end."""
        expects, code = self.dice.choice(("succeeded", "ended")), self.dice.choice((0, 0, 0, 1))
        work = f"note start; sleep 0.0{self.dice.randrange(1, 6)}; note end; exit {code}"
        job = self.store.submit(
            Job(
                command=NOTE.format(notes=self.notes) + work,
                queue=self.dice.choice(QUEUES),
                key=self.dice.choice((None, f"key {self.dice.randrange(KEYS)}")),
                urgent=self.dice.random() < 0.1,
                after=[parent.job.id] if parent else [],
                after_status=expects,
            )
        )
        status = Status.FAILED if code else Status.SUCCEEDED
        if parent and expects == "succeeded" and parent.status is not Status.SUCCEEDED:
            status = Status.CANCELLED
        self.jobs[job.id] = Planned(job, status)
        return self.jobs[job.id]

    def is_over(self) -> bool:
        counts = self.store.counts()
        return sum(counts[status] for status in FINISHED) == len(self.jobs)

    def check(self) -> None:
        runs = self.read_runs()
        found = {job_id: self.store.get(job_id) for job_id in self.jobs}
        assert {i: job.status for i, job in found.items()} == {
            i: planned.status for i, planned in self.jobs.items()
        }
        for job_id, job in found.items():
            assert (job_id in runs) is (job.status is not Status.CANCELLED)
            if job.status is Status.CANCELLED:
                assert (job.reason or "").startswith(job.after[0]), job.reason
            for parent in job.after if job_id in runs else ():
                assert parent not in runs or runs[parent].end <= runs[job_id].start
        self.check_overlaps(runs)

    def read_runs(self) -> dict[str, Run]:
        """The run of each job that ran: each has one start and one end."""
        notes: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for line in self.notes.read_text().splitlines():
            job_id, what, at = line.split()
            notes[job_id].append((what, int(at)))
        for job_id, lines in notes.items():
            assert [what for what, _ in lines] == ["start", "end"], (job_id, lines)
        return {i: Run(start, end) for i, ((_, start), (_, end)) in notes.items()}

    def check_overlaps(self, runs: dict[str, Run]) -> None:
        """At no time more jobs of a queue ran than its limit allows, or two jobs with one key."""
        groups: dict[str, list[Run]] = defaultdict(list)
        for job_id, run in runs.items():
            job = self.jobs[job_id].job
            groups[job.queue].append(run)
            groups[job.key or ""].append(run)
        allowed = LIMITS | {key: 1 for key in groups if key.startswith("key ")}
        for name, most in allowed.items():
            assert most_at_once(groups[name]) <= most, name
        if len(runs) > LONG:  # a few short jobs may each end before the next one starts
            assert most_at_once(groups["free"]) > 1


def most_at_once(runs: list[Run]) -> int:
    """How many of these runs overlapped, at most."""
    changes = sorted([(run.start, 1) for run in runs] + [(run.end, -1) for run in runs])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


def kill_again_and_again(
    start: Callable[[str], subprocess.Popen[bytes]],
    names: tuple[str, ...],
    dice: random.Random,
    is_over: Callable[[], bool],
) -> int:
    """Kills one of the workers twice a second until all jobs have ended; returns how often."""
    workers = {name: start(name) for name in names}
    kills = 0
    while not is_over():
        name = dice.choice(names)
        try:
            code = workers[name].wait(KILL_INTERVAL)
        except subprocess.TimeoutExpired:
            workers[name].kill()
            workers[name].wait()
            kills += 1
        else:
            raise AssertionError(f"worker {name} ended by itself, {code}")
        workers[name] = start(name)
    return kills


@pytest.fixture
def plan_size(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--chaos-order"))


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"chaos-order: {seed=}")
    return random.Random(seed)


@pytest.mark.timeout(3600)
def test_limits_keys_and_chains_survive_killed_workers(
    folder: Path, processes: Processes, tmp_path: Path, dice: random.Random, plan_size: int
) -> None:
    plan = Plan(FolderStore(folder), tmp_path / "notes", dice)
    plan.submit(plan_size)

    def start(name: str) -> subprocess.Popen[bytes]:
        command = (*quick_worker(), "--slots", "4")
        return processes.start(*command, TAILBOARD_STORAGE=str(folder))

    begun = time.monotonic()
    kills = kill_again_and_again(start, ("a", "b"), dice, plan.is_over)
    seconds = time.monotonic() - begun
    print(f"chaos-order: {len(plan.jobs)} jobs in a folder, {kills} kills, {seconds:.0f} s")
    plan.check()


@pytest.mark.timeout(3600)
def test_limits_keys_and_chains_survive_killed_machines(
    redis: RedisServer, processes: Processes, tmp_path: Path, dice: random.Random, plan_size: int
) -> None:
    store = RedisStore(redis.url)
    plan = Plan(store, tmp_path / "notes", dice)
    plan.submit(plan_size)
    (tmp_path / "spools").mkdir()

    def start(name: str) -> subprocess.Popen[bytes]:
        spool = str(tmp_path / "spools" / name)
        command = (*quick_worker(), "--slots", "3")
        return processes.start(*command, TAILBOARD_STORAGE=redis.url, TAILBOARD_SPOOL=spool)

    begun = time.monotonic()
    kills = kill_again_and_again(start, MACHINES, dice, plan.is_over)
    seconds = time.monotonic() - begun
    where = f"{len(plan.jobs)} jobs on {len(MACHINES)} machines"
    print(f"chaos-order: {where}, {kills} kills, {seconds:.0f} s")
    plan.check()
    store.close()
