"""Several machines that share a real Redis. The fixture `team` is for all tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Processes, RedisServer, end_jobs, quick_worker, wait_until

from storage import load_logs
from tailboard.errors import JobNotFound
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.machines.redis_machines import RedisMachines
from tailboard.machines.spool import Spool
from tailboard.status import FINISHED, Status


class Team:
    """Machines, each of which is a spool in which workers are started and killed."""

    def __init__(self, url: str, place: Path, processes: Processes) -> None:
        self.url, self.place, self.processes = url, place, processes
        self.store = RedisMachines(url)
        self.workers: list[subprocess.Popen[bytes]] = []

    def spool(self, name: str) -> Spool:
        return Spool(self.place / name)

    def start(self, name: str, *options: str, url: str = "", **env: str) -> subprocess.Popen[bytes]:
        env = {
            "TAILBOARD_STORAGE": url or self.url,
            "TAILBOARD_SPOOL": str(self.place / name),
            **env,
        }
        command = (*quick_worker(0.5, 0.5), *options)
        self.workers.append(self.processes.start(*command, **env))
        return self.workers[-1]

    def submit(self, command: str, **fields: Any) -> Job:
        return self.store.submit(Job(command=command, **fields))

    def begin(self, line: str) -> Job:
        """A job that prints "started" before the line, and that machine a has started."""
        job = self.submit(f"echo started; {line}")
        self.start("a")
        self.wait_for_log(job, "started\n")
        return job

    def wait(self, job: Job, *statuses: Status, timeout: float = 60.0) -> Job:
        """Waits until the job has ended or has one of these statuses."""

        def look() -> Job | None:
            with suppress(OSError, JobNotFound):
                found = self.store.get(job.id)
                return found if found.status in (statuses or FINISHED) else None
            return None

        found: Job = wait_until(look, timeout, self.processes.text)
        return found

    def wait_for_log(self, job: Job, text: str) -> None:
        def look() -> bool:
            with suppress(OSError, JobNotFound):
                return text in load_logs(self.store, job.id)
            return False

        wait_until(look, 60, self.processes.text)

    def log_of(self, job: Job) -> bytes:
        with self.store.open_log(job.id) as log:
            return read_all(log.read, log.start, log.size)

    def file_of(self, name: str, job: Job) -> bytes:
        """The log in a machine's spool."""
        with self.spool(name).open_log(job.id) as log:
            return read_all(log.read, log.start, log.size)

    def end(self) -> None:
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        for folder in self.place.iterdir():
            end_jobs(FolderStore(folder))
        self.store.close()


def read_all(read: Callable[[int, int], tuple[int, bytes]], begin: int, size: int) -> bytes:
    parts = []
    while begin < size:
        at, data = read(begin, 1 << 20)
        assert at == begin and data, "a log has no gap"
        parts.append(data)
        begin += len(data)
    return b"".join(parts)


@pytest.fixture
def team(redis: RedisServer, tmp_path: Path, processes: Processes) -> Iterator[Team]:
    place = tmp_path / "spools"
    place.mkdir()
    team = Team(redis.url, place, processes)
    yield team
    team.end()
