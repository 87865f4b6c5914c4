"""Whatever is killed at any moment, each job runs once, and each exit code is the real one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    Gate,
    Processes,
    SmallDisk,
    all_end,
    is_alive,
    need,
    pids_in,
    quick_worker,
    start_shim,
    wait_until,
)
from past_jobs import left_in, prune, put_ended

from storage import load_logs
from tailboard.errors import JobNotFound, WrongState
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.notices import Kind
from tailboard.saved_command import SavedCommand
from tailboard.status import FINISHED, Status
from tailboard.values import parse_time, utc

HOST = socket.gethostname()
Worker = Callable[..., subprocess.Popen[bytes]]


def rewrite(journal: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Changes the lines of a journal in place, which keeps its lock; None drops a line."""
    lines = [json.loads(line) for line in journal.read_text().split("\n") if line]
    kept = [changed for line in lines if (changed := change(line)) is not None]
    journal.write_text("".join(f"\n{json.dumps(line)}\n" for line in kept))


def drop_exit(folder: Path) -> Path:
    """Drops the exit code, as if the shim had been killed together with the command."""
    rewrite(folder / "journal", lambda line: None if "exit" in line else line)
    return folder


def claimed_as(folder: Path, **fields: object) -> None:
    """Changes the contents of the claim."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        return {"claimed": line["claimed"] | fields} if "claimed" in line else line

    rewrite(folder / "journal", change)


def has_exited(journal: Path) -> bool:
    return '"exit"' in journal.read_text()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


# --- The crash matrix -----------------------------------------------------------------------------


class Case:
    """One case of the matrix, played in a folder of its own."""

    def __init__(self, place: Path, processes: Processes, shell: str = "/bin/sh") -> None:
        """`shell` runs the shims."""
        self.place, self.processes, self.shell = place, processes, shell
        self.folder, self.tally = place / "jobs", place / "tally"
        self.storage = FolderStore(self.folder)
        self.ids: list[str] = []
        self.env: dict[str, str] = {}  # of its workers
        self.look: Callable[[], None] = lambda: None  # what is checked when the worker is dead

    def submit(self, command: str | list[str], **fields: Any) -> Job:
        job = self.storage.submit(Job(command=command, **fields))
        self.ids.append(job.id)
        return job

    def tallying(self, line: str, **fields: Any) -> Job:
        return self.submit(f"echo $JOB_ID.$JOB_ATTEMPT >>{self.tally}; {line}", **fields)

    def left_by_a_dead_worker(self, line: str, starts: bool = True, **fields: Any) -> Path:
        """A job that a worker claimed and whose shim ended after the worker had died."""
        job = self.tallying(line, **fields)
        claim = self.storage.claim("dead", HOST)
        assert claim
        with claim:
            if starts:
                words = "/bin/sh", "-c", str(job.command)
                env = os.environ | {"JOB_ID": job.id, "JOB_ATTEMPT": "1"}
                with claim.open_log_for_append() as log:
                    shell = self.shell
                    start_shim(claim.shim_input(), log, *words, env=env, executable=shell).wait()
        return Path(claim.folder)

    def die_at(self, number: int, *arguments: str, **options: str) -> list[str]:
        """Kills it before that step; returns the names of the steps that it reached."""
        steps = self.place / "steps"
        env = {"TAILBOARD_STORAGE": str(self.folder), "TEST_SHELL": self.shell} | self.env
        code = self.processes.fork(
            number=number, steps=str(steps), do=arguments, env=env, **options
        )
        assert code in (0, -signal.SIGKILL), self.processes.text()
        return steps.read_text().splitlines()

    def worker_dies_at(self, number: int) -> list[str]:
        return self.die_at(number, "worker", "--drain", "--slots", "1")

    def cancel_at(self, number: int) -> tuple[bool, list[str]]:
        """Cancels the job while its worker waits before that step. Returns whether the request was
        accepted, and the names of the worker's steps."""
        gate, steps = self.place / "gate", self.place / "steps"
        os.mkfifo(gate)
        with ThreadPoolExecutor(2) as pool:
            life = pool.submit(
                self.die_at, number, "worker", "--drain", "--slots", "1", gate=str(gate)
            )
            wait_until(lambda: life.done() or count_lines(steps) >= number)
            answer = pool.submit(self.is_cancelled)
            try:
                wait_until(lambda: answer.done() or self.has_request() or life.done())
            finally:
                if not life.done():
                    os.close(os.open(gate, os.O_WRONLY))
            return answer.result(), life.result()

    def is_cancelled(self) -> bool:
        try:
            self.storage.cancel(self.ids[0], "enough")
        except WrongState:
            return False
        return True

    def has_request(self) -> bool:
        places = ("queued/default", "running")
        return any((self.folder / place / self.ids[0] / "cancel").exists() for place in places)

    def recover(self) -> None:
        """A worker that is killed while it starts a process leaves a child for a moment, which
        still has its locks. A worker that comes then finds the job supervised, and drains."""

        def is_recovered() -> bool:
            self.die_at(0, "worker", "--drain", "--slots", "1")
            return self.storage.counts()[Status.RUNNING] == 0

        wait_until(is_recovered)

    def tallied(self) -> list[str]:
        return self.tally.read_text().split() if self.tally.exists() else []

    def check(self, status: Status, exit_code: int | None, attempts: int = 1) -> None:
        """Checks that no job is lost, each attempt ran once, and each exit code is the real one."""
        for job_id in self.ids:
            job = self.storage.get(job_id)
            assert (job.status, job.exit_code, job.attempt) == (status, exit_code, attempts)
            assert job.started_at and job.finished_at and job.started_at <= job.finished_at
        wanted = [f"{job_id}.{n}" for job_id in self.ids for n in range(1, attempts + 1)]
        assert self.tallied() == wanted
        counts = self.storage.counts()
        assert counts == {s: len(self.ids) if s is status else 0 for s in Status}


def ends(case: Case) -> Callable[[], None]:
    case.tallying("exit 7")
    return lambda: case.check(Status.FAILED, 7)


def ends_and_notifies(case: Case) -> Callable[[], None]:
    """Someone is notified of the end: if that has not happened yet, it is still requested."""
    job = case.tallying("exit 7", notify=[{"on": ["failed"], "to": "ops"}])

    def check() -> None:
        case.check(Status.FAILED, 7)
        ends = [each.job_id for each in case.storage.notices.requests(4e9) if each.kind == Kind.END]
        events = [notice.event for notice in case.storage.notices.load(job.id).notices]
        assert (ends, events) in (([job.id], []), ([job.id], ["failed"]), ([], ["failed"]))

    return check


