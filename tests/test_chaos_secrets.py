"""Chaos with secrets: jobs print them in many forms while workers, Redis and connections die. Then
no file but their own contains a value, and no client has got one: `--chaos-secrets 1000` is the
long run."""

from __future__ import annotations

import os
import queue
import random
import re
import shlex
import string
import subprocess
import sys
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import requests
from conftest import ROOT, Processes, RedisServer, end_jobs, quick_worker, wait_until
from programs.print_secrets import pieces
from proxy import Proxy
from redis_team import read_all
from test_redis import followed

from storage import Store
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.machines.redis_store import RedisStore
from tailboard.status import FINISHED

PROGRAM = str(ROOT / "tests" / "programs" / "print_secrets.py")
FOLLOWERS = 6  # at a time
NOTICE = b"--- attempt 2 ---\n"
SIGNS = string.ascii_letters + string.digits + "+/=&%?$\\'\"(*) #~é€"


def random_value(dice: random.Random) -> bytes:
    """A password or, sometimes, several lines like those of a key. None begins or ends with a
    space, which is not masked."""
    lines = dice.choice((1, 1, 1, 3))
    texts = ["".join(dice.choices(SIGNS, k=dice.randrange(8, 60))) for _ in range(lines)]
    return "\n".join(f"a{text}z" for text in texts).encode()


