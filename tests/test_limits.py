"""The limits of a job: `max_memory` and `nice`.

Those with cgroups need root and cgroups v2 that control memory; elsewhere they are skipped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_site import Tailboard
from conftest import (
    BY_HAND,
    Gate,
    JobMaker,
    Processes,
    load_logs,
    need,
    pids_in,
    quick_worker,
    wait_until,
)
from flask.testing import FlaskClient

from storage import FolderStore
from tailboard.job import Job, is_memory, is_nice
from tailboard.journal import Outcome
from tailboard.run import cgroups
from tailboard.run.cgroups import NoCgroups
from tailboard.run.job_limits import JobLimits
from tailboard.run.running import Running
from tailboard.settings import Settings
from tailboard.sizes import show_size
from tailboard.status import Status

MIB = 1 << 20
ALLOCATE = "import sys; kept = b'x' * (int(sys.argv[1]) << 20); print('allocated')"
CGROUPS = Path("/sys/fs/cgroup")
MAIN = cgroups.MAIN


def allocate(mib: int) -> str:
    """A line of shell that uses this much memory."""
    return f'{sys.executable} -c "{ALLOCATE}" {mib}'


# --- Without cgroups ------------------------------------------------------------------------------


def need_no_cgroups() -> None:
    try:
        base = cgroups.find_base()
    except NoCgroups:
        return
    pytest.skip(f"cgroups could be used: {base}")


def test_a_job_with_max_memory_is_refused_without_cgroups(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    need_no_cgroups()
    job = storage.submit(Job(command="echo ran", max_memory=100 * MIB, retries=2))
    drain()
    job = storage.get(job.id)
    assert (job.status, job.attempt) == (Status.FAILED, 1)
    assert job.reason is not None
    assert job.reason.startswith("cannot start: max_memory needs a cgroup v2 of the worker's own, ")
    assert "Delegate=memory" in job.reason
    assert "TAILBOARD_MEMORY=rlimit" in job.reason
    assert load_logs(storage, job.id) == f"tailboard: {job.reason}\n"


def test_with_rlimit_each_process_is_limited_and_the_shim_records_the_end(
    storage: FolderStore, processes: Processes
) -> None:
    """A limit of the worker itself that is lower stays."""
    need_no_cgroups()
    within, beyond = (
        storage.submit(Job(command=allocate(mib), max_memory=100 * MIB)) for mib in (1, 200)
    )
    high = storage.submit(Job(command="ulimit -v", max_memory=8_192 * MIB))
    limited = ["sh", "-c", 'ulimit -v 4194304 && exec "$@"', "sh", *quick_worker()]
    worker = processes.start(*limited, "--drain", "--slots=3", TAILBOARD_MEMORY="rlimit")
    assert worker.wait(60) == 0
    assert storage.get(within.id).status is Status.SUCCEEDED
    job = storage.get(beyond.id)
    assert (job.status, job.exit_code) == (Status.FAILED, 1)
    log = load_logs(storage, job.id)
    assert log.startswith("tailboard: max_memory limits the address space of each process to 100 M")
    assert "MemoryError" in log
    notice = "tailboard: max_memory limits the address space of each process to 4 GiB"
    assert load_logs(storage, high.id) == f"{notice} (TAILBOARD_MEMORY=rlimit)\n4194304\n"


# --- nice -----------------------------------------------------------------------------------------


def test_the_processes_of_a_job_have_its_nice_value(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    autogroup = "/proc/self/autogroup"
    command = f"nice; test ! -e {autogroup} || sed 's/.* //' {autogroup}"
    jobs = {nice: storage.submit(Job(command=command, nice=nice)) for nice in (None, 19)}
    drain()
    seen = {nice: load_logs(storage, job.id).split() for nice, job in jobs.items()}
    assert seen[None][0] == str(os.nice(0))
    assert set(seen[19]) == {"19"}


def test_a_nice_value_that_is_not_permitted_is_reported_and_the_job_runs(
    storage: FolderStore, processes: Processes
) -> None:
    job = storage.submit(Job(command="nice", nice=-5))
    command = [*quick_worker(), "--drain"]
    if os.geteuid() == 0:
        command = [need("setpriv"), "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", *command]
    assert processes.start(*command).wait(60) == 0
    own = os.nice(0)
    notice = f"tailboard: nice -5 is not permitted here; it runs with nice {own}"
    assert load_logs(storage, job.id) == f"{notice}\n{own}\n"
    assert storage.get(job.id).status is Status.SUCCEEDED
    assert f"nice not permitted job={job.id} nice=-5 actual={own}" in processes.text()


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(("nice", value, "a whole number from -20 to 19") for value in (20, -21, "5", 1.5, True)),
        *(
            ("max_memory", value, "a whole number of bytes from 8,388,608 on")
            for value in (1, 0, -1, (8 << 20) - 1, "2G", 1e9, 1 << 60)
        ),
    ],
)
def test_an_invalid_value_is_refused_by_the_api(
    client: FlaskClient, field: str, value: Any, allowed: str
) -> None:
    answer = client.post("/jobs", json={"command": "true", "queue": BY_HAND, field: value})
    assert (answer.status_code, answer.json["detail"]) == (400, f"{field} must be {allowed}")


def test_an_invalid_value_in_a_file_is_noticed() -> None:
    assert [n for n in (-21, -20, 0, 19, 20, "1", None) if is_nice(n)] == [-20, 0, 19, None]
    assert [n for n in (1, 8 << 20, 1 << 60, "2G", None) if is_memory(n)] == [8 << 20, None]


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (("--nice", "-5"), "nice", -5),
        (("--nice=19",), "nice", 19),
        (("--max-memory", "2G"), "max_memory", 2 << 30),
        (("--max-memory", "512MiB"), "max_memory", 512 << 20),
        (("--max-memory", "10485760"), "max_memory", 10 << 20),
    ],
)
def test_the_commands_accept_sizes_with_units_and_negative_nice_values(
    on_folder: Tailboard, options: Any, field: str, value: int
) -> None:
    printed = on_folder("submit", *options, "true").stdout
    assert getattr(on_folder.storage.get(printed.strip()), field) == value


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--max-memory", "1e9"), "'1e9' is not a size such as 1048576, 512M or 2G"),
        (("--max-memory", "1"), "max_memory must be a whole number of bytes from 8,388,608 on"),
        (("--nice", "20"), "nice must be a whole number from -20 to 19"),
    ],
)
def test_the_commands_refuse_other_values(on_folder: Tailboard, options: Any, error: str) -> None:
    result = on_folder("submit", *options, "true")
    assert result.exit_code != 0
    assert error in result.stderr


def test_the_commands_show_sizes_with_units(on_folder: Tailboard) -> None:
    limits = ("--max-memory=2G", "--log-max-bytes=1536K", "--nice=0")
    on_folder("save", "big", *limits, "true")
    shown = on_folder("saved", "show", "big").stdout
    for line in ("max memory     2 GiB", "log max bytes  1.5 MiB", "nice           0"):
        assert line in shown
    job_id = on_folder("submit", *limits, "true").stdout.strip()
    rows = dict(line.split(None, 1) for line in on_folder("show", job_id).stdout.splitlines())
    assert (rows["max_memory"], rows["log_max_bytes"], rows["nice"]) == ("2 GiB", "1.5 MiB", "0")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (1536 << 10, "1.5 MiB"),
        (2 << 30, "2 GiB"),
        ((100 << 20) + 1, "100 MiB"),
        (5 << 50, "5,120 TiB"),
    ],
)
def test_a_size_has_a_unit(size: int, text: str) -> None:
    assert show_size(size) == text


def test_the_only_other_way_to_limit_memory_is_rlimit() -> None:
    assert Settings.read({"TAILBOARD_MEMORY": "rlimit"}).memory == "rlimit"
    with pytest.raises(
        ValueError, match=r"^TAILBOARD_MEMORY must be rlimit or unset, not 'cgroup'$"
    ):
        Settings.read({"TAILBOARD_MEMORY": "cgroup"})


# --- Which cgroup is the worker's own -------------------------------------------------------------


class Tree:
    """Files like those of /proc and of a cgroup file system."""

    def __init__(self, home: Path) -> None:
        self.proc, self.root = home / "proc", home / "cgroup fs"
        self.proc.mkdir()
        self.add("", "memory")

    def add(self, name: str, controllers: str = "memory", mark: str = "") -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text(f"cpu {controllers}\n")
        for file in ("cgroup.procs", "cgroup.subtree_control"):
            (folder / file).touch()
        if mark:
            try:
                os.setxattr(folder, mark, b"1")
            except OSError as error:
                pytest.skip(f"this file system has no such attributes: {error}")
        return folder

    def enter(self, path: str, root: str = "/", kind: str = "cgroup2") -> Path:
        """Lets a process be in this cgroup; returns its folder of /proc."""
        (self.proc / "cgroup").write_text(f"4:memory:/elsewhere\n0::{path}\n")
        point = str(self.root).replace(" ", "\\040")
        (self.proc / "mountinfo").write_text(
            "24 1 0:22 / /proc rw - proc proc rw\n"
            f"25 1 0:23 {root} {point} rw,nosuid shared:9 - {kind} cgroup2 rw\n"
        )
        return self.proc


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


UNIT = "system.slice/tailboard-worker.service"
FOREIGN = (
    "user.slice/user@1000.service/app.slice/terminal.scope"  # users own it, but systemd uses it
)


def test_a_delegated_cgroup_is_the_workers_own(tree: Tree) -> None:
    base = tree.add(UNIT, mark="user.delegate")
    assert cgroups.find_base(tree.enter(f"/{UNIT}")) == base
    # After it has moved there, or with DelegateSubgroup= in its unit:
    for part in (MAIN, "worker"):
        tree.add(f"{UNIT}/{part}", controllers="")
        assert cgroups.find_base(tree.enter(f"/{UNIT}/{part}")) == base


def test_the_root_of_a_container_is_the_workers_own_but_that_of_the_system_is_not(
    tree: Tree,
) -> None:
    with pytest.raises(NoCgroups, match="is not delegated to it"):
        cgroups.find_base(tree.enter("/"))
    (tree.root / "cgroup.type").touch()
    assert cgroups.find_base(tree.enter("/")) == tree.root


def test_the_part_of_a_cgroup_file_system_that_is_mounted_counts(tree: Tree) -> None:
    base = tree.add("unit", mark="user.delegate")
    assert cgroups.find_base(tree.enter("/docker/1/unit", root="/docker/1")) == base
    with pytest.raises(NoCgroups, match="no cgroups v2"):
        cgroups.find_base(tree.enter("/docker/2/unit", root="/docker/1"))


@pytest.mark.parametrize("is_delegated", [True, False])
def test_the_users_systemd_is_asked_whether_its_unit_is_delegated(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_delegated: bool
) -> None:
    unit = "user.slice/user@1000.service/app.slice/tailboard.service"
    base = tree.add(unit)
    answer = "yes" if is_delegated else "no"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$1 $6" = "--user tailboard.service" ] && echo {answer}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if is_delegated:
        assert cgroups.find_base(tree.enter(f"/{unit}")) == base
    else:
        with pytest.raises(NoCgroups, match="is not delegated to it"):
            cgroups.find_base(tree.enter(f"/{unit}"))


def test_no_other_cgroup_is_used(tree: Tree) -> None:
    tree.add(FOREIGN)
    with pytest.raises(NoCgroups, match="is not delegated to it"):
        cgroups.find_base(tree.enter(f"/{FOREIGN}"))
    tree.add(UNIT, controllers="pids", mark="user.delegate")
    with pytest.raises(NoCgroups, match="was delegated without control of memory"):
        cgroups.find_base(tree.enter(f"/{UNIT}"))
    with pytest.raises(NoCgroups, match="this system has no cgroups v2"):
        cgroups.find_base(tree.enter(f"/{UNIT}", kind="cgroup"))
    tree.add("", controllers="pids")
    with pytest.raises(NoCgroups, match="cgroups v2 do not control memory here"):
        cgroups.find_base(tree.enter(f"/{UNIT}"))


# --- What the kernel has killed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "notice"),
    [
        ("oom 1\noom_kill 1\n", "the kernel killed one of its processes"),
        ("oom 3\noom_kill 2\n", "the kernel killed 2 of its processes"),
        ("oom 0\noom_kill 1\n", None),  # the whole machine had no memory left
        ("oom 1\noom_kill 0\n", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("was_stopped", [False, True])
def test_a_kill_by_the_kernel_is_the_reason_unless_the_job_was_stopped(
    job_maker: JobMaker, tmp_path: Path, events: str, notice: str | None, was_stopped: bool
) -> None:
    (tmp_path / "memory.events").write_text(events)
    claim = job_maker.running(max_memory=64 * MIB)
    if was_stopped:
        claim.write_stopping(Status.CANCELLED, "why")
        claim.read()
    limits, outcome = JobLimits(""), Outcome(Status.FAILED, 137, reason="why")
    limits.folders[claim.job.id] = tmp_path
    limits.explain(Running(claim, None), outcome)
    text = "it used more than its max_memory of 64 MiB"
    is_killed = notice is not None and not was_stopped
    assert outcome.reason == (f"killed: {text}" if is_killed else "why")
    log = load_logs(job_maker.storage, claim.job.id)
    assert log == (f"tailboard: {notice}: {text}\n" if notice else "")
    claim.release()


# --- With cgroups ---------------------------------------------------------------------------------


@pytest.fixture
def unit() -> Iterator[Path]:
    """A delegated cgroup like that of a service. Needs root, and a system with cgroups v2."""
    if os.geteuid() != 0 or "memory" not in cgroups.words_in(CGROUPS / "cgroup.subtree_control"):
        pytest.skip("needs root and cgroups v2 that control memory")
    folder = CGROUPS / f"tailboard-test-{os.getpid()}.service"
    folder.mkdir()
    os.setxattr(folder, "user.delegate", b"1")
    yield folder

    def is_removed() -> bool:
        for each in [*folder.iterdir(), folder]:
            if each.is_dir() and not cgroups.remove(each):
                return False
        return True

    wait_until(is_removed)


@pytest.fixture
def unit_worker(unit: Path, processes: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a worker in that cgroup, as systemd does."""

    def start(*options: str) -> subprocess.Popen[bytes]:
        enter = f'echo $$ >"{unit}/cgroup.procs" && exec "$@"'
        return processes.start("/bin/sh", "-c", enter, "sh", *quick_worker(), *options)

    return start