def is_retried(case: Case) -> Callable[[], None]:
    job = case.tallying("exit $((JOB_ATTEMPT + 3))", retries=1)

    def check() -> None:
        case.check(Status.FAILED, 5, attempts=2)
        assert set(load_logs(case.storage, job.id).splitlines()) == {"--- attempt 2 ---"}

    return check


def is_retried_later(case: Case) -> Callable[[], None]:
    job = case.tallying("exit $((JOB_ATTEMPT + 3))", retries=1, retry_delay=0.3)

    def check() -> None:
        case.check(Status.FAILED, 5, attempts=2)
        attempts = case.storage.get(job.id).attempts_as_dicts()
        first, second = (attempt for attempt in attempts if attempt["status"])
        paused = parse_time(second["started_at"]) - parse_time(first["finished_at"])
        assert paused >= 0.299, "both are told to the millisecond"

    return check


def has_a_secret_param(case: Case) -> Callable[[], None]:
    """Each attempt gets its value, which is deleted before the job ends."""
    line = f"echo $JOB_ID.$JOB_ATTEMPT >>{case.tally}; exit $((${{#PASSWORD}} + JOB_ATTEMPT))"
    sealed: dict[str, Any] = {"secret_params": ["PASSWORD"], "secret_values": {"PASSWORD": "1234"}}
    case.submit(line, retries=1, **sealed)

    def check() -> None:
        case.check(Status.FAILED, 6, attempts=2)
        assert not list(case.folder.rglob("secret-params"))

    return check


def is_a_script(case: Case) -> Callable[[], None]:
    """Its file is written before the start of each attempt."""
    line = f"echo $JOB_ID.$JOB_ATTEMPT >>{case.tally}; exit $((JOB_ATTEMPT + 3))"
    case.submit(f"#!/bin/sh -e\n{line}\n", retries=1)
    return lambda: case.check(Status.FAILED, 5, attempts=2)


def has_files(case: Case) -> Callable[[], None]:
    """They are kept from one attempt to the next."""
    job = case.tallying("echo $JOB_ATTEMPT >>$JOB_FILES/a; exit $((JOB_ATTEMPT + 3))", retries=1)

    def check() -> None:
        case.check(Status.FAILED, 5, attempts=2)
        (file,) = case.folder.glob("failed/*/*/files/*")
        assert file.read_text() == "1\n2\n"
        assert case.storage.get(job.id).files_count == 1

    return check


def has_a_secret(case: Case) -> Callable[[], None]:
    """It prints the secret twice in each attempt. Readers never see it, and no file has it then."""
    secrets, value = case.place / "secrets", "correct horse"
    secrets.mkdir(mode=0o700)
    (secrets / "S").touch(mode=0o600)
    (secrets / "S").write_text(value)
    case.env["TAILBOARD_SECRETS"] = str(secrets)
    line = 'echo "$S, $S"; exit $((JOB_ATTEMPT + 3))'
    job = case.tallying(line, retries=1, secrets=["S"])

    def look() -> None:
        with suppress(FileNotFoundError):  # it has no log yet
            seen = load_logs(case.storage, job.id)
            assert not any(part in seen for part in (value[:6], value[6:])), seen

    def check() -> None:
        case.check(Status.FAILED, 5, attempts=2)
        masked = f"{'*' * len(value)}, {'*' * len(value)}"
        lines = load_logs(case.storage, job.id).splitlines()
        assert set(lines) == {masked, "--- attempt 2 ---"}
        assert case.storage.get(job.id).hint == masked
        files = [path for path in case.folder.rglob("*") if path.is_file()]
        assert [path for path in files if value.encode() in path.read_bytes()] == []
        assert not [path for path in files if path.name == "secrets"]

    case.look = look
    return check


def times_out(case: Case) -> Callable[[], None]:
    os.mkfifo(case.place / "never")
    job = case.tallying(f"exec cat {case.place}/never", timeout=0.3)

    def check() -> (
        None
    ):  # on a busy machine, SIGTERM may come before the command; then SIGKILL follows
        code = case.storage.get(job.id).exit_code
        case.check(Status.TIMED_OUT, 137 if code == 137 else 143)

    return check


def cannot_start(case: Case) -> Callable[[], None]:
    job = case.submit("true", cwd="/no/such/folder")

    def check() -> None:
        found = case.storage.get(job.id)
        assert (found.status, found.exit_code) == (Status.FAILED, None)
        assert "/no/such/folder" in load_logs(case.storage, job.id)

    return check


def has_no_shell(case: Case) -> Callable[[], None]:
    case.shell = need("false")
    job = case.tallying("exit 7", retries=1)

    def check() -> None:
        found = case.storage.get(job.id)
        assert (found.status, found.exit_code, found.attempt) == (Status.FAILED, None, 1)
        assert found.reason and found.reason.startswith("cannot start")
        assert case.tallied() == []

    return check


def ended_meanwhile(case: Case) -> Callable[[], None]:
    journal = case.left_by_a_dead_worker("exit 7") / "journal"
    os.utime(journal, (4_000_000_000, 4_000_000_000))

    def check() -> None:
        case.check(Status.FAILED, 7)
        finished = case.storage.get(case.ids[0]).finished_at
        assert finished and finished.startswith("2096-10-02"), "the end's time"

    return check


def was_lost(case: Case) -> Callable[[], None]:
    drop_exit(case.left_by_a_dead_worker("exit 7", retries=1))
    return lambda: case.check(Status.FAILED, 7, attempts=2)


def never_started(case: Case) -> Callable[[], None]:
    case.left_by_a_dead_worker("exit 7", starts=False)
    return lambda: case.check(Status.FAILED, 7)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "scene",
    [
        ends,
        ends_and_notifies,
        is_retried,
        is_retried_later,
        is_a_script,
        has_files,
        has_a_secret,
        has_a_secret_param,
        times_out,
        cannot_start,
        has_no_shell,
        ended_meanwhile,
        was_lost,
        never_started,
    ],
    ids=lambda scene: scene.__name__,
)
def test_a_worker_killed_at_any_step_loses_nothing(
    tmp_path: Path,
    processes: Processes,
    scene: Callable[[Case], Callable[[], None]],
    full: bool,
    pytestconfig: pytest.Config,
) -> None:
    shell = pytestconfig.getoption("--shell")
    assert find_broken(tmp_path, processes, scene, full, shell) == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scene", [ends, was_lost], ids=lambda scene: scene.__name__)
def test_a_worker_killed_at_any_step_loses_nothing_if_sh_is_bash(
    tmp_path: Path, processes: Processes, scene: Callable[[Case], Callable[[], None]]
) -> None:
    assert find_broken(tmp_path, processes, scene, False, need("bash")) == []


