"""Logs that grow without bound: their heads are freed; the newest bytes and all offsets stay."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Gate, Processes, need, wait_until

from storage import load_logs
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.log_limit import LogSupervisor
from tailboard.logs import SAMPLE, FileLog
from tailboard.status import Status
from tailboard.values import BLOCK

LIMIT = 1 << 20


def supervise(folder: Path) -> LogSupervisor:
    times = os.open(folder / "times", os.O_RDWR | os.O_CREAT)
    return LogSupervisor(str(folder / "output.log"), times)


@contextmanager
def mounted(kind: str, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of this kind."""
    place = tmp_path / kind
    place.mkdir()
    found = subprocess.run(["mount", "-t", kind, "none", place], capture_output=True)
    if found.returncode:
        pytest.skip(f"mounting is not permitted here: {found.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def without_holes(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that cannot punch holes."""
    with mounted("ramfs", tmp_path) as place:
        yield place


def test_the_oldest_part_of_a_running_jobs_runaway_log_is_freed(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    processes.worker(TAILBOARD_LOG_MAX_BYTES=str(LIMIT))
    job = storage.submit(Job(command=f"seq 3000000; cat {gate}; echo the end"))
    size = sum(len(str(n)) + 1 for n in range(1, 3_000_001))
    wait_until(lambda: storage.get(job.id).log_size == size)
    running = wait_until(
        lambda: (found := storage.get(job.id)).log_start > size - 2 * LIMIT and found,
        describe=lambda: storage.get(job.id),
    )
    assert running.status is Status.RUNNING
    (log,) = Path(storage.root).glob(f"*/{job.id}/output.log")
    assert log.stat().st_blocks * 512 < 2 * LIMIT
    gate.write_text("")
    found = ended(job)
    assert (found.status, found.exit_code) == (Status.SUCCEEDED, 0)
    assert found.log_size == size + len("the end\n") and found.log_start >= running.log_start
    assert load_logs(storage, job.id, 3) == "2999999\n3000000\nthe end\n"
    everything = load_logs(storage, job.id, 10_000_000)
    assert "\0" not in everything and everything.endswith("\n3000000\nthe end\n")
    with storage.open_log(job.id) as kept:
        begin, data = kept.read(0, 10)
        assert begin == kept.start == found.log_start and data.strip(b"0123456789\n") == b""


def test_a_job_can_have_a_lower_limit_of_its_own(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job], gate: Gate
) -> None:
    """A higher one has no effect."""
    processes.worker("--slots=2", TAILBOARD_LOG_MAX_BYTES=str(LIMIT))
    command = f"seq 300000; {gate.wait}"
    jobs = {
        limit: storage.submit(Job(command=command, log_max_bytes=own))
        for limit, own in ((BLOCK, BLOCK), (LIMIT, 1 << 40))
    }
    for limit, job in jobs.items():
        log = Path(storage.root, "running", job.id, "output.log")
        wait_until(lambda job=job: storage.get(job.id).log_start > 0)
        wait_until(lambda log=log, limit=limit: log.stat().st_blocks * 512 < 2 * limit)
        assert log.stat().st_blocks * 512 > limit / 2
    gate.open()
    assert {ended(job).status for job in jobs.values()} == {Status.SUCCEEDED}


def test_a_log_slightly_over_the_limit_does_not_stop_its_job(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job], gate: Gate
) -> None:
    """A log is freed in blocks, and no whole block is over the limit yet."""
    processes.worker(TAILBOARD_LOG_MAX_BYTES=str(LIMIT))
    job = storage.submit(Job(command=f"head -c {LIMIT + 10} /dev/zero; {gate.wait}; echo end"))

    def is_seen() -> bool:
        """Has the worker checked the log since?"""
        paths = Path(storage.root).glob(f"running/{job.id}/times")
        samples = b"".join(path.read_bytes() for path in paths)
        return any(size > LIMIT for _, size in SAMPLE.iter_unpack(samples))

    wait_until(is_seen, describe=lambda: storage.get(job.id))
    gate.open()
    assert ended(job).status is Status.SUCCEEDED


def test_blocks_past_the_end_of_a_running_log_are_freed(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job], gate: Gate
) -> None:
    processes.worker(TAILBOARD_LOG_MAX_BYTES=str(LIMIT))
    fallocate = f"{need('fallocate')} -n -l 200M /proc/self/fd/1"
    job = storage.submit(Job(command=f"echo first; {fallocate}; echo done; {gate.wait}; echo end"))
    log = Path(storage.root, "running", job.id, "output.log")
    wait_until(lambda: log.exists() and b"done" in log.read_bytes())
    wait_until(lambda: log.stat().st_blocks * 512 < 2 * LIMIT)
    gate.open()
    assert ended(job).status is Status.SUCCEEDED
    assert load_logs(storage, job.id) == "first\ndone\nend\n"