class Vault:
    """The folder of the secrets. Everything outside of it is searched for their values."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.values = {f"SECRET_{n}": random_value(dice) for n in range(5)}
        folder.mkdir(mode=0o700)
        for name, value in self.values.items():
            with open(
                folder / name, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)
            ) as f:
                f.write(value + b"\n")

    def needles(self) -> Iterator[bytes]:
        """What must not be found: each line of a value, and the encoded forms of it and of all."""
        for value in self.values.values():
            for text in {value, *value.split(b"\n")}:
                encoded = (b64encode(text), urlsafe_b64encode(text), quote(text, "").encode())
                for form in (text, *encoded, quote_plus(text).encode()):
                    if len(text) >= 4 and b"\n" not in form:
                        yield form

    def check(self, place: Path) -> int:
        """Searches all files of a folder; returns how many bytes these are."""
        needles, size = set(self.needles()), 0
        for path in place.rglob("*"):
            if path.is_relative_to(self.folder) or not path.is_file():
                continue
            content = path.read_bytes()
            size += len(content)
            for needle in needles:
                assert needle not in content, f"a value is in {path}"
        return size


class Jobs:
    """Jobs that print their secrets, and clients that follow them. Some get one of the values as a
    secret param instead, which exists only as long as the job needs it."""

    def __init__(self, store: Store, vault: Vault, count: int, dice: random.Random) -> None:
        self.store, self.vault = store, vault
        self.expected: dict[str, bytes] = {}  # by the job's ID: its log as readers may see it
        self.followed: dict[str, bytes] = {}
        self.to_follow: queue.Queue[str | None] = queue.Queue()
        self.errors: list[BaseException] = []
        for number in range(count):
            names = sorted(dice.sample(sorted(vault.values), dice.randrange(1, 4)))
            given = names[:1] if dice.random() < 0.4 else []
            self.submit(number, names, given, retries=dice.choice((0, 0, 1)))

    def submit(self, number: int, names: list[str], given: list[str], retries: int) -> None:
        code = min(retries, 1)
        words = [sys.executable, "-I", "-S", PROGRAM, str(number), str(code)]
        job = self.store.submit(
            Job(
                command=shlex.join(words),
                secrets=[name for name in names if name not in given],
                secret_params=given,
                secret_values={name: self.vault.values[name].decode() for name in given},
                retries=retries,
            )
        )
        values = [self.vault.values[name] for name in names]
        once = b"".join(piece.shown for piece in pieces(values, str(number)))
        self.expected[job.id] = once + (NOTICE + once) * retries
        self.to_follow.put(job.id)

    def is_over(self) -> bool:
        with suppress(OSError):  # Redis is being restarted
            counts = self.store.counts()
            return sum(counts[status] for status in FINISHED) == len(self.expected)
        return False

    @contextmanager
    def followers(self, url: str) -> Iterator[None]:
        """Clients that follow all jobs, some of them at a time."""

        def follow() -> None:
            try:
                self.follow_some(url)
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=follow) for _ in range(FOLLOWERS)]
        for thread in threads:
            self.to_follow.put(None)
            thread.start()
        yield
        for thread in threads:
            thread.join()
        assert not self.errors, self.errors

    def follow_some(self, url: str) -> None:
        while (job_id := self.to_follow.get()) is not None:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
            seen: list[str] = []
            logs = f"{url}/jobs/{job_id}/logs?follow=1"

            def is_ended(
                logs: str = logs, headers: dict[str, str] = headers, seen: list[str] = seen
            ) -> bool:
                return followed(logs, headers, seen) is not None

            wait_until(is_ended, 200)
            self.followed[job_id] = "".join(seen).encode()

    def check(self, url: str) -> None:
        """Checks what readers see of each log, to the byte."""
        for job_id, expected in self.expected.items():
            with self.store.open_log(job_id) as log:
                shown = read_all(log.read, log.start, log.size)
            # A worker that is killed before the attempt starts has already written this line.
            assert re.sub(b"(%s)+" % NOTICE, NOTICE, shown) == expected, job_id
            download = requests.get(f"{url}/jobs/{job_id}/logs?download=1", timeout=20)
            assert download.content == shown == self.followed[job_id], job_id


@pytest.fixture
def count(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--chaos-secrets"))


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"chaos-secrets: {seed=}")
    return random.Random(seed)


@pytest.fixture
def vault(tmp_path: Path, dice: random.Random) -> Vault:
    return Vault(tmp_path / "secrets", dice)


def pause(is_over: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    wait_until(lambda: is_over() or time.monotonic() > deadline)


def disturb(
    start: Callable[[str], subprocess.Popen[bytes]],
    faults: Sequence[Callable[[], None]],
    is_over: Callable[[], bool],
    dice: random.Random,
) -> int:
    """Kills one of two workers, or causes another fault, until all jobs have ended; how often."""
    workers = {name: start(name) for name in "ab"}
    kills = 0
    while not is_over():
        pause(is_over, dice.uniform(0.1, 0.6))
        kills += 1
        if faults and dice.random() < 0.5:
            dice.choice(faults)()
            continue
        name = dice.choice("ab")
        workers[name].kill()
        workers[name].wait()
        workers[name] = start(name)
    return kills


@pytest.mark.timeout(3600)
def test_no_value_is_left_in_a_jobs_folder(
    folder: Path,
    processes: Processes,
    tmp_path: Path,
    vault: Vault,
    dice: random.Random,
    count: int,
) -> None:
    store = FolderStore(folder)
    jobs = Jobs(store, vault, count, dice)
    url = processes.api()

    def start(_: str) -> subprocess.Popen[bytes]:
        return processes.start(*quick_worker(), "--slots", "4", TAILBOARD_SECRETS=str(vault.folder))

    begun = time.monotonic()
    with jobs.followers(url):
        kills = disturb(start, [], jobs.is_over, dice)
    jobs.check(url)
    size = vault.check(tmp_path)
    seconds = time.monotonic() - begun
    print(
        f"chaos-secrets: {count} jobs in a folder, {kills} kills, {size:,} bytes, {seconds:.0f} s"
    )
    store.close()


@pytest.mark.timeout(3600)
def test_no_value_is_left_on_machines_or_in_redis(
    redis: RedisServer,
    processes: Processes,
    tmp_path: Path,
    vault: Vault,
    dice: random.Random,
    count: int,
) -> None:
    key = vault.folder / "shared-key"
    key.touch(0o600)
    key.write_bytes(b64encode(dice.randbytes(32)))
    store = RedisStore(redis.url, secret_key=str(key))
    jobs = Jobs(store, vault, count, dice)
    url = processes.api(TAILBOARD_STORAGE=redis.url)
    spools = tmp_path / "spools"
    spools.mkdir()
    proxy = Proxy(redis.port)

    def start(name: str) -> subprocess.Popen[bytes]:
        return processes.start(
            *quick_worker(),
            *("--slots", "3"),
            TAILBOARD_STORAGE=f"redis://127.0.0.1:{proxy.port}/0",
            TAILBOARD_SPOOL=str(spools / name),
            TAILBOARD_SECRETS=str(vault.folder),
            TAILBOARD_SECRET_KEY=str(key),
        )

    def restart() -> None:
        redis.kill()
        redis.start()

    def lose_answers() -> None:
        """What the relay then sends again has arrived before."""
        proxy.drops_answers.set()
        pause(jobs.is_over, 0.3)
        proxy.drops_answers.clear()

    faults = [restart, lose_answers, lose_answers, proxy.drop]
    begun = time.monotonic()
    try:
        with jobs.followers(url):
            kills = disturb(start, faults, jobs.is_over, dice)
        jobs.check(url)
        redis.do("CONFIG", "SET", "rdbcompression", "no")
        redis.do("SAVE")
        size = vault.check(tmp_path)
    finally:
        processes.end()  # without the proxy, the workers would first wait for Redis
        for spool in spools.iterdir():
            end_jobs(FolderStore(spool))
        store.close()
        proxy.close()
    seconds = time.monotonic() - begun
    print(
        f"chaos-secrets: {count} jobs on 2 machines, {kills} kills, {size:,} bytes, {seconds:.0f} s"
    )