def find_broken(
    tmp_path: Path,
    processes: Processes,
    scene: Callable[[Case], Callable[[], None]],
    full: bool,
    shell: str,
) -> list[str]:
    """For each step, kills a worker there and starts a clean one: the job must have run once and
    have its real outcome. Returns the steps after which that is not so, each with the reason."""
    alive = Case(tmp_path / "0", processes, shell)
    check = scene(alive)
    steps = alive.worker_dies_at(0)
    check()

    def play(number: int) -> str:
        case = Case(tmp_path / str(number), processes, shell)
        check = scene(case)
        came_to = case.worker_dies_at(number)
        try:
            case.look()
            case.recover()
            check()
        except AssertionError as error:
            return f"killed before step {number}, {' then '.join(came_to[-3:])}: {error}"
        return ""

    return [reason for reason in play_all(play, chosen(steps, alive.ids[0], full)) if reason]


def play_all(play: Callable[[int], Any], numbers: list[int]) -> list[Any]:
    """Plays a few at a time: each has its own folder and mostly waits."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(play, numbers))


def count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_cancel_at_any_step_of_the_worker_is_refused_or_carried_out(
    tmp_path: Path, processes: Processes, retries: int, full: bool
) -> None:
    alive = Case(tmp_path / "0", processes)
    alive.tallying("exit 7", retries=retries)
    steps = alive.die_at(0, "worker", "--drain", "--slots", "1", gate="unused")

    def play(number: int) -> bool:
        case = Case(tmp_path / str(number), processes)
        job = case.tallying("exit 7", retries=retries)
        is_accepted, came_to = case.cancel_at(number)
        case.recover()
        found = case.storage.get(job.id)
        wanted = Status.CANCELLED if is_accepted else Status.FAILED
        assert (found.status, found.reason) == (wanted, "enough" if is_accepted else None), (
            f"cancelled before step {number}, {' then '.join(came_to[number - 3 : number])}"
        )
        assert is_accepted or not (case.folder / "failed" / job.id[:8] / job.id / "cancel").exists()
        return is_accepted

    answers = play_all(play, chosen(steps, alive.ids[0], full))
    assert {True, False} == set(answers)


def chosen(steps: list[str], job_id: str, full: bool) -> list[int]:
    """The numbers of the steps to die at: all, or those that change the job's folder or start a
    process, and the steps after them."""
    if full:
        return list(range(1, len(steps) + 1))
    first = next(n for n, name in enumerate(steps) if job_id in name)
    telling = ("rename", "fork_exec", "write", "fsync", "unlink")
    return [n for n, name in enumerate(steps, 1) if n > first and any(t in name for t in telling)]


def test_recording_an_end_shares_an_fsync_with_the_next_claim(
    tmp_path: Path, processes: Processes
) -> None:
    """The line is written before it: ext4 with a journal then brings both to the disk at once."""
    case = Case(tmp_path, processes)
    first, second = (case.tallying("exit 7") for _ in range(2))
    steps = case.worker_dies_at(0)
    case.check(Status.FAILED, 7)
    lines = [n for n, step in enumerate(steps) if step == f"write {first.id}/journal bytes"]
    waits = [n for n, step in enumerate(steps) if step == f"fsync {first.id}/journal"]
    assert len(lines) == len(waits) == 2, "its claim and its end"
    assert lines[1] < steps.index(f"fsync {second.id}/journal") < waits[1]


def test_a_submit_creates_all_files_before_it_syncs(tmp_path: Path, processes: Processes) -> None:
    """So the first fsync also brings their names to the disk, if the file system does that."""
    case = Case(tmp_path, processes)
    steps = case.die_at(0, "submit", str(case.folder), "", "true")
    (job,), _ = case.storage.list()
    calls = [step.split()[0] for step in steps if f" {job.id}/" in step]
    assert calls == ["open", "close", "open", "close", "mkdir", "open", "fsync"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("key", ["", "key"])
def test_a_submit_killed_at_any_step_leaves_a_complete_job_or_none(
    tmp_path: Path, processes: Processes, key: str, full: bool
) -> None:
    alive = Case(tmp_path / "0", processes)
    command = f"echo $JOB_ID.$JOB_ATTEMPT >>{alive.tally}; exit 7"
    steps = alive.die_at(0, "submit", str(alive.folder), key, command)
    assert steps[-3].startswith("rename"), steps

    def play(number: int) -> None:
        case = Case(tmp_path / str(number), processes)
        line = command.replace("/0/", f"/{number}/")
        case.die_at(number, "submit", str(case.folder), key, line)
        jobs, _ = case.storage.list()
        assert len(jobs) == (number > len(steps) - 2), steps[number - 1]
        case.ids = [job.id for job in jobs]
        if key:  # a client without a response asks again
            again = case.storage.submit(Job(command=line), key, "1" * 64)
            assert case.ids in ([], [again.id])
            case.ids = [again.id]
        case.recover()
        if case.ids:
            case.check(Status.FAILED, 7)

    skipped = () if full else ("mkdir jobs", "close")
    play_all(play, [n for n, name in enumerate(steps, 1) if not name.startswith(skipped)])


def test_pruning_killed_at_any_step_deletes_whole_jobs_and_none_too_many(
    tmp_path: Path, processes: Processes, full: bool
) -> None:
    """By runs and by bytes. The newest run is kept, and a later pass deletes the rest."""

    def make(number: int) -> tuple[Case, list[str], list[str]]:
        case, now = Case(tmp_path / str(number), processes), time.time()
        case.storage.saved.save(SavedCommand(saved="backup", command="true", keep_runs=1))
        sizes = {"log_bytes": 5_000, "files_bytes": 5_000}
        runs = [
            put_ended(case.storage, now - age * 86_400, saved="backup", **sizes) for age in range(3)
        ]
        return case, runs, [put_ended(case.storage, now - 86_400, **sizes)]

    def is_whole(storage: FolderStore, job_id: str) -> bool:
        with suppress(JobNotFound):
            assert storage.get(job_id).finished_at and len(load_logs(storage, job_id)) == 5_000
            return True
        return False

    def play(number: int) -> list[str]:
        case, (newest, *older), large = make(number)
        steps = case.die_at(number, "prune", str(case.folder), "1")
        left = [job_id for job_id in (*older, *large) if is_whole(case.storage, job_id)]
        assert is_whole(case.storage, newest), steps[-1]
        if any(job_id in left for job_id in older):
            assert large[0] in left, "first those that are too many"
        with suppress(ValueError, FileNotFoundError):
            counted = json.loads((case.folder / "retention").read_text())["deleted"]
            assert counted >= sum(job_id not in left for job_id in older)
        prune(case.storage, max_bytes=1)
        assert left_in(case.storage) == {newest}, steps[-1]
        return steps

    steps = play(0)
    assert sum(step.endswith(".deleted") for step in steps if step.startswith("rename")) == 3, steps
    skipped = () if full else ("close", "flock", "open", "mkdir")
    play_all(play, [n for n, name in enumerate(steps, 1) if not name.startswith(skipped)])


# --- Adoption -------------------------------------------------------------------------------------


def test_a_job_whose_worker_is_killed_keeps_running_and_is_adopted(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    started: Callable[..., Job],
    ended: Callable[..., Job],
    tmp_path: Path,
) -> None:
    gates = [Gate(tmp_path / name) for name in ("one", "two")]
    first = worker()
    line = f"echo started; {gates[0].wait}; echo alone; {gates[1].wait}; echo adopted; exit 9"
    job = started(storage.submit(Job(command=line)))
    kill(first)
    assert list(storage.workers()) == []
    gates[0].open()
    alone = started(job, "alone\n")
    assert (alone.status, alone.pid) == (Status.RUNNING, job.pid)
    second = worker()
    wait_until(lambda: "adopted" in processes.text())
    gates[1].open()
    job = ended(job)
    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 9, 1)
    assert load_logs(storage, job.id) == "started\nalone\nadopted\n"
    assert second.poll() is None
    for gate in gates:
        os.close(gate.fd or -1)


def test_a_job_that_ends_without_a_worker_keeps_its_exit_code_and_time(
    storage: FolderStore,
    worker: Worker,
    drain: Callable[..., None],
    started: Callable[..., Job],
    folder: Path,
    gate: Gate,
) -> None:
    first = worker()
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}; exit 9")))
    kill(first)
    gate.open()
    journal = folder / "running" / job.id / "journal"
    wait_until(lambda: has_exited(journal))
    wait_until(lambda: not is_alive(job.pid or 0))
    os.utime(journal, (4_000_000_000, 4_000_000_000))
    drain()
    job = storage.get(job.id)
    assert (job.status, job.exit_code) == (Status.FAILED, 9)
    assert job.finished_at == "2096-10-02T07:06:40.000Z"


def test_an_adopted_job_keeps_the_rest_of_its_timeout(
    storage: FolderStore,
    worker: Worker,
    started: Callable[..., Job],
    ended: Callable[..., Job],
    folder: Path,
    gate: Gate,
) -> None:
    """The rest follows the monotonic clock; the wall clock at its start does not matter."""
    first = worker()
    jobs = [
        started(storage.submit(Job(command=f"echo started; {gate.wait}", timeout=seconds)))
        for seconds in (100, 100)
    ]
    kill(first)
    for job, monotonic, wall in zip(
        jobs,
        (time.monotonic() - 101, time.monotonic()),
        ("2999-01-01T00:00:00.000Z", "2001-01-01T00:00:00.000Z"),
        strict=True,
    ):
        claimed_as(folder / "running" / job.id, started_monotonic=monotonic, started_at=wall)
    worker()
    overdue = ended(jobs[0])
    assert (overdue.status, overdue.exit_code) == (Status.TIMED_OUT, 143)
    assert overdue.finished_at and overdue.finished_at >= "2999"
    assert storage.get(jobs[1].id).status is Status.RUNNING
    gate.open()
    assert ended(jobs[1]).status is Status.SUCCEEDED


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_adopted_job_is_cancelled_with_everything_it_started(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    ended: Callable[..., Job],
    tmp_path: Path,
    when: str,
) -> None:
    """The request may come before or after the adoption."""
    never = tmp_path / "never"
    os.mkfifo(never)
    stay = f"sh -c 'trap \"\" TERM; echo $$ >>{tmp_path}/pids; read _ <{never}; read _ <{never}'"
    first = worker()
    job = storage.submit(Job(command=f"setsid {stay} & {stay}", retries=2))
    pids = pids_in(tmp_path / "pids", 2)
    kill(first)
    if when == "before":
        storage.cancel(job.id, "meanwhile")
    worker()
    wait_until(lambda: "adopted" in processes.text())
    if when == "after":
        storage.cancel(job.id, "meanwhile")
    job = ended(job)
    assert (job.status, job.exit_code, job.reason) == (Status.CANCELLED, 143, "meanwhile")
    all_end(*pids)


def test_a_job_whose_exit_is_in_its_journal_can_no_longer_be_cancelled(
    storage: FolderStore,
    worker: Worker,
    drain: Callable[..., None],
    started: Callable[..., Job],
    folder: Path,
    gate: Gate,
) -> None:
    """No worker runs to record the end, so the job is still in running/."""
    first = worker()
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    kill(first)
    gate.open()
    wait_until(lambda: has_exited(folder / "running" / job.id / "journal"))
    with pytest.raises(WrongState, match="has just ended"):
        storage.cancel(job.id, "too late")
    drain()
    assert storage.get(job.id).status is Status.SUCCEEDED


def test_a_cancel_that_arrives_too_late_still_stops_the_retries(
    storage: FolderStore,
    worker: Worker,
    drain: Callable[..., None],
    started: Callable[..., Job],
    folder: Path,
    gate: Gate,
    tmp_path: Path,
) -> None:
    """It arrives after the end of the first attempt and before the end is recorded."""
    first = worker()
    line = f"echo $JOB_ATTEMPT >>{tmp_path}/tally; echo started; {gate.wait}; exit 9"
    job = started(storage.submit(Job(command=line, retries=2)))
    kill(first)
    gate.open()
    wait_until(lambda: has_exited(folder / "running" / job.id / "journal"))
    wait_until(lambda: not is_alive(job.pid or 0))
    storage.cancel(job.id, "enough")
    drain()
    job = storage.get(job.id)
    assert (job.status, job.exit_code, job.attempt) == (Status.CANCELLED, 9, 1)
    assert (tmp_path / "tally").read_text() == "1\n"


def test_an_adopted_job_whose_folder_vanishes_is_dropped(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    started: Callable[..., Job],
    folder: Path,
    tmp_path: Path,
    gate: Gate,
) -> None:
    first = worker()
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    kill(first)
    second = worker("--drain", "--slots", "1")
    wait_until(lambda: "adopted" in processes.text())
    (folder / "running" / job.id).rename(tmp_path / "gone")
    later = storage.submit(Job(command="true"))
    gate.open()
    assert second.wait(20) == 0
    assert storage.get(later.id).status is Status.SUCCEEDED


def test_adopted_jobs_occupy_slots(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    first = worker("--slots", "1")
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    kill(first)
    later = storage.submit(Job(command="true"))
    worker("--slots", "1")
    wait_until(lambda: f"adopted job={job.id}" in processes.text())
    wait_until(lambda: [w for w in storage.workers() if w.running == 1])
    assert storage.get(later.id).status is Status.QUEUED
    gate.open()
    assert ended(job).status is ended(later).status is Status.SUCCEEDED


# --- Errors that are over soon --------------------------------------------------------------------


@pytest.fixture
def failing(processes: Processes) -> Callable[..., AbstractContextManager[None]]:
    """Makes a system call of a process fail on these paths while the context lasts."""
    strace = need("strace")
    if subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("no process may be traced here")

    @contextmanager
    def failing(pid: int, call: str, error: str, *paths: Path) -> Iterator[None]:
        options = [f"--trace-path={path}" for path in paths]
        injected = f"--inject={call}:error={error}"
        tracer = processes.start(
            strace, "-o", "/dev/null", "-p", str(pid), *options, f"--trace={call}", injected
        )
        try:
            yield
        finally:
            tracer.terminate()  # which detaches it
            tracer.wait(30)

    return failing


def test_a_disk_error_does_not_end_an_adopted_job(
    storage: FolderStore,
    folder: Path,
    worker: Worker,
    processes: Processes,
    ended: Callable[..., Job],
    failing: Callable[..., AbstractContextManager[None]],
    gate: Gate,
    tmp_path: Path,
) -> None:
    """Each error lasts until the worker has met it. Then four jobs end, none of which can be locked
    at that time."""
    first = worker("--slots", "4")
    line = f"echo $$ >>{tmp_path}/pids; {gate.wait}; exit 5"
    jobs = [storage.submit(Job(command=line, timeout=600, retries=1)) for _ in range(4)]
    pids = pids_in(tmp_path / "pids", 4)
    kill(first)
    second = worker("--slots", "4")
    wait_until(lambda: processes.text().count("adopted job=") == 4)
    folders = [folder / "running" / job.id for job in jobs]
    shims = [storage.get(job.id).pid or 0 for job in jobs]
    cases = [
        ("openat", "EIO", folders[0] / "journal"),
        ("openat", "ESTALE", folders[1] / "journal"),
        ("flock", "ENOLCK", folders[2] / "journal"),
        ("%%stat", "EIO", folders[3]),
    ]
    for call, error, path in cases:
        job_id = path.name if path in folders else path.parent.name
        with failing(second.pid, call, error, path):
            wait_until(lambda reported=f"trouble job={job_id}": reported in processes.text())
    assert all(map(is_alive, pids))
    reported = processes.text().count("trouble job=")
    with failing(second.pid, "flock", "EREMOTEIO", *(each / "journal" for each in folders)):
        wait_until(lambda: processes.text().count("trouble job=") == reported + 4)
        gate.open()
        all_end(*shims)
        wait_until(lambda: all(has_exited(each / "journal") for each in folders))
    for job in jobs:
        found = ended(job)
        assert (found.status, found.exit_code, found.attempt) == (Status.FAILED, 5, 2)
        assert [attempt.exit_code for attempt in found.attempts] == [5, 5]
    for words in ("lost job", "signals job", "gone job"):
        assert words not in processes.text()


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("left", [b"", bytes(200), b'\n{"claimed": {"attempt": 1, "wor'])
def test_an_attempt_whose_claim_was_undone_by_a_power_cut_is_lost(
    storage: FolderStore, folder: Path, drain: Callable[..., None], retries: int, left: bytes
) -> None:
    """The claim's line is missing, zeroed or truncated, but its log exists."""
    job = storage.submit(Job(command="echo attempt $JOB_ATTEMPT", retries=retries))
    home = folder / "running" / job.id
    (folder / "queued" / "default" / job.id).rename(home)
    (home / "journal").write_bytes(left)
    (home / "output.log").touch()
    drain()
    found = storage.get(job.id)
    if retries:
        assert (found.status, found.attempt) == (Status.SUCCEEDED, 2)
        assert load_logs(storage, job.id).endswith("attempt 2\n")
    else:
        assert (found.status, found.attempt, found.exit_code) == (Status.LOST, 1, None)
        assert load_logs(storage, job.id) == ""