def test_a_job_that_exceeds_its_max_memory_is_killed_and_says_so(
    storage: FolderStore, unit: Path, unit_worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    survivor = f"{allocate(300)} || echo survived"
    within, beyond, survives, fails, unlimited = (
        storage.submit(Job(command=command, max_memory=limit))
        for command, limit in [
            (allocate(10), 64 * MIB),
            (allocate(300), 64 * MIB),
            (survivor, 64 * MIB),
            (f"{survivor}; exit 3", 64 * MIB),
            (allocate(300), None),
        ]
    )
    assert unit_worker("--drain", "--slots=1").wait(60) == 0
    reason = "killed: it used more than its max_memory of 64 MiB"
    notice = f"tailboard: the kernel killed one of its processes: {reason[8:]}\n"
    found = [storage.get(job.id) for job in (within, beyond, survives, fails, unlimited)]
    assert [(job.status, job.exit_code, job.reason) for job in found] == [
        (Status.SUCCEEDED, 0, None),
        (Status.FAILED, 137, reason),
        (Status.SUCCEEDED, 0, None),
        (Status.FAILED, 3, reason),
        (Status.SUCCEEDED, 0, None),
    ]
    for job in (beyond, survives, fails):
        assert load_logs(storage, job.id).endswith(notice)
    assert notice not in load_logs(storage, within.id)
    assert [each.name for each in unit.iterdir() if each.is_dir()] == [MAIN]


def test_the_next_worker_limits_the_jobs_of_a_worker_that_was_killed(
    storage: FolderStore,
    unit: Path,
    unit_worker: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    command = f"echo started; {gate.wait}; {allocate(300)}"
    jobs = [storage.submit(Job(command=command, max_memory=64 * MIB)) for _ in range(2)]
    limits = [unit / f"tailboard-{job.id}-1" / "memory.max" for job in jobs]
    first = unit_worker("--slots=2")
    for job in jobs:
        started(job)
    first.send_signal(signal.SIGKILL)
    first.wait()
    # The guard has ended the division, so that a process can enter the unit's cgroup.
    wait_until(lambda: not any(limit.exists() for limit in limits))
    unit_worker("--slots=2")
    wait_until(lambda: all(cgroups.words_in(limit) == [str(64 * MIB)] for limit in limits))
    gate.open()
    for job in jobs:
        assert ended(job).reason == "killed: it used more than its max_memory of 64 MiB"


def test_a_cgroup_is_removed_once_the_processes_that_a_job_left_have_ended(
    storage: FolderStore,
    unit: Path,
    unit_worker: Callable[..., subprocess.Popen[bytes]],
    ended: Callable[..., Job],
    tmp_path: Path,
) -> None:
    left = f"sleep 600 >&- 2>&- & echo $! >{tmp_path}/pids"
    job = storage.submit(Job(command=left, max_memory=64 * MIB))
    unit_worker()
    assert ended(job).status is Status.SUCCEEDED
    folder = unit / f"tailboard-{job.id}-1"
    assert folder.exists()
    os.kill(pids_in(tmp_path / "pids", 1)[0], signal.SIGKILL)
    wait_until(lambda: not cgroups.words_in(folder / "cgroup.procs"))
    ended(storage.submit(Job(command="true", max_memory=64 * MIB)))
    wait_until(lambda: not folder.exists())


def test_cgroups_left_behind_are_removed(unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = unit / "tailboard-20200101-000000-abcdefgh-1"
    old.mkdir()
    cgroups.remove_left_behind(unit)
    assert old.exists()  # another worker may be starting it
    monkeypatch.setattr(cgroups, "LEFT_AFTER", -1.0)
    cgroups.remove_left_behind(unit)
    assert not old.exists()
