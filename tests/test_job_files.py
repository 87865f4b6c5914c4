"""The files of a job while it runs: its folder, its limit, and removing them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import Gate, JobMaker, Processes, wait_until
from hypothesis import given
from hypothesis import strategies as st

from storage import load_logs
from tailboard import intervals
from tailboard.files import remove_tree_in_steps
from tailboard.folder import tree_walk
from tailboard.folder.file_reading import list_files_in, open_file_in
from tailboard.folder.files_folder import count_files, make_files_folder, measure_files
from tailboard.folder.folder_store import FolderStore
from tailboard.folder.tree_walk import TreeWalk
from tailboard.job import Job
from tailboard.job_files import FileKind
from tailboard.run import end_steps
from tailboard.run.files_meter import SHARE, FilesMeter, pauses_after
from tailboard.status import Status

MIB = 1 << 20
WRITE = "head -c 2000000 /dev/zero >$JOB_FILES/big"  # a line of shell: about 2 MB


def kept(storage: FolderStore, job: Job) -> dict[str, str | None]:
    """What is in the job's `files`: the content of each file, None for anything else."""
    top = Path(storage.locate(job.id)[1], "files")
    return {
        str(path.relative_to(top)): path.read_text() if path.is_file() else None
        for path in top.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


# --- The folder of a job --------------------------------------------------------------------------

# What a job does, and what is kept of it then: the content of its files, and how many it has.
ENDS: dict[str, tuple[str, dict[str, Any], dict[str, str | None] | None, int]] = {
    "no files": ("true", {}, None, 0),
    "files": (
        "cd $JOB_FILES && mkdir sub && echo a >a && echo b >sub/b",
        {},
        {"a": "a\n", "sub/b": "b\n"},
        2,
    ),
    "an absolute path": ("cd / && echo a >$JOB_FILES/a", {}, {"a": "a\n"}, 1),
    "two names": ("cd $JOB_FILES && echo a >a && ln a b", {}, {"a": "a\n", "b": "a\n"}, 2),
    "no regular files": (
        "cd $JOB_FILES && ln -s / link && mkfifo fifo",
        {},
        {"link": None, "fifo": None},
        0,
    ),
    "a retry": (
        "cd $JOB_FILES && echo $JOB_ATTEMPT >$JOB_ATTEMPT && echo $JOB_ATTEMPT >last; exit 1",
        {"retries": 1},
        {"1": "1\n", "2": "2\n", "last": "2\n"},
        3,
    ),
    "files of each attempt": (
        "[ $JOB_ATTEMPT = 2 ] || echo $JOB_ATTEMPT >$JOB_FILES/a; exit 1",
        {"retries": 2, "keep_files": True},
        {"1/a": "1\n", "3/a": "3\n"},
        2,
    ),
    "no files of any attempt": ("exit 1", {"retries": 1, "keep_files": True}, None, 0),
    "its own environment": ("echo a >$JOB_FILES/a", {"env": {"JOB_FILES": "/"}}, {"a": "a\n"}, 1),
    "a script": ("#!/bin/sh\necho a >$JOB_FILES/a", {}, {"a": "a\n"}, 1),
    "a link instead": (
        "echo $JOB_ATTEMPT >$JOB_FILES/a && rm -r $JOB_FILES && ln -s / $JOB_FILES; exit 1",
        {"retries": 1},
        None,
        0,
    ),
    "a FIFO instead": (
        "F=$JOB_FILES; [ $JOB_ATTEMPT = 2 ] && echo a >$F/a || rmdir $F && mkfifo $F; exit 1",
        {"retries": 1},
        {"a": "a\n"},
        1,
    ),
    "no permission": (
        "echo $(stat -c %a $JOB_FILES) >$JOB_FILES/$JOB_ATTEMPT; chmod 0 $JOB_FILES; exit 1",
        {"retries": 1},
        {"1": "700\n", "2": "700\n"},
        2,
    ),
    "a removed folder": (
        "[ $JOB_ATTEMPT = 2 ] && echo a >$JOB_FILES/a || rmdir $JOB_FILES; exit 1",
        {"retries": 1},
        {"a": "a\n"},
        1,
    ),
}


def test_a_job_keeps_what_it_has_put_into_its_folder(
    storage: FolderStore, drain: Callable[..., None]
) -> None:
    jobs = {name: storage.submit(Job(command=c, **f)) for name, (c, f, *_) in ENDS.items()}
    drain("--slots", "4")
    for name, (_, _, files, count) in ENDS.items():
        job = storage.get(jobs[name].id)
        assert (job.files_count, job.status is Status.LOST) == (count, False), name
        folder = Path(storage.locate(job.id)[1], "files")
        if files is None:
            assert not folder.is_dir() or folder.is_symlink(), name
            assert job.files_bytes == 0
        else:
            assert kept(storage, job) == files, name
            assert stat.S_IMODE(folder.stat().st_mode) == (0 if name == "no permission" else 0o700)
        aside = list(folder.parent.glob("files.damaged-*"))
        assert len(aside) == (name in ("a link instead", "a FIFO instead")), name


def test_a_job_that_is_cancelled_while_it_waits_for_its_retry_has_its_files(
    storage: FolderStore, worker: Callable[..., Any], ended: Callable[..., Job]
) -> None:
    line = "echo a >$JOB_FILES/a; exit 1"
    job = storage.submit(Job(command=line, retries=1, retry_delay=600))
    worker()
    wait_until(lambda: storage.get(job.id).retried_at)
    storage.cancel(job.id, "why")
    job = ended(job)
    assert (job.status, job.files_count) == (Status.CANCELLED, 1)
    assert kept(storage, job) == {"a": "a\n"}


def test_a_job_that_never_starts_leaves_no_folder_for_files(storage: FolderStore) -> None:
    job = storage.submit(Job(command="true"))
    folder = Path(storage.locate(job.id)[1])
    assert stat.S_IMODE((folder / "files").stat().st_mode) == 0o700  # the worker need not make it
    storage.cancel(job.id, "not needed")
    assert storage.get(job.id).files_count == 0
    assert not Path(storage.locate(job.id)[1], "files").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "job").touch()
    with pytest.raises(
        ValueError, match=r"its folder for files, .*/job/files, cannot be made: Not a"
    ):
        make_files_folder(str(tmp_path / "job"), None)


