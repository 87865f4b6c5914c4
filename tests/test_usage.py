"""What a worker samples of the processes of its jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import (
    PROGRAMS,
    JobMaker,
    Processes,
    SmallDisk,
    all_end,
    files_limited_to,
    need,
    pids_in,
    wait_until,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tailboard import intervals
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.usage_files import UsageFile, read_usage_in
from tailboard.job import Job
from tailboard.run import job_processes
from tailboard.run.job_processes import JobProcesses, Known
from tailboard.run.process_states import ProcessState, read_state
from tailboard.run.running import Running
from tailboard.run.shim import DETACHED
from tailboard.run.usage_account import UsageAccount
from tailboard.run.usage_sampler import UsageSampler, pause_after
from tailboard.usage import MOST_RECORDS, USAGE_RECORD, UsageSample, cores_used
from tailboard.values import new_id, parse_time

MIB = 1 << 20
QUICK = (
    "tailboard.intervals.SAMPLE_INTERVAL=0.05",
    "tailboard.run.usage_sampler.SHARE_PER_JOB=1",
    "tailboard.run.usage_sampler.MOST_SHARE=1",
)


def start_worker(processes: Processes, *options: str) -> subprocess.Popen[bytes]:
    """A worker that samples often."""
    command = [sys.executable, "-m", "tests.programs.tuned_worker", *QUICK, "--", *options]
    return processes.start(*command)


# --- A whole worker -------------------------------------------------------------------------------


def test_the_samples_agree_with_those_of_time(
    storage: FolderStore, processes: Processes, tmp_path: Path
) -> None:
    """A daemon is counted, too, for which time(1) does not wait."""
    program = f"{PROGRAMS}/use_processors.py"
    report = tmp_path / "report"
    timed = [need("/usr/bin/time"), "-v", "-o", str(report)]
    command = [*timed, sys.executable, program, str(tmp_path), "150"]
    job = storage.submit(Job(command=command))
    worker = start_worker(processes, "--drain")

    def samples() -> list[UsageSample]:
        return [*storage.usage(job.id)]

    def describe() -> str:
        return f"{samples()[-5:]} {processes.text()}"

    wait_until((tmp_path / "daemon").exists, describe=describe)
    seen = len(samples())
    wait_until(lambda: len(samples()) > seen + 1, describe=describe)
    (tmp_path / "end-daemon").touch()
    wait_until((tmp_path / "memory").exists, describe=describe)
    filled = len(samples())
    wait_until(lambda: len(samples()) > filled + 1, describe=describe)
    (tmp_path / "end").touch()
    assert worker.wait(60) == 0
    found = dict(re.findall(r"\t(.+?)(?: \(.*\))?: ([0-9.]+)\n", report.read_text()))
    seconds = float(found["User time"]) + float(found["System time"])
    seconds += float((tmp_path / "daemon").read_text())
    used = [sample.cpu_seconds for sample in samples()]
    assert used == sorted(used)
    assert used[-1] == pytest.approx(seconds, rel=0.1)
    peak = max(sample.memory_bytes for sample in samples())
    assert peak == pytest.approx(int(found["Maximum resident set size"]) * 1024, rel=0.1)


# --- Adding up processor time ---------------------------------------------------------------------


class Kernel:
    """Adds up the time of processes as Linux does. The first process, the leader, never ends."""

    def __init__(self) -> None:
        self.states = {1: ProcessState(1, 0, 0, 0, MIB)}
        self.zombies: set[int] = set()
        self.last_pid = 1
        self.used = 0  # by all processes in all

    def pick(self, number: int) -> int:
        """A living process."""
        alive = [pid for pid in self.states if pid not in self.zombies]
        return alive[number % len(alive)]

    def fork(self, number: int) -> None:
        parent, self.last_pid = self.pick(number), self.last_pid + 1
        self.states[self.last_pid] = ProcessState(self.last_pid, parent, 0, 0, MIB)

    def use(self, number: int) -> None:
        pid = self.pick(number)
        state = self.states[pid]
        self.states[pid] = state._replace(own_seconds=state.own_seconds + number + 1)
        self.used += number + 1

    def exit(self, number: int, has_waiter: bool = True) -> None:
        """Its parent can wait for it. Its own children get init as their parent, which waits for
        them."""
        pid = self.pick(number)
        if pid == 1:
            return
        for child, state in [*self.states.items()]:
            if state.parent == pid:
                self.states[child] = state._replace(parent=0)
                if child in self.zombies:
                    self.remove(child)
        self.zombies.add(pid)
        if self.states[pid].parent == 0 or not has_waiter:
            self.remove(pid)

    def exit_unnoticed(self, number: int) -> None:
        """Its parent ignores SIGCHLD."""
        self.exit(number, has_waiter=False)

    def wait(self, number: int) -> None:
        if self.zombies:
            child = sorted(self.zombies)[number % len(self.zombies)]
            parent, more = self.states[child].parent, self.states[child].seconds
            state = self.states[parent]
            self.states[parent] = state._replace(waited_seconds=state.waited_seconds + more)
            self.remove(child)

    def remove(self, pid: int) -> None:
        self.zombies.discard(pid)
        del self.states[pid]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "use", "exit", "exit_unnoticed", "wait", "look"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


def add_up(steps: list[tuple[str, int]], always_looks: bool) -> tuple[list[float], list[int]]:
    """What was counted, and what was used, at each look."""
    kernel, account = Kernel(), UsageAccount()
    counted, used = [], []
    for step, number in [*steps, ("look", 0)]:
        if step != "look":
            getattr(kernel, step)(number)
        if step == "look" or always_looks:
            account.update(dict(kernel.states))
            counted.append(account.seconds)
            used.append(kernel.used)
    return counted, used


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_nothing_is_counted_twice_and_the_sum_never_decreases(steps: list[tuple[str, int]]) -> None:
    counted, used = add_up(steps, always_looks=False)
    assert counted == sorted(counted)
    assert all(seen <= real for seen, real in zip(counted, used, strict=True))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_nothing_is_lost_that_was_seen(steps: list[tuple[str, int]]) -> None:
    counted, used = add_up(steps, always_looks=True)
    assert counted == used


def test_a_child_and_its_parent_that_have_ended_since_the_last_look_are_counted_once() -> None:
    account = UsageAccount()
    leader, parent, child = ProcessState(1, 0, 1, 0, 0), ProcessState(2, 1, 2, 0, 0), 4
    account.update({1: leader, 2: parent, 3: ProcessState(3, 2, child, 0, 0)})
    account.update({1: leader._replace(waited_seconds=2 + child + 0.5)})
    assert account.seconds == 1 + 2 + child + 0.5


def test_a_process_that_gets_the_pid_of_another_is_counted_from_zero() -> None:
    account = UsageAccount()
    account.update({1: ProcessState(1, 0, 1, 0, 0), 2: ProcessState(2, 1, 5, 0, 0)})
    account.update({1: ProcessState(1, 0, 1, 0, 0), 2: ProcessState(3, 1, 2, 0, 0)})
    assert account.seconds == 8


def test_the_system_knows_better_what_an_ended_attempt_used() -> None:
    account = UsageAccount()
    daemon = ProcessState(2, 0, 3, 0, 0)
    account.update({1: ProcessState(1, 0, 1, 4, 0), 2: daemon, 3: ProcessState(3, 1, 1, 0, 0)})
    assert account.final_seconds(leader=1, reported=7.5) == 10.5
    assert account.final_seconds(leader=1, reported=0.0) == 9


@pytest.mark.parametrize(
    ("cost", "jobs", "pause"),
    [(0.001, 1, 5.0), (0.02, 1, 10.0), (0.02, 4, 5.0), (0.5, 200, 10.0), (0.5, 10, 25.0)],
)
def test_the_pause_keeps_to_the_budget(cost: float, jobs: int, pause: float) -> None:
    assert pause_after(cost, jobs) == pause


# --- Finding processes ----------------------------------------------------------------------------


class Jobs:
    """Starts processes as those of jobs."""

    def __init__(self, storage: FolderStore, processes: Processes, home: Path) -> None:
        self.storage, self.processes, self.home = storage, processes, home
        self.finder = JobProcesses()
        self.leaders: dict[str, int] = {}

    def start(self, script: str, job_id: str = "", **env: str) -> str:
        """Runs a script of the shell as a job, or as a process that has nothing to do with one."""
        ours = dict(self.storage.tracking_env(job_id)) if job_id else {}
        words = ["setsid", "sh", "-c", script] if job_id else ["sh", "-c", script]
        process = self.processes.start(*words, home=self.home, **ours, **env)
        if job_id:
            self.leaders.setdefault(job_id, process.pid)
        return job_id

    def find(self) -> dict[str, set[int]]:
        storage = self.storage.tracking_env("")["JOB_STORAGE"]
        found = self.finder.find(self.leaders, storage)
        return {job_id: set(group) for job_id, group in found.items()}


@pytest.fixture
def jobs(storage: FolderStore, processes: Processes, tmp_path: Path) -> Jobs:
    return Jobs(storage, processes, tmp_path)


WAIT = "while [ ! -e end ]; do sleep 0.05; done"


def test_the_processes_of_a_job_are_found_wherever_they_went(jobs: Jobs, tmp_path: Path) -> None:
    """Also if they have left its group or cleaned their environment, and their parent has ended."""
    one, other = new_id(), new_id()
    jobs.start(f"echo $$ > older; {WAIT}", one)
    older = pids_in(tmp_path / "older", 1)
    del jobs.leaders[one]
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 0.02)  # the kernel dates starts to 0.01 s
    clean = f"env -i setsid sh -c 'echo $$ >> pids; {WAIT}'"
    orphan = f"(env -i sh -c 'echo $$ >> pids; {WAIT}' &)"  # its parent ends before it is seen
    left = f"setsid sh -c 'echo $$ >> pids; {WAIT}'"
    jobs.start(f"echo $$ >> pids; {left} & {clean} & {orphan}; {WAIT}", one)
    mine = pids_in(tmp_path / "pids", 4)
    detached = f"env -u JOB_ID {DETACHED}=1 sh -c 'echo $$ >> others; {WAIT}'"
    foreign = f"JOB_STORAGE=1-1 sh -c 'echo $$ >> others; {WAIT}'"
    jobs.start(f"echo $$ >> pids2; {detached} & {foreign} & {WAIT}", other)
    others = pids_in(tmp_path / "others", 2)
    found = jobs.find()
    assert set(mine) <= found[one]
    assert not found[one] & {*older, *others, *pids_in(tmp_path / "pids2", 1)}
    assert not found[other] & {*mine, *others}
    (tmp_path / "end").touch()
    all_end(*mine)


def test_a_process_stays_one_of_its_job_when_its_parent_has_ended(
    jobs: Jobs, tmp_path: Path
) -> None:
    one = jobs.start(
        'sh -c \'env -i sh -c "echo \\$\\$ > child; while [ ! -e end ]; do sleep 0.05; done" & '
        "while [ ! -e leave ]; do sleep 0.05; done'; while [ ! -e end ]; do sleep 0.05; done",
        new_id(),
    )
    [child] = pids_in(tmp_path / "child", 1)
    assert child in jobs.find()[one]
    (tmp_path / "leave").touch()
    wait_until(lambda: parent_of(child) not in jobs.find()[one])
    assert child in jobs.find()[one]
    (tmp_path / "end").touch()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_pid_that_was_used_again_after_a_long_pause_is_found_at_once(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = jobs.start(f"sh -c 'echo $$ > child; {WAIT}'; true", new_id())
    [child] = pids_in(tmp_path / "child", 1)
    for gap, is_found in ((60.0, False), (-1.0, True)):
        monkeypatch.setattr(job_processes, "FORGET_TIME", gap)
        jobs.find()
        jobs.finder.known[child] = Known(0.0, new_id())  # of a job that ended before
        jobs.finder.round = -child  # its pid is not looked at anyway
        assert (child in jobs.find()[one]) == is_found
    (tmp_path / "end").touch()


def test_a_job_that_is_adopted_is_found_although_it_is_older_than_the_others(
    jobs: Jobs, tmp_path: Path
) -> None:
    old = jobs.start(f"echo $$ > old; {WAIT}", new_id())
    pid = pids_in(tmp_path / "old", 1)
    leader = jobs.leaders.pop(old)
    new = jobs.start(f"echo $$ > new; {WAIT}", new_id())
    assert jobs.find().keys() == {new}
    jobs.leaders[old] = leader
    assert set(pid) <= jobs.find()[old]
    (tmp_path / "end").touch()


# --- The file -------------------------------------------------------------------------------------


def test_a_full_file_is_thinned_and_then_grows_more_slowly(tmp_path: Path) -> None:
    file = UsageFile(str(tmp_path))
    file.append([UsageSample(5.0 * n, n, MIB) for n in range(1, MOST_RECORDS + 1)])
    at = 5.0 * (MOST_RECORDS + 1)
    file.add(UsageSample(at, MOST_RECORDS, 9 * MIB))
    kept = read_usage_in(str(tmp_path))
    assert MOST_RECORDS // 2 <= len(kept) <= MOST_RECORDS // 2 + 1
    assert (kept[0].at, kept[-1]) == (5, UsageSample(at, MOST_RECORDS, 9 * MIB))
    assert sorted(os.listdir(tmp_path)) == ["usage"]
    later = UsageFile(str(tmp_path))  # of another worker, which is as slow
    later.add(UsageSample(at + 5, MOST_RECORDS, 7 * MIB))
    assert len(read_usage_in(str(tmp_path))) == len(kept)
    later.add(UsageSample(at + 10, MOST_RECORDS, 2 * MIB))
    assert read_usage_in(str(tmp_path))[-1] == UsageSample(at + 10, MOST_RECORDS, 7 * MIB)
    file.add(UsageSample(at + 10, MOST_RECORDS, MIB))
    assert len(read_usage_in(str(tmp_path))) == len(kept) + 2


def test_a_file_that_no_thinning_makes_shorter_is_cut(tmp_path: Path) -> None:
    noise = [UsageSample(n, n % 2, 0) for n in range(MOST_RECORDS)]
    (tmp_path / "usage").write_bytes(b"".join(USAGE_RECORD.pack(*each) for each in noise))
    UsageFile(str(tmp_path)).append([UsageSample(MOST_RECORDS, 1, 0)])
    kept = read_usage_in(str(tmp_path))
    assert len(kept) == MOST_RECORDS // 2 and kept[-1].at == MOST_RECORDS


def test_a_record_that_was_not_written_completely_spoils_no_other(tmp_path: Path) -> None:
    file = UsageFile(str(tmp_path))
    file.add(UsageSample(1, 1, 1))
    with files_limited_to(USAGE_RECORD.size + 5), pytest.raises(OSError):
        file.add(UsageSample(2, 2, 2))
    assert (tmp_path / "usage").stat().st_size == USAGE_RECORD.size + 5
    file.add(UsageSample(3, 3, 3))
    assert [sample.at for sample in read_usage_in(str(tmp_path))] == [1, 3]


def test_zeros_that_a_power_cut_left_are_no_samples(tmp_path: Path) -> None:
    file = UsageFile(str(tmp_path))
    file.add(UsageSample(1, 1, 1))
    os.truncate(tmp_path / "usage", 3 * USAGE_RECORD.size)
    file.add(UsageSample(2, 2, 2))
    assert [sample.at for sample in read_usage_in(str(tmp_path))] == [1, 2]


# --- The rounds -----------------------------------------------------------------------------------


def has_memory(pid: int) -> bool:
    """The kernel reports none for a program that has only just begun."""
    state = read_state(pid)
    return state is not None and state.memory_bytes > 0


class Round:
    """A sampler without its thread, and jobs that it samples."""

    def __init__(self, maker: JobMaker, processes: Processes, gate: Path) -> None:
        self.maker, self.processes, self.gate = maker, processes, gate
        self.sampler = UsageSampler(maker.storage.tracking_env)

    def start(self) -> Running:
        claim = self.maker.running()
        env = self.maker.storage.tracking_env(claim.job.id)
        process = self.processes.start("sh", "-c", f"read _ < {self.gate}", **env)
        wait_until(lambda: has_memory(process.pid))
        return Running(claim, process.pid, process)

    def samples(self, entry: Running) -> list[UsageSample]:
        return [*read_usage_in(entry.claim.folder)]


@pytest.fixture
def rounds(
    job_maker: JobMaker, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Round:
    monkeypatch.setattr(intervals, "SAMPLE_INTERVAL", -1.0)
    os.mkfifo(tmp_path / "never")
    return Round(job_maker, processes, tmp_path / "never")


def test_an_attempt_begins_with_its_start_and_ends_with_what_the_system_reports(
    rounds: Round,
) -> None:
    entry = rounds.start()
    rounds.sampler.add(entry)
    rounds.sampler.sample_all()
    rounds.sampler.end(entry.job.id, 12.5)
    rounds.sampler.end(entry.job.id, 99.0)
    rounds.sampler.sample_all()
    first, second, last = rounds.samples(entry)
    assert first == UsageSample(parse_time(entry.claim.attempt.started_at or ""), 0, 0)
    assert 0 < second.memory_bytes == last.memory_bytes < 20 * MIB
    assert last.cpu_seconds == 12.5


def test_a_job_that_ends_soon_has_no_file(rounds: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "SAMPLE_INTERVAL", 1_000.0)
    entry = rounds.start()
    rounds.sampler.add(entry)
    rounds.sampler.sample_all()
    rounds.sampler.end(entry.job.id, 1.0)
    assert not Path(entry.claim.folder, "usage").exists()


def test_the_samples_of_an_earlier_worker_continue(rounds: Round) -> None:
    entry = rounds.start()
    rounds.sampler.add(entry)
    rounds.sampler.sample_all()
    with Path(entry.claim.folder, "usage").open("ab") as usage:
        usage.write(USAGE_RECORD.pack(time.time(), 77.5, 1))
    rounds.sampler = UsageSampler(rounds.maker.storage.tracking_env)
    rounds.sampler.add(entry)
    rounds.sampler.sample_all()
    assert [sample.cpu_seconds for sample in rounds.samples(entry)][2:] == [77.5, 77.5]


def test_the_next_attempt_begins_at_zero(rounds: Round) -> None:
    entry = rounds.start()
    earlier = UsageSample(parse_time(entry.claim.attempt.started_at or "") - 9, 5.0, MIB)
    UsageFile(entry.claim.folder).append([earlier])
    rounds.sampler.add(entry)
    rounds.sampler.sample_all()
    samples = rounds.samples(entry)
    assert [sample.cpu_seconds for sample in samples][:2] == [5.0, 0.0]
    assert cores_used(samples)[:2] == [None, None]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder", "moved", "large"])
def test_what_one_job_does_to_its_samples_harms_no_other(
    rounds: Round, kind: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    bad, good = rounds.start(), rounds.start()
    folder = Path(bad.claim.folder)
    usage = folder / "usage"
    match kind:
        case "link":
            (tmp_path / "victim").touch()
            usage.symlink_to(tmp_path / "victim")
        case "dangling":
            usage.symlink_to(tmp_path / "victim")
        case "fifo":
            os.mkfifo(usage)
        case "folder":
            usage.mkdir()
        case "moved":
            folder.rename(tmp_path / "moved")
        case "large":
            usage.write_bytes(b"\xff" * 100_000)
    for entry in (bad, good):
        rounds.sampler.add(entry)
    with files_limited_to(90_000):
        rounds.sampler.sample_all()
        rounds.sampler.sample_all()
    assert len(rounds.samples(good)) == 3
    assert not (tmp_path / "victim").exists() or not (tmp_path / "victim").read_bytes()
    assert caplog.records == []
    rounds.sampler.end(bad.job.id, None)


def test_a_full_disk_is_logged_once_and_sampling_continues_later(
    disk: SmallDisk, rounds: Round, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [rounds.start(), rounds.start()]
    for entry in entries:
        rounds.sampler.add(entry)
    disk.fill()
    for _ in range(2):
        rounds.sampler.sample_all()
    [record] = caplog.records
    assert "No space left on device" in record.getMessage()
    disk.free()
    rounds.sampler.sample_all()
    assert [len(rounds.samples(entry)) for entry in entries] == [2, 2]