def test_a_job_that_empties_its_journal_does_not_run_again(
    storage: FolderStore,
    folder: Path,
    worker: Worker,
    drain: Callable[..., None],
    gate: Gate,
) -> None:
    """Its log shows that it ran."""
    first = worker()
    line = f"echo started $JOB_ATTEMPT; : >{folder}/running/$JOB_ID/journal; {gate.wait}"
    job = storage.submit(Job(command=line, retries=1))
    wait_until(lambda: job_log(storage, job) == "started 1\n")
    wait_until(lambda: not (folder / "running" / job.id / "journal").read_bytes())
    kill(first)
    gate.open()
    drain()
    assert storage.get(job.id).status is Status.LOST
    assert load_logs(storage, job.id) == "started 1\n"


def job_log(storage: FolderStore, job: Job) -> str:
    with suppress(FileNotFoundError):
        return load_logs(storage, job.id)
    return ""


@pytest.mark.parametrize("name", ["journal", "job.json"])
def test_a_disk_error_does_not_fail_a_queued_job(
    storage: FolderStore,
    folder: Path,
    worker: Worker,
    processes: Processes,
    ended: Callable[..., Job],
    failing: Callable[..., AbstractContextManager[None]],
    name: str,
) -> None:
    process = worker()
    ended(storage.submit(Job(command="true")))
    draft = FolderStore(folder.parent / "elsewhere")
    job = draft.submit(Job(command="true"))
    home = folder / "queued" / "default" / job.id
    with failing(process.pid, "openat", "EIO", home / name):
        traced = Path(f"/proc/{process.pid}/status")
        wait_until(lambda: "TracerPid:\t0\n" not in traced.read_text())
        Path(draft.root, "queued", "default", job.id).rename(home)
        wait_until(lambda: f"trouble queued/default/{job.id}" in processes.text())
        assert storage.status(job.id) is Status.QUEUED
    assert ended(job).status is Status.SUCCEEDED