def test_a_full_disk_is_not_the_fault_of_a_job(make_disk: Callable[[int, int], Any]) -> None:
    """The worker then queues the job again."""
    disk = make_disk(MIB, 100)
    disk.place.joinpath("job").mkdir()
    disk.fill_inodes()
    with pytest.raises(OSError, match="No space left"):
        make_files_folder(f"{disk.place}/job", None)


def test_an_end_does_not_wait_for_a_count_that_hangs(
    job_maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system that no longer responds."""
    monkeypatch.setattr(intervals, "COUNT_TIME", 0.05)
    claim = job_maker.running(b"")
    with ExitStack() as stack:
        for _ in range(4):  # others hang, too
            stack.enter_context(end_steps.COUNTING)
        counting = end_steps.FilesCounting(claim, lambda: None)
        wait_until(lambda: counting.is_done)
        assert counting.result is None
    claim.release()


# --- Its limit ------------------------------------------------------------------------------------


@pytest.fixture
def limited(processes: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a worker that measures often; 1 MB is the limit."""
    times = ["tailboard.intervals.FILES_INTERVAL=0.05", "tailboard.intervals.KILL_DELAY=0.5"]
    words = [sys.executable, "-m", "tests.programs.tuned_worker", *times, "--"]

    def start(limit: int = MIB, *options: str) -> subprocess.Popen[bytes]:
        return processes.start(*words, *options, TAILBOARD_FILES_MAX_BYTES=str(limit))

    return start


STOPPED = "its files exceeded TAILBOARD_FILES_MAX_BYTES (1,048,576 bytes)"


def test_a_job_whose_files_exceed_the_limit_is_stopped(
    storage: FolderStore,
    limited: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    """Hostile files below the limit stop no job: links to everything, a huge hole, a file with many
    names, a FIFO, folders without permissions."""
    harmless = (
        "cd $JOB_FILES && ln -s / a && truncate -s 4T hole && mkfifo fifo && mkdir -m 0 closed && "
        "head -c 400000 /dev/zero >b && for n in 1 2 3 4 5; do ln b b$n; done; "
        f"echo started; {gate.wait}"
    )
    small = storage.submit(Job(command=harmless))
    large = storage.submit(Job(command=f"{WRITE}; echo started; {gate.wait}"))
    in_parts = "for n in 1 2 3 4 5 6; do head -c 300000 /dev/zero >$JOB_FILES/$n; done"
    parts = storage.submit(Job(command=f"{in_parts}; echo started; {gate.wait}"))
    limited(MIB, "--slots", "3")
    for job in (large, parts):
        job = ended(job)
        assert (job.status, job.reason) == (Status.FAILED, STOPPED)
        assert load_logs(storage, job.id) == f"started\ntailboard: {STOPPED}\n"
        assert job.files_bytes and job.files_bytes > MIB
    started(small)
    gate.open()
    small = ended(small)
    assert (small.status, small.files_count) == (Status.SUCCEEDED, 7)
    assert small.files_bytes and small.files_bytes < MIB


def test_the_limit_applies_to_the_jobs_of_a_dead_worker(
    storage: FolderStore,
    limited: Callable[..., subprocess.Popen[bytes]],
    started: Callable[..., Job],
    ended: Callable[..., Job],
    gate: Gate,
) -> None:
    first = limited(0)  # no limit
    job = started(storage.submit(Job(command=f"{WRITE}; echo started; {gate.wait}")))
    first.send_signal(signal.SIGKILL)
    first.wait()
    limited()
    assert (ended(job).status, ended(job).reason) == (Status.FAILED, STOPPED)


def test_a_job_whose_files_cannot_be_measured_affects_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(intervals, "FILES_INTERVAL", 0.0)
    meter = FilesMeter(MIB)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "big").write_bytes(bytes(2 * MIB))
    meter.add("bad", "no path\0")
    meter.add("good", str(tmp_path))
    for _ in range(2):
        meter.measure_due()
    assert meter.is_exceeded("good")
    assert not meter.is_exceeded("bad")
    assert len(caplog.records) == 1


@given(st.lists(st.floats(0, 100), max_size=20))
def test_all_measurements_together_use_a_small_part_of_a_core(costs: list[float]) -> None:
    pauses = pauses_after(costs)
    used = sum(cost / pause for cost, pause in zip(costs, pauses, strict=True))
    wanted = sum(cost / intervals.FILES_INTERVAL for cost in costs)
    assert min(wanted, SHARE) * 0.999 <= used <= SHARE * 1.001
    for cost, pause in zip(costs, pauses, strict=True):
        assert pause >= intervals.FILES_INTERVAL
        if cost / intervals.FILES_INTERVAL <= SHARE / len(costs):
            assert pause == intervals.FILES_INTERVAL, "it waits because of others"


# --- Measuring a tree -----------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_walk_sees_every_entry_once(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"files/{number % 3}/{number % 5}/{number}").mkdir(parents=True)
        (tmp_path / f"files/{number % 3}/{number}").touch()
    wanted = sum(len(folders) + len(files) for _, folders, files in os.walk(tmp_path / "files"))
    seen = [found.st_ino for found in TreeWalk(os.open(tmp_path / "files", os.O_RDONLY))]
    assert len(seen) == len(set(seen)) == wanted == 73
    assert count_files(str(tmp_path)) == (25, measure_files(str(tmp_path), MIB))


def test_a_tree_of_any_depth_is_measured_with_few_descriptors(tmp_path: Path) -> None:
    """Its path would be 6,000 characters long, which no call takes."""
    (tmp_path / "files").mkdir()
    fd = os.open(tmp_path / "files", os.O_RDONLY)
    for _ in range(60):
        os.mkdir("deep" * 25, dir_fd=fd)
        below = os.open("deep" * 25, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    bottom = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(bottom, bytes(MIB))
    os.close(bottom)
    os.close(fd)
    before = open_descriptors()
    walk = TreeWalk(os.open(tmp_path / "files", os.O_RDONLY))
    assert max(open_descriptors() for _ in walk) <= before + 3
    assert open_descriptors() == before and walk.is_complete
    assert count_files(str(tmp_path)).files == 1
    assert measure_files(str(tmp_path), 1 << 40) >= MIB
    for _ in remove_tree_in_steps(str(tmp_path / "files")):
        pass


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_moves_does_not_lead_out_of_the_tree(
    tmp_path: Path, is_replaced: bool
) -> None:
    """Its `..` is then another folder. What was seen until then counts."""
    (tmp_path / "elsewhere/other").mkdir(parents=True)
    (tmp_path / "files/a/b").mkdir(parents=True)
    (tmp_path / "elsewhere/secret").touch()
    (tmp_path / "files/a/b/c").touch()
    walk = TreeWalk(os.open(tmp_path / "files", os.O_RDONLY))
    seen = []
    for found in walk:
        seen.append(found.st_ino)
        if len(seen) == 3:  # it is in b
            (tmp_path / "files/a/b").rename(tmp_path / "elsewhere/b")
        if len(seen) == 3 and is_replaced:
            (tmp_path / "files/a/b").mkdir()
    assert len(seen) == 3 and not walk.is_complete


def test_a_mount_is_not_entered(tmp_path: Path) -> None:
    place = tmp_path / "files/mount"
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    try:
        (place / "file").write_bytes(bytes(MIB))
        assert count_files(str(tmp_path)).files == 0
        assert measure_files(str(tmp_path), MIB) < MIB
        listed = list_files_in(str(tmp_path)).entries
        assert [(entry.path, entry.kind) for entry in listed] == [(b"mount", FileKind.FOLDER)]
        with pytest.raises(FileNotFoundError):
            open_file_in(str(tmp_path), b"mount/file")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_counting_and_measuring_stop_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "files"
    top.mkdir()
    for number in range(20):
        (top / str(number)).write_bytes(bytes(8_000))
    assert count_files(str(tmp_path), 20).files == 20
    (top / "folder").mkdir()
    (top / "1").unlink()
    assert count_files(str(tmp_path), 20).files == 19
    (top / "1").mkdir()
    assert count_files(str(tmp_path), 20).files == 20, "the listing is not complete"
    size = measure_files(str(tmp_path), MIB)
    assert 20_000 < measure_files(str(tmp_path), 20_000) < size
    monkeypatch.setattr(tree_walk, "MAX_PENDING", 1)
    (top / "2").unlink()
    assert count_files(str(tmp_path), 20).files == 20, "not all folders were entered"


# --- Removing them --------------------------------------------------------------------------------


def test_a_tree_is_removed_in_small_steps(tmp_path: Path) -> None:
    """Between two steps at most one entry disappears, however many there are."""
    top = tmp_path / "top"
    for number in range(20):
        (top / f"{number}/below").mkdir(parents=True)
        for name in range(10):
            (top / f"{number}/below/{name}").touch()
    left, steps = 240, 0
    for _ in remove_tree_in_steps(str(top)):
        now = sum(len(folders) + len(files) for _, folders, files in os.walk(top))
        assert left - 1 <= now <= left
        left, steps = now, steps + 1
    assert not top.exists() and steps < 500


@pytest.mark.parametrize("place", ["mount", "folder/mount", "folder/below/mount"])
def test_what_a_job_has_mounted_is_not_removed(tmp_path: Path, place: str) -> None:
    """Everything else is. `mount --bind` is as safe, although it is the same device."""
    top = tmp_path / "top"
    (top / place).mkdir(parents=True)
    (top / "folder/other").mkdir(parents=True, exist_ok=True)
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").touch()
    for option in ("--bind", "-t"):
        arguments = [option, source] if option == "--bind" else [option, "tmpfs", "tmpfs"]
        if subprocess.run(["mount", *arguments, top / place], capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
    try:
        (top / place / "kept").touch()
        with pytest.raises(OSError):
            for _ in remove_tree_in_steps(str(top)):
                pass
        assert (source / "kept").exists()
        assert [found.name for found in top.rglob("kept")] == ["kept"]
        assert not list(top.rglob("other"))
    finally:
        for _ in range(2):
            subprocess.run(["umount", "-l", next(top.rglob("mount"), top)], capture_output=True)