def test_a_log_is_not_truncated_if_the_file_system_frees_blocks_past_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XFS allocates such blocks for each file that grows. Truncating the log there lost output of a
    job that was writing: 2 KB in 8 s. tmpfs, which every test machine has, frees them, too."""

    def truncate(*_: int) -> None:
        raise AssertionError("a line that is written now would be lost")

    with mounted("tmpfs", tmp_path) as folder:
        log = folder / "output.log"
        log.write_bytes(b"first\n")
        subprocess.run([need("fallocate"), "-n", "-l", "20M", log], check=True)
        assert log.stat().st_blocks * 512 >= 20 << 20
        monkeypatch.setattr("os.ftruncate", truncate)
        keeper = supervise(folder)
        assert keeper.sample_and_trim(LIMIT)
        keeper.close()
        assert log.stat().st_blocks * 512 < 2 * LIMIT
        assert log.read_bytes() == b"first\n"


def test_a_short_job_leaves_no_more_than_the_limit(
    storage: FolderStore, processes: Processes, ended: Callable[..., Job]
) -> None:
    """It ends before the first check of its log."""
    processes.worker(TAILBOARD_LOG_MAX_BYTES=str(LIMIT))
    fallocate = f"{need('fallocate')} -n -l 200M /proc/self/fd/1"
    jobs = [
        storage.submit(Job(command=f"echo first; {fallocate}")),
        storage.submit(Job(command="seq 1000000")),
    ]
    for job in map(ended, jobs):
        assert job.status is Status.SUCCEEDED
        (log,) = Path(storage.root).glob(f"succeeded/*/{job.id}/output.log")
        assert log.stat().st_blocks * 512 < 2 * LIMIT
    assert load_logs(storage, jobs[0].id) == "first\n"
    assert storage.get(jobs[1].id).log_start > 0
    assert load_logs(storage, jobs[1].id, 1) == "1000000\n"


def test_a_runaway_job_is_stopped_if_its_log_cannot_be_trimmed(
    without_holes: Path, processes: Processes, ended: Callable[..., Job]
) -> None:
    storage = FolderStore(without_holes / "jobs")
    limit = {"TAILBOARD_LOG_MAX_BYTES": str(LIMIT), "TAILBOARD_STORAGE": storage.root}
    processes.worker("--slots=2", **limit)
    jobs = {
        cause: storage.submit(Job(command="seq 300000; exec sleep 1000", log_max_bytes=own))
        for cause, own in (("TAILBOARD_LOG_MAX_BYTES", None), ("its log_max_bytes", BLOCK))
    }
    for cause, job in jobs.items():
        wait_until(lambda job=job: storage.get(job.id).finished_at, describe=processes.text)
        found = storage.get(job.id)
        assert (found.status, found.exit_code) == (Status.FAILED, 143)
        assert found.reason and f"its log exceeded {cause} (" in found.reason


def test_a_log_within_the_limit_is_kept_whole(storage: FolderStore, tmp_path: Path) -> None:
    data = os.urandom(LIMIT + 300_000)
    (tmp_path / "output.log").write_bytes(data)
    keeper = supervise(tmp_path)
    assert keeper.sample_and_trim(len(data) + 4096)
    assert (tmp_path / "output.log").read_bytes() == data
    assert keeper.sample_and_trim(LIMIT)
    keeper.close()
    kept = (tmp_path / "output.log").read_bytes()
    assert kept[-LIMIT:] == data[-LIMIT:] and kept.startswith(b"\0" * (1 << 16))


def test_a_read_that_is_overtaken_continues_after_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(LIMIT + 300_000)
    (tmp_path / "output.log").write_bytes(data)
    keeper, pread = supervise(tmp_path), os.pread

    def read_then_trim(fd: int, size: int, offset: int) -> bytes:
        found = pread(fd, size, offset)
        keeper.sample_and_trim(LIMIT)
        return found

    monkeypatch.setattr("os.pread", read_then_trim)
    with FileLog(str(tmp_path / "output.log")) as log:
        begin, found = log.read(0, 4096)
        assert begin == log.start > 0 and found == data[begin : begin + 4096]
    keeper.close()


def test_no_size_sample_is_later_than_a_clock_that_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b"a\n")
    keeper = supervise(tmp_path)
    for now in (1_000.0, 1_000.5, 1_002.0, 500.0, 501.5, 1_004.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        keeper.sample_and_trim(LIMIT)
        with open(log, "ab") as file:
            file.write(b"a\n")
    keeper.close()
    again = supervise(tmp_path)
    assert list(again.samples) == [(500.0, 6), (501.5, 10), (1_004.0, 12)]
    again.close()