def test_a_job_that_locks_down_its_files_can_still_be_ended(
    storage: FolderStore,
    folder: Path,
    worker: Worker,
    processes: Processes,
    started: Callable[..., Job],
    ended: Callable[..., Job],
) -> None:
    first = worker()
    job = started(storage.submit(Job(command="echo started; exec sleep 600", retries=1)))
    kill(first)
    for name in ("journal", "times"):
        (folder / "running" / job.id / name).chmod(0)
    # The permissions must apply to root, too.
    dropped = "-dac_override,-dac_read_search"
    obeying = [] if os.geteuid() else [need("setpriv"), f"--bounding-set={dropped}"]
    processes.start(*obeying, *quick_worker())
    wait_until(lambda: f"adopted job={job.id}" in processes.text(), describe=processes.text)
    storage.cancel(job.id, "enough")
    assert ended(job).status in (Status.CANCELLED, Status.LOST)
    all_end(job.pid or 0)


# --- Lost -----------------------------------------------------------------------------------------


def test_a_job_whose_whole_tree_was_killed_is_lost(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    ended: Callable[..., Job],
    started: Callable[..., Job],
    gate: Gate,
) -> None:
    first = worker()
    job = started(storage.submit(Job(command=f"echo started; {gate.wait}")))
    kill(first)
    assert job.pid
    os.killpg(job.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(job.pid or 0))
    worker()
    job = ended(job)
    assert (job.status, job.exit_code) == (Status.LOST, None)
    assert job.reason and job.finished_at
    assert load_logs(storage, job.id) == "started\n"
    wait_until(lambda: f"lost job={job.id}" in processes.text())
    assert "adopted" not in processes.text()


