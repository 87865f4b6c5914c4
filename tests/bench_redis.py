"""How fast several machines run jobs over a Redis server: figures of bench.py --redis."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_logs import measure_followers
from conftest import Processes, RedisServer, server_binary, wait_until
from figures import quantiles, say
from proxy import Proxy

from storage import FINISHED, Job, RedisStore


class Machines:
    """A Redis server, and workers in spools of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        options = ("--appendfsync", "everysec", "--save", "")
        self.redis = RedisServer(folder / "redis", server_binary("valkey"), *options)
        self.redis.start()
        self.store = RedisStore(self.redis.url)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILBOARD_")}
        env = kept | {"TAILBOARD_STORAGE": self.redis.url}
        self.processes = Processes(folder / "output.txt", env)

    def worker(self, name: str, *options: str, url: str = "") -> subprocess.Popen[bytes]:
        env = {"TAILBOARD_SPOOL": str(self.folder / name)}
        return self.processes.worker(*options, **env, TAILBOARD_STORAGE=url or self.redis.url)

    def ended(self) -> int:
        counts = self.store.counts()
        return sum(counts[status] for status in FINISHED)

    def end(self) -> None:
        self.processes.end()
        self.store.close()
        self.redis.kill()


def rate(done: Callable[[], int], jobs: int) -> float:
    """Jobs a second, from the tenth part on: no start of a process is counted."""
    before = done()
    first = wait_until(lambda: max(0, done() - before - jobs // 10), 200)
    begun = time.perf_counter()
    first += jobs // 10
    wait_until(lambda: done() - before >= jobs, 200)
    return (jobs - first) / (time.perf_counter() - begun)


def our_rate(machines: Machines, jobs: int) -> float:
    for _ in range(jobs):
        machines.store.submit(Job(command="true"))
    workers = [machines.worker(name, "--slots", "2") for name in "ab"]
    try:
        return rate(machines.ended, jobs)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def rq_rate(machines: Machines, jobs: int, count: int, function: str, *arguments: Any) -> float:
    import redis
    from rq import Queue

    with redis.Redis.from_url(machines.redis.url) as client:
        queue = Queue(connection=client)
        for _ in range(jobs):
            queue.enqueue(function, *arguments, result_ttl=-1)
        command = [sys.executable, "-m", "rq.cli", "worker", "-q", "--url", machines.redis.url]
        command += ["-w", "rq.SimpleWorker"]
        workers = [machines.processes.start(*command) for _ in range(count)]
        try:
            return rate(lambda: int(queue.finished_job_registry.count), jobs)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def machines_throughput(machines: Machines, jobs: int) -> None:
    """Two workers of two slots run `true`; RQ's SimpleWorker runs it, or does nothing."""
    if importlib.util.find_spec("rq") is None:
        print("RQ is not installed: pip install rq")
        return
    rounds: list[tuple[float, ...]] = []
    for _ in range(5):
        ours = our_rate(machines, jobs)
        one = rq_rate(machines, jobs, 1, "subprocess.call", ["true"])
        two = rq_rate(machines, jobs, 2, "subprocess.call", ["true"])
        rounds.append((ours, one, two, rq_rate(machines, jobs, 2, "os.getpid")))
    ours, one, two, nothing = (statistics.median(column) for column in zip(*rounds, strict=True))
    say("2 workers on Redis | RQ's SimpleWorker, `true`", ours, one, "jobs/s", "at least 1.5")
    say("2 workers on Redis | 2 of them, `true`", ours, two, "jobs/s")
    say("2 workers on Redis | 2 of them, os.getpid()", ours, nothing, "jobs/s")


def used(machines: Machines) -> int:
    return int(machines.redis.do("INFO", "memory")["used_memory"])


def memory(machines: Machines, jobs: int) -> None:
    """Of a finished job with a line of log, and of the byte of a long log."""
    worker = machines.worker("memory", "--slots", "2")
    before, known = used(machines), machines.ended()
    for number in range(jobs):
        machines.store.submit(Job(command=f"echo line {number}"))
    wait_until(lambda: machines.ended() - known == jobs, 300)
    print(f"memory of a finished job: {(used(machines) - before) / jobs:.0f} bytes (at most 2048)")
    before, known = used(machines), machines.ended()
    machines.store.submit(Job(command="head -c 8000000 /dev/zero | tr '\\0' x"))
    wait_until(lambda: machines.ended() == known + 1, 100)
    print(f"memory of a log byte: {(used(machines) - before) / 8e6:.3f} bytes (at most 1.1)")
    worker.terminate()
    worker.wait()


def page(machines: Machines, jobs: int) -> None:
    """The newest 50 of so many; they are queued, and nobody serves their queue."""
    for _ in range(jobs):
        machines.store.submit(Job(command="true", queue="nobody"))
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        machines.store.list(limit=50)
        times.append(time.perf_counter() - begun)
    median, p95 = quantiles(times)
    print(f"page of 50 of {jobs:,}: median {median:.2f} ms, p95 {p95:.2f} ms")


def recovery(machines: Machines) -> None:
    """How soon a network that stalls is noticed, and how soon a job starts after it."""
    proxy = Proxy(machines.redis.port)
    url = f"redis://127.0.0.1:{proxy.port}/0"
    worker = machines.worker("recovery", url=url)
    first = machines.store.submit(Job(command="true"))
    wait_until(lambda: machines.store.status(first.id) in FINISHED, 30)
    told = machines.processes.text().count("redis away")
    proxy.stall()
    begun = time.perf_counter()
    wait_until(lambda: machines.processes.text().count("redis away") > told, 30)
    noticed = time.perf_counter() - begun
    job = machines.store.submit(Job(command="true"))
    proxy.drop()
    proxy.go_on()
    begun = time.perf_counter()
    wait_until(lambda: machines.store.status(job.id) in FINISHED, 30)
    ran = time.perf_counter() - begun
    print(f"a stall: noticed after {noticed:.1f} s, a job ran {ran:.1f} s after its end (5 s)")
    worker.terminate()
    worker.wait()
    proxy.close()


def several_machines(folder: Path, jobs: int, followers: int) -> None:
    machines = Machines(folder)
    try:
        machines_throughput(machines, jobs)
        memory(machines, 1_000)
        recovery(machines)
        worker = machines.worker("following")
        measure_followers(machines.store, machines.processes.api(), folder, followers)
        worker.terminate()
        worker.wait()
        page(machines, 100_000)
    finally:
        machines.end()
