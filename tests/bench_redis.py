"""How fast several machines run jobs over a Redis server: figures of bench.py --redis."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench_logs import measure_followers, write_log
from conftest import Processes, RedisServer, end_jobs, server_binary, wait_until
from figures import each, quantiles, say, say_alone
from machines import RedisMachine
from proxy import Proxy

from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.machines.redis_machines import REDIS_LOG_KEPT, RedisMachines
from tailboard.sealed import Sealer
from tailboard.status import FINISHED, Status

PATIENCE = 120  # seconds to wait for a worker to exit


class Machines:
    """A Redis server, and workers in spools of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        options = ("--appendfsync", "everysec", "--save", "")
        self.redis = RedisServer(folder / "redis", server_binary("valkey"), *options)
        self.redis.start()
        self.store = RedisMachines(self.redis.url)
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
        end_jobs(self.store)
        self.store.close()
        self.redis.kill()


@contextmanager
def several_machines(folder: Path) -> Iterator[Machines]:
    machines = Machines(folder)
    try:
        yield machines
    finally:
        machines.end()


def rate(done: Callable[[], int], jobs: int) -> float:
    """Jobs per second after the first tenth of the jobs, so that the start of processes does not
    count."""
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
            worker.wait(PATIENCE)


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


def throughput(folder: Path, jobs: int) -> None:
    """Two workers of two slots run `true`; RQ's SimpleWorker runs it, or does nothing."""
    if importlib.util.find_spec("rq") is None:
        raise RuntimeError("RQ is not installed: pip install rq")
    rounds: list[tuple[float, ...]] = []
    with several_machines(folder) as machines:
        for _ in range(5):
            ours = our_rate(machines, jobs)
            one = rq_rate(machines, jobs, 1, "subprocess.call", ["true"])
            two = rq_rate(machines, jobs, 2, "subprocess.call", ["true"])
            rounds.append((ours, one, two, rq_rate(machines, jobs, 2, "os.getpid")))
    ours, one, two, nothing = (statistics.median(column) for column in zip(*rounds, strict=True))
    say("jobs/s, 2 workers on Redis : RQ's SimpleWorker, `true`", ours, one, "1/s", "target 1.5")
    say("jobs/s, 2 workers on Redis : 2 of them, `true`", ours, two, "1/s")
    say("jobs/s, 2 workers on Redis : 2 of them, os.getpid()", ours, nothing, "1/s")


def used(machines: Machines) -> int:
    return int(machines.redis.do("INFO", "memory")["used_memory"])


def run_lines(machines: Machines, jobs: int) -> None:
    """Run jobs that each write a line."""
    known = machines.ended()
    for number in range(jobs):
        machines.store.submit(Job(command=f"echo line {number}"))
    wait_until(lambda: machines.ended() == known + jobs, 300)


def memory(folder: Path, jobs: int) -> None:
    """The memory for a finished job with a line of log, and for a byte of a long log."""
    with several_machines(folder) as machines:
        machines.worker("memory", "--slots", "2")
        run_lines(machines, 50)  # the scripts and other things that are stored once
        before = used(machines)
        run_lines(machines, jobs)
        of_a_job = (used(machines) - before) / jobs
        before, known = used(machines), machines.ended()
        machines.store.submit(Job(command="head -c 8000000 /dev/zero | tr '\\0' x"))
        wait_until(lambda: machines.ended() == known + 1, 100)
        of_a_byte = (used(machines) - before) / 8e6
    say_alone("memory of a finished job", of_a_job, "bytes", "target 2048")
    say_alone("memory of a log byte", of_a_byte, "bytes", "target 1.1")


def page(folder: Path, jobs: int) -> None:
    """The newest 50 of many jobs, which are queued in a queue without workers."""
    with several_machines(folder) as machines:
        for _ in range(jobs):
            machines.store.submit(Job(command="true", queue="nobody"))
        median, p95 = quantiles(each(50, lambda: machines.store.list(limit=50)))
    say_alone(f"page of 50 of {jobs:,}, median", median, "ms")
    say_alone(f"page of 50 of {jobs:,}, p95", p95, "ms")


def following(folder: Path, followers: int) -> None:
    """The time from a program's write to each follower's read."""
    with several_machines(folder) as machines:
        machines.worker("following")
        measure_followers(machines.store, machines.processes.api(), folder, followers)


def masking(folder: Path) -> None:
    """How fast the relay sends a log to Redis if its job has three secrets, and if it has none."""
    rounds: list[tuple[float, float]] = []
    with several_machines(folder) as machines:
        with closing(RedisMachine(machines.redis.url, str(folder / "spool"))) as machine:
            for _ in range(9):
                rounds.append((seconds_to_send(machine, 3), seconds_to_send(machine, 0)))
    masked, plain = (
        REDIS_LOG_KEPT / 1e6 / statistics.median(times) for times in zip(*rounds, strict=True)
    )
    say("a log with 3 secrets to Redis : without secrets", masked, plain, "MB/s", "target 0.8")


def seconds_to_send(machine: RedisMachine, secrets: int) -> float:
    """The time for as much of a log as Redis keeps."""
    machine.submit(Job(command="true"))
    held = machine.claim("bench", "host")
    assert held is not None
    with held:
        values = {f"SECRET_{n}": os.urandom(20).hex().encode() for n in range(secrets)}
        if secrets:
            Path(held.folder, "secrets").write_bytes(Sealer(machine.spool.root).seal(values))
        write_log(Path(held.folder, "output.log"), REDIS_LOG_KEPT)
        (seconds,) = each(1, machine.sync)
        assert machine.redis.get(held.job.id).log_size == REDIS_LOG_KEPT
        os.truncate(f"{held.folder}/output.log", 0)
        held.finish(Outcome(Status.SUCCEEDED, 0))
    machine.sync()
    return seconds


def recovery(folder: Path) -> None:
    """How soon a stalled network is noticed, and how soon a job starts afterwards."""
    with several_machines(folder) as machines, closing(Proxy(machines.redis.port)) as proxy:
        worker = machines.worker("recovery", url=f"redis://127.0.0.1:{proxy.port}/0")
        first = machines.store.submit(Job(command="true"))
        wait_until(lambda: machines.store.status(first.id) in FINISHED, 30)
        reported = machines.processes.text().count("redis away")
        proxy.stall()
        begun = time.perf_counter()
        wait_until(lambda: machines.processes.text().count("redis away") > reported, 30)
        noticed = time.perf_counter() - begun
        job = machines.store.submit(Job(command="true"))
        proxy.drop()
        proxy.go_on()
        begun = time.perf_counter()
        wait_until(lambda: machines.store.status(job.id) in FINISHED, 30)
        ran = time.perf_counter() - begun
        worker.terminate()  # while the proxy still forwards its last messages
        worker.wait(PATIENCE)
    say_alone("a stall: until it is noticed", noticed, "s")
    say_alone("a stall: from its end to the end of a job", ran, "s", "target 5")