def test_a_lost_job_with_retries_left_is_queued_again(
    storage: FolderStore,
    worker: Worker,
    ended: Callable[..., Job],
    started: Callable[..., Job],
    gate: Gate,
) -> None:
    first = worker()
    line = f"echo started $JOB_ATTEMPT; [ $JOB_ATTEMPT = 2 ] || {gate.wait}"
    job = started(storage.submit(Job(command=line, retries=1)), "started 1\n")
    kill(first)
    assert job.pid
    os.killpg(job.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(job.pid or 0))
    worker()
    job = ended(job)
    assert (job.status, job.attempt, job.exit_code) == (Status.SUCCEEDED, 2, 0)
    assert load_logs(storage, job.id) == "started 1\n--- attempt 2 ---\nstarted 2\n"


@pytest.mark.parametrize("worker_lives", [True, False])
def test_a_command_whose_shim_was_killed_is_ended_and_lost(
    storage: FolderStore,
    worker: Worker,
    ended: Callable[..., Job],
    gate: Gate,
    tmp_path: Path,
    worker_lives: bool,
) -> None:
    """Nobody could record its outcome, and its remaining processes must not run beside a retry."""
    first = worker()
    line = f"sh -c 'echo $$ >>{tmp_path}/pids; {gate.wait}' & echo $$ >>{tmp_path}/pids; wait"
    job = storage.submit(Job(command=line))
    pids = pids_in(tmp_path / "pids", 2)
    pid = wait_until(lambda: storage.get(job.id).pid)
    if not worker_lives:
        kill(first)
    os.kill(pid, signal.SIGKILL)
    if not worker_lives:
        worker()
    job = ended(job)
    assert (job.status, job.exit_code) == (Status.LOST, None)
    all_end(*pids)


def test_no_pid_line_means_never_started_in_the_same_boot(
    tmp_path: Path, processes: Processes
) -> None:
    case = Case(tmp_path / "case", processes)
    crashed = case.left_by_a_dead_worker("exit 0", starts=False)
    unclear = case.left_by_a_dead_worker("exit 0", starts=False)
    destroyed = case.left_by_a_dead_worker("exit 0", starts=False)
    claimed_as(unclear, boot="the one before")
    (destroyed / "journal").unlink()
    case.recover()
    assert case.storage.get(crashed.name).status is Status.SUCCEEDED
    assert case.storage.get(unclear.name).status is Status.LOST
    assert case.storage.get(destroyed.name).status is Status.LOST
    assert case.tallied() == [f"{crashed.name}.1"]


def test_a_job_moved_into_running_by_hand_is_queued_and_run(
    tmp_path: Path, processes: Processes
) -> None:
    case = Case(tmp_path / "case", processes)
    job = case.tallying("exit 7")
    (case.folder / "queued" / "default" / job.id).rename(case.folder / "running" / job.id)
    case.recover()
    case.check(Status.FAILED, 7)


# --- Several at once ------------------------------------------------------------------------------


def test_workers_that_recover_concurrently_do_each_step_once(
    storage: FolderStore, processes: Processes, worker: Worker, tmp_path: Path
) -> None:
    case = Case(tmp_path / "case", processes)
    gate = Gate(tmp_path / "gate")
    wanted: dict[str, tuple[Status, int | None, int]] = {}
    storage_of_case = {"TAILBOARD_STORAGE": str(case.folder)}
    first = worker("--slots", "5", **storage_of_case)
    for _ in range(5):
        job = case.tallying(f"{gate.wait}; exit 7")
        wanted[job.id] = (Status.FAILED, 7, 1)
    wait_until(lambda: len(case.tallied()) == 5, describe=processes.text)
    kill(first)
    for _ in range(10):
        wanted[case.left_by_a_dead_worker("exit 7").name] = (Status.FAILED, 7, 1)
        wanted[drop_exit(case.left_by_a_dead_worker("exit 7")).name] = (Status.LOST, None, 1)
        retry = drop_exit(case.left_by_a_dead_worker("exit 7", retries=1))
        wanted[retry.name] = (Status.FAILED, 7, 2)
        never = case.left_by_a_dead_worker("exit 7", starts=False)
        wanted[never.name] = (Status.FAILED, 7, 1)
    workers = [worker("--drain", "--slots", "20", **storage_of_case) for _ in range(4)]
    gate.open()
    for process in workers:
        assert process.wait(60) == 0, processes.text()
    found = {job_id: case.storage.get(job_id) for job_id in wanted}
    assert {i: (j.status, j.exit_code, j.attempt) for i, j in found.items()} == wanted
    tallied = [f"{i}.{n + 1}" for i, (_, _, attempts) in wanted.items() for n in range(attempts)]
    assert sorted(case.tallied()) == sorted(tallied)
    lines = processes.text().splitlines()
    for job_id, job in found.items():
        reported = [line for line in lines if job_id in line and f" {job.status}" in line]
        assert len(reported) == 1, reported
    os.close(gate.fd or -1)


