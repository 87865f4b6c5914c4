"""Three machines whose networks to Redis are cut, stalled, delayed and half-opened, while clients
submit, cancel and follow through the API: `--chaos-net 1500` is the long run."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Processes, RedisServer, wait_until
from proxy import Proxy
from redis_team import Team
from test_redis import followed

from tailboard.job import Job
from tailboard.status import FINISHED, Status

MACHINES = ("a", "b", "c")
FOLLOWERS = 24  # at a time
LIMITS = {"TAILBOARD_UNREACHABLE": "10", "TAILBOARD_LOST_AFTER": "120"}


class Clients:
    """Clients like people and scripts that act at the same time, each with its own patience."""

    def __init__(self, url: str, ran: Path, count: int, dice: random.Random) -> None:
        self.url, self.ran, self.count, self.dice = url, ran, count, dice
        self.ids: list[str] = []  # of job 0, 1, …
        self.cancels: dict[
            str, str
        ] = {}  # ID -> accepted, refused, or unknown if there was no response
        self.to_follow: queue.Queue[str | None] = queue.Queue()
        self.followed: dict[str, bytes] = {}
        self.errors: list[BaseException] = []
        self.counts: Counter[str] = Counter()

    def submit_all(self) -> None:
        """Submits each job until the submit is known to have arrived; cancels and follows some."""
        for number in range(self.count):
            job_id = self.submit(number)
            self.ids.append(job_id)
            if self.dice.random() < 0.3:
                self.to_follow.put(job_id)
            if self.dice.random() < 0.15:
                self.cancel(self.dice.choice(self.ids[-12:]))
        for _ in range(FOLLOWERS):
            self.to_follow.put(None)

    def submit(self, number: int) -> str:
        body = {"command": f"echo $JOB_ID >>{self.ran}; {script(number)}"}
        headers = {"Idempotency-Key": f"net-{number}"}

        def is_accepted() -> str | None:
            answer = self.request("POST", "/jobs", json=body, headers=headers)
            if answer is None or answer.status_code == 503:
                self.counts["submits repeated"] += 1
                return None
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

        found: str = wait_until(is_accepted, 120)
        return found

    def cancel(self, job_id: str) -> None:
        if job_id in self.cancels:
            return
        answer = self.request("POST", f"/jobs/{job_id}/cancel")
        if answer is None or answer.status_code == 503:
            self.cancels[job_id] = "unknown"
        else:
            assert answer.status_code in (202, 409), answer.text
            self.cancels[job_id] = "accepted" if answer.status_code == 202 else "refused"

    def request(self, method: str, path: str, **options: Any) -> requests.Response | None:
        """The response; None if there was none."""
        try:
            return requests.request(method, self.url + path, timeout=20, **options)
        except requests.RequestException:
            return None

    def follow_some(self) -> None:
        """Follows one job after another to its end, resuming each stream where it broke off."""
        while (job_id := self.to_follow.get()) is not None:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": "0"}
            seen: list[str] = []
            logs = f"{self.url}/jobs/{job_id}/logs?follow=1"

            def is_ended(
                logs: str = logs, headers: dict[str, str] = headers, seen: list[str] = seen
            ) -> bool:
                self.counts["streams"] += 1
                return followed(logs, headers, seen) is not None

            wait_until(is_ended, 200)
            self.followed[job_id] = "".join(seen).encode()

    @contextmanager
    def running(self) -> Iterator[threading.Thread]:
        """Runs all clients; yields the thread that submits."""

        def guarded(act: Callable[[], None]) -> None:
            try:
                act()
            except BaseException as error:
                self.errors.append(error)

        acts = [self.submit_all, *[self.follow_some] * FOLLOWERS]
        threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        yield threads[0]
        for thread in threads:
            thread.join()
        assert not self.errors, self.errors


def script(number: int) -> str:
    """The command of job `number`: it names itself, writes output in two pieces and ends with an
    exit code. Every fourth job writes a file, which needs up to 14 chunks."""
    keep = f"seq {number % 90 * 1_800} >$JOB_FILES/file; " if number % 4 == 0 else ""
    return f"{keep}seq {number % 90}; sleep 0.{number % 3}; seq {number % 70}; exit {number % 5}"


def file_of(number: int) -> bytes:
    return b"".join(b"%d\n" % line for line in range(1, number % 90 * 1_800 + 1))


def log_of(number: int) -> bytes:
    lines = [*range(1, number % 90 + 1), *range(1, number % 70 + 1)]
    return b"".join(b"%d\n" % line for line in lines)


def disturb(proxies: list[Proxy], dice: random.Random, is_over: Callable[[], bool]) -> Counter[str]:
    """Causes one fault after another until all clients are done; returns the number of faults by
    kind."""
    faults: Counter[str] = Counter()

    def pause(most: float) -> None:
        deadline = time.monotonic() + dice.uniform(0.05, most)
        wait_until(lambda: is_over() or time.monotonic() > deadline, most + 60)

    while not is_over():
        proxy, fault = dice.choice(proxies), dice.choice(("cut", "stall", "delay", "half", "lose"))
        faults[fault] += 1
        if fault == "cut":
            proxy.drop()
        elif fault == "stall":
            proxy.stall()
            pause(5)
            proxy.go_on()
        elif fault == "delay":
            proxy.delay = dice.uniform(0.005, 0.1)
            pause(2)
            proxy.delay = 0.0
        elif fault == "half":
            proxy.half_open()
        else:
            proxy.drops_answers.set()
            pause(1)
            proxy.drops_answers.clear()
        pause(0.5)
    return faults


def test_a_bad_network_loses_and_duplicates_nothing(
    redis: RedisServer, tmp_path: Path, processes: Processes, pytestconfig: pytest.Config
) -> None:
    count, seed = int(pytestconfig.getoption("--chaos-net")), random.randrange(1 << 32)
    dice, ran, begun = random.Random(seed), tmp_path / "ran", time.monotonic()
    ran.touch()
    (tmp_path / "spools").mkdir()
    team = Team(redis.url, tmp_path / "spools", processes)
    with ExitStack() as stack:
        stack.callback(team.end)
        proxies = {name: Proxy(redis.port) for name in (*MACHINES, "api")}
        for proxy in proxies.values():
            stack.callback(proxy.close)
        urls = {name: f"redis://127.0.0.1:{proxy.port}/0" for name, proxy in proxies.items()}
        api = processes.api(TAILBOARD_STORAGE=urls["api"], **LIMITS)
        for name in MACHINES:
            team.start(name, "--slots", "2", url=urls[name], **LIMITS)
        clients = Clients(api, ran, count, random.Random(seed + 1))

        def is_over() -> bool:
            counts = team.store.counts()
            ended = sum(counts[status] for status in FINISHED)
            return bool(clients.errors) or (not submitting.is_alive() and ended == count)

        with clients.running() as submitting:
            faults = disturb(list(proxies.values()), dice, is_over)
            calm(proxies.values())
            wait_until(is_over, 120, processes.text)
        check(team, clients)
    answers = Counter(clients.cancels.values())
    print(
        f"chaos-net: {count} jobs on {len(MACHINES)} machines in {time.monotonic() - begun:.0f} s, "
        f"{faults.total()} faults ({dict(faults)}), cancels {dict(answers)}, "
        f"{len(clients.followed)} followed logs, {dict(clients.counts)}, {seed=}"
    )


def calm(proxies: Any) -> None:
    for proxy in proxies:
        proxy.go_on()
        proxy.delay = 0.0
        proxy.drops_answers.clear()


def check(team: Team, clients: Clients) -> None:
    """Checks that each accepted job ended once with the right outcome, and that all logs are equal
    to the byte."""
    ran = Counter(clients.ran.read_text().split())
    assert len(set(clients.ids)) == clients.count
    counts = {status: count for status, count in team.store.counts().items() if count}
    assert counts == Counter(team.store.status(job_id) for job_id in clients.ids)
    for number, job_id in enumerate(clients.ids):
        job = team.store.get(job_id)
        cancel = clients.cancels.get(job_id)
        if job.status is Status.CANCELLED:
            assert cancel in ("accepted", "unknown"), job
            assert ran[job_id] <= 1, job
        else:
            assert cancel != "accepted", job
            assert (job.exit_code, ran[job_id]) == (number % 5, 1), job
        if number % 4 == 0 and job.status is not Status.CANCELLED:
            assert read_file(team, job) == file_of(number), job
        whole = log_of(number)
        is_whole = job.status is not Status.CANCELLED
        log = read_if_any(lambda job=job: team.log_of(job))
        assert log == whole if is_whole else whole.startswith(log), job
        for name in (name for name in MACHINES if team.spool(name).find(job_id)):
            in_spool = read_if_any(lambda name=name, job=job: team.file_of(name, job))
            assert in_spool == log, (name, job)
        assert clients.followed.get(job_id, log) == log, job
    assert "Traceback" not in team.processes.text()


def read_file(team: Team, job: Job) -> bytes:
    with team.store.open_file(job.id, b"file") as file:
        parts, offset = [], 0
        while data := file.read(offset, 1 << 20):
            parts.append(data)
            offset += len(data)
        return b"".join(parts)


def read_if_any(read: Callable[[], bytes]) -> bytes:
    """b"" if the job has no log, since it was cancelled before it started."""
    try:
        return read()
    except FileNotFoundError:
        return b""