def test_one_of_the_running_workers_adopts_the_job(
    storage: FolderStore,
    worker: Worker,
    processes: Processes,
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    first = worker("--slots", "3")
    jobs = [
        started(storage.submit(Job(command=f"echo started; {gate.wait}; exit 7"))) for _ in range(3)
    ]
    others = [worker("--slots", "9") for _ in range(3)]
    wait_until(lambda: len(storage.workers()) == 4)
    kill(first)
    wait_until(lambda: processes.text().count(" adopted ") >= 3)
    later = worker("--slots", "9")
    wait_until(lambda: len(storage.workers()) == 4)
    wait_until(lambda: sum(info.running for info in storage.workers()) >= 3)
    gate.open()
    for job in jobs:
        assert ended(job).exit_code == 7
    wait_until(lambda: not any(info.running for info in storage.workers()))
    for job in jobs:
        reported = [line for line in processes.text().splitlines() if job.id in line]
        assert len([line for line in reported if " adopted " in line]) == 1
        assert len([line for line in reported if " failed " in line]) == 1
    for process in (*others, later):
        process.terminate()
        assert process.wait(20) == 0


class Chaos:
    """Jobs that count the runs of each attempt, and that fail or end as planned."""

    def __init__(self, count: int, tally: Path) -> None:
        self.count, self.tally = count, tally
        self.seed = random.randrange(1 << 32)
        self.dice = random.Random(self.seed)
        self.wanted: dict[str, tuple[int, int]] = {}  # job ID -> exit code, attempts

    def submit(self, storage: FolderStore) -> None:
        for n in range(self.count):
            code = n % 8
            pause = self.dice.choice(("", "", "sleep 0.1;", "sleep 0.5;"))
            line = f"echo $JOB_ID.$JOB_ATTEMPT >>{self.tally}; {pause}"
            if n % 5 == 4:  # fails, then ends as expected
                line += " [ $JOB_ATTEMPT = 2 ] || exit 99;"
                delay = self.dice.choice((0, 0.3))
                job = Job(command=f"{line} exit {code}", retries=1, retry_delay=delay)
                self.wanted[storage.submit(job).id] = (code, 2)
            else:
                self.wanted[storage.submit(Job(command=f"{line} exit {code}")).id] = (code, 1)

    def run(
        self,
        storage: FolderStore,
        processes: Processes,
        start: Callable[[], subprocess.Popen[bytes]],
        disturb: Callable[[], None] = lambda: None,
    ) -> None:
        """Kills one of two workers again and again until all jobs have ended."""
        workers = [start(), start()]
        kills = 0
        while any(storage.counts()[status] for status in (Status.QUEUED, Status.RUNNING)):
            victim = self.dice.randrange(2)
            disturb()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = workers[victim].wait(self.dice.uniform(0.05, 0.7))
                raise AssertionError(f"a worker ended by itself, {code}: {processes.text()}")
            kill(workers[victim])
            kills += 1
            workers[victim] = start()
        print(f"chaos: {self.count} jobs, {kills} kills, seed {self.seed}")

    def check(self, storage: FolderStore) -> None:
        """Checks that no job is lost, each attempt ran once, and each exit code is the real one."""
        found = {job_id: storage.get(job_id) for job_id in self.wanted}
        assert {i: (job.exit_code, job.attempt) for i, job in found.items()} == self.wanted
        attempts = [f"{i}.{n + 1}" for i, (_, tries) in self.wanted.items() for n in range(tries)]
        assert sorted(self.tally.read_text().split()) == sorted(attempts)
        for job in found.values():
            assert job.status is (Status.FAILED if job.exit_code else Status.SUCCEEDED)


@pytest.fixture
def chaos(pytestconfig: pytest.Config, tmp_path: Path) -> Chaos:
    return Chaos(pytestconfig.getoption("--chaos"), tmp_path / "tally")


@pytest.mark.timeout(1200)
def test_chaos(storage: FolderStore, processes: Processes, chaos: Chaos) -> None:
    """There are two workers, one of which is killed every 50 to 700 ms."""
    chaos.submit(storage)
    chaos.run(storage, processes, lambda: processes.worker("--slots", "2"))
    chaos.check(storage)


CLOCKS = (0, 0, 40 * 86_400, -40 * 86_400, 3_600)  # seconds


@pytest.mark.timeout(3600)
def test_chaos_with_a_full_disk_and_jumping_clocks(
    make_disk: Callable[[int, int], SmallDisk], processes: Processes, folder: Path, chaos: Chaos
) -> None:
    """The same, while the disk is filled and freed and each worker has another clock."""
    disk = make_disk(chaos.count * 20_000 + (1 << 20), chaos.count * 7 + 200)
    storage = FolderStore(folder)
    chaos.submit(storage)

    def start() -> subprocess.Popen[bytes]:
        shift = str(chaos.dice.choice(CLOCKS))
        command = [sys.executable, "-m", "tests.programs.shifted_worker", shift, "--slots", "4"]
        return processes.start(*command, TAILBOARD_KEEP_DAYS="9")

    def disturb() -> None:
        disk.free()
        if chaos.dice.random() < 0.3:
            chaos.dice.choice((disk.fill, disk.fill_inodes))()

    chaos.run(storage, processes, start, disturb)
    disk.free()
    chaos.check(storage)


@pytest.mark.timeout(1200)
def test_chaos_among_the_shims(
    storage: FolderStore, processes: Processes, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    """Workers and shims are killed. A job is lost or has its real exit code, none runs twice, and
    no process of a lost job survives."""
    count, seed = pytestconfig.getoption("--chaos") // 2, random.randrange(1 << 32)
    dice = random.Random(seed)
    wanted = {}
    for n in range(count):
        pause = dice.choice(("", "sleep 0.2;", "sleep 0.6;"))
        line = f"echo $JOB_ID >>{tmp_path}/tally; {pause} exit {n % 8}"
        wanted[storage.submit(Job(command=line)).id] = n % 8
    workers = [processes.worker("--slots", "3") for _ in range(2)]
    kills = shims = 0
    while any(storage.counts()[status] for status in (Status.QUEUED, Status.RUNNING)):
        victim = dice.randrange(2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = workers[victim].wait(dice.uniform(0.05, 0.7))
            raise AssertionError(f"a worker ended by itself, {code}: {processes.text()}")
        for job in storage.list(Status.RUNNING)[0]:
            if job.pid and dice.random() < 0.4:
                shims += kill_shim(job)
        if dice.random() < 0.5:
            kill(workers[victim])
            kills += 1
            workers[victim] = processes.worker("--slots", "3")
    lost = storage.counts()[Status.LOST]
    print(f"chaos: {count} jobs, {kills} workers and {shims} shims killed, {lost} lost, {seed=}")
    assert lost <= shims
    tally = (tmp_path / "tally").read_text().split()
    assert len(set(tally)) == len(tally)
    for job_id, code in wanted.items():
        job = storage.get(job_id)
        if job.status is Status.LOST:
            assert job.exit_code is None and job.reason
        else:
            assert job_id in tally
            assert (job.exit_code, job.attempt) == (code, 1)
    environments = Path("/proc").glob("[0-9]*/environ")
    left = b"".join(content for path in environments if (content := read_if_exists(path)))
    assert not [job_id for job_id in wanted if f"JOB_ID={job_id}\0".encode() in left]


def read_if_exists(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def kill_shim(job: Job) -> bool:
    """Kills the shim of this job, but never a process that got the same ID later."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(job.pid or 0)
        try:
            environment = read_if_exists(Path(f"/proc/{job.pid}/environ"))
            if f"JOB_ID={job.id}\0".encode() in environment:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False


# --- A full disk ----------------------------------------------------------------------------------


def test_a_submit_to_a_full_disk_fails_and_leaves_no_partial_job(
    small: FolderStore, disk: SmallDisk, folder: Path
) -> None:
    kept = small.submit(Job(command="true"), key="kept")
    disk.fill()
    for key in (None, "new"):
        with pytest.raises(OSError, match="No space"):
            small.submit(Job(command="true", name="x" * 10_000), key)
    assert [job.id for job in small.list()[0]] == [kept.id]
    assert list((folder / "tmp").iterdir()) == []
    disk.free()
    assert small.submit(Job(command="true"), "new").id != kept.id
    assert len(small.list()[0]) == 2


def test_an_end_on_a_full_disk_is_recorded_at_once(
    disk: SmallDisk,
    small: FolderStore,
    worker: Worker,
    processes: Processes,
    tmp_path: Path,
    gate: Gate,
) -> None:
    """The journal already has a block for it; queued jobs are claimed once there is space."""
    process = worker()
    job = small.submit(Job(command=f"echo 1 >{tmp_path}/started; {gate.wait}; exit 7"))
    queued = [small.submit(Job(command="exit 3", queue="later")) for _ in range(3)]
    wait_until((tmp_path / "started").exists)
    disk.fill()
    gate.open()
    wait_until(lambda: small.get(job.id).status in FINISHED, describe=processes.text)
    assert (small.get(job.id).status, small.get(job.id).exit_code) == (Status.FAILED, 7)
    disk.free()
    for each in queued:
        wait_until(lambda each=each: small.get(each.id).status in FINISHED)
        assert small.get(each.id).exit_code == 3
    assert process.poll() is None


def test_a_worker_that_starts_on_a_full_disk_waits_for_space(
    disk: SmallDisk, small: FolderStore, worker: Worker, processes: Processes
) -> None:
    job = small.submit(Job(command="exit 3"))
    disk.fill()
    process = worker()
    wait_until(lambda: "No space" in processes.text(), describe=processes.text)
    disk.free()
    wait_until(lambda: small.get(job.id).status in FINISHED, describe=processes.text)
    assert small.get(job.id).exit_code == 3
    assert process.poll() is None


@pytest.mark.parametrize("held_back", ["by a pause", "until it is due"])
def test_a_cancel_on_a_full_disk_takes_effect_once_there_is_space(
    disk: SmallDisk, small: FolderStore, worker: Worker, held_back: str
) -> None:
    """No claim reads the job, so its worker must find the request."""
    not_before = None
    if held_back == "by a pause":
        small.pauses.pause("default", None, None)
    else:
        not_before = utc(time.time() + 3_600)
    job = small.submit(Job(command="true", not_before=not_before))
    worker()
    wait_until(small.workers)
    disk.fill()
    small.cancel(job.id, "not needed")
    assert small.get(job.id).status is Status.QUEUED, "its journal takes no line"
    disk.free()
    wait_until(lambda: small.get(job.id).status is Status.CANCELLED)


def test_a_worker_starts_when_no_inode_is_left(
    disk: SmallDisk, small: FolderStore, worker: Worker, processes: Processes, folder: Path
) -> None:
    """A reserve folder was used, and cannot be created again before there is space."""
    job, other = small.submit(Job(command="exit 3")), small.submit(Job(command="true"))
    disk.fill_inodes()
    small.cancel(other.id, "not needed")  # the first job of its day
    process = worker()
    wait_until(lambda: "No space" in processes.text(), describe=processes.text)
    disk.free()
    wait_until(lambda: small.get(job.id).status in FINISHED, describe=processes.text)
    assert small.get(job.id).exit_code == 3
    wait_until(lambda: len(list((folder / "reserve").iterdir())) == 8)
    assert process.poll() is None


def test_a_job_that_fills_the_disk_ends_with_its_own_error(
    disk: SmallDisk, small: FolderStore, worker: Worker, processes: Processes, folder: Path
) -> None:
    process = worker()
    old = small.submit(Job(command="head -c 300000 /dev/zero"))
    wait_until(lambda: small.get(old.id).status is Status.SUCCEEDED)
    job = small.submit(Job(command=["cat", "/dev/zero"]))
    wait_until(lambda: small.get(job.id).status in FINISHED, describe=processes.text)
    assert (small.get(job.id).status, small.get(job.id).exit_code) == (Status.FAILED, 1)
    small.delete(old.id)
    assert process.poll() is None


def test_a_job_is_deleted_even_if_the_delete_was_interrupted(
    storage: FolderStore, folder: Path
) -> None:
    """A rename hides it at once; its remains are in a folder that nothing reads."""
    job = storage.submit(Job(command="true"))
    storage.cancel(job.id, "why")
    place = folder / "cancelled" / job.id[:8] / job.id
    place.rename(folder / "tmp" / f"{job.id}.deleted")
    with pytest.raises(JobNotFound):
        storage.get(job.id)
    assert storage.list() == ([], None)


def test_a_worker_on_a_copy_leaves_the_original_alone(
    storage: FolderStore, processes: Processes, tmp_path: Path, ended: Callable[..., Job]
) -> None:
    """A restored backup on the same machine has running jobs with the same IDs."""
    gate = tmp_path / "open"
    processes.worker()
    job = storage.submit(
        Job(command=f"echo started; until [ -e {gate} ]; do sleep 0.05; done; exit 7")
    )
    wait_until(lambda: storage.get(job.id).log_size)
    copy = tmp_path / "copy"
    shutil.copytree(storage.root, copy)
    processes.worker("--drain", TAILBOARD_STORAGE=str(copy)).wait(30)
    assert FolderStore(copy).get(job.id).status is Status.LOST
    assert storage.get(job.id).status is Status.RUNNING
    gate.touch()
    found = ended(job)
    assert (found.status, found.exit_code) == (Status.FAILED, 7)
