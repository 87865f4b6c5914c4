"""How fast Tailboard is, as ratios to what is bare, taken in one run on one machine.

    python tests/bench.py [--jobs 300] [--gigabytes 2] [--followers 50] [--seconds 20]
    python tests/bench.py --page        the page alone, in Chromium
    python tests/bench.py --redis [--jobs 300] [--followers 50]     (beside RQ: pip install rq)

Absolute times are of this machine and this hour; quote the ratios. They differ from one file system
to another: TMPDIR says where to measure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import requests
from flask import Flask, Response, send_file

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import attacks  # noqa: E402
from bench_page import bench_page  # noqa: E402
from conftest import (  # noqa: E402
    Processes,
    RedisServer,
    clean_environment,
    free_port,
    serve_site,
    server_binary,
    start_shim,
    wait_until,
)
from proxy import Proxy  # noqa: E402

from storage import (  # noqa: E402
    FINISHED,
    FileLog,
    FolderStore,
    Job,
    RedisStore,
    Store,
    first_id,
)


def say(what: str, ours: float, bare: float, unit: str, reach: str = "") -> None:
    print(f"{what:52} {ours:10.4g} {bare:10.4g} {unit:9} ratio {ours / bare:7.3f}  {reach}")


def quantiles(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in ms."""
    times = sorted(times)
    return statistics.median(times) * 1e3, times[int(len(times) * 0.95)] * 1e3


def fresh(folder: Path) -> tuple[FolderStore, Processes]:
    folder.mkdir()
    processes = Processes(folder / "output.txt", clean_environment(folder / "jobs"))
    return FolderStore(folder / "jobs"), processes


# --- Running jobs -------------------------------------------------------------------------------


def in_threads(slots: int, jobs: int, run: Callable[[int], None]) -> float:
    """Jobs a second of so many threads that run one after the other."""
    numbers, guard = iter(range(jobs)), threading.Lock()

    def take() -> None:
        while True:
            with guard:
                number = next(numbers, None)
            if number is None:
                return
            run(number)

    threads = [threading.Thread(target=take) for _ in range(slots)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return jobs / (time.perf_counter() - begun)


def bare_loop(folder: Path, slots: int, jobs: int) -> float:
    """Jobs a second of threads that only start `true`, each with a log of its own."""
    folder.mkdir()

    def run(number: int) -> None:
        with open(folder / f"{number}.log", "ab") as log:
            subprocess.Popen(["true"], stdin=subprocess.DEVNULL, stdout=log, stderr=log).wait()

    return in_threads(slots, jobs, run)


def durable_loop(folder: Path, slots: int, jobs: int) -> float:
    """Jobs a second of threads that do what each of our jobs promises, and no more: append a line
    and fsync it, run the shim, append a line and fsync it."""
    folder.mkdir()

    def run(number: int) -> None:
        own = folder / str(number)
        own.mkdir()
        journal = os.open(own / "journal", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(journal, b'\n{"claimed": {}}\n')
        os.fsync(journal)
        with open(own / "output.log", "ab") as log:
            start_shim(journal, log, "true", start_new_session=True).wait()
        os.write(journal, b'\n{"ended": {}}\n')
        os.fsync(journal)
        os.close(journal)

    return in_threads(slots, jobs, run)


def peer_loop(folder: Path, slots: int, jobs: int, peer: str) -> float:
    """Jobs a second of nq or task-spooler, all queued before they may start."""
    folder.mkdir()
    if peer == "nq":
        env = os.environ | {"NQDIR": str(folder)}
        begun = time.perf_counter()
        for _ in range(jobs):
            subprocess.run(["nq", "-q", "true"], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["nq", "-w"], env=env, check=True)
        return jobs / (time.perf_counter() - begun)
    env = os.environ | {"TS_SOCKET": str(folder / "socket"), "TMPDIR": str(folder)}
    env |= {"TS_MAXFINISHED": str(jobs * 2)}
    subprocess.run(["tsp", "-S", str(slots)], env=env, check=True, stdout=subprocess.DEVNULL)
    begun = time.perf_counter()
    for _ in range(jobs):
        subprocess.run(["tsp", "true"], env=env, check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: b"running" not in (text := peer_list(env)) and b"queued" not in text, 120)
    seconds = time.perf_counter() - begun
    subprocess.run(["tsp", "-K"], env=env, check=True)
    return jobs / seconds


def peer_list(env: dict[str, str]) -> bytes:
    return subprocess.run(["tsp"], env=env, check=True, capture_output=True).stdout


def drain(folder: Path, slots: int, jobs: int) -> float:
    """Jobs a second of a worker, between its first claim and its last record."""
    storage, processes = fresh(folder)
    for _ in range(jobs):
        storage.submit(Job(command=["true"]))
    processes.worker("--slots", str(slots), "--drain").wait()
    seen = re.findall(r"^[0-9-]+ ([0-9:.]+)Z INFO (?:claimed|succeeded)", processes.text(), re.M)
    first, last = ([float(part) for part in moment.split(":")] for moment in (seen[0], seen[-1]))
    seconds = [a * 3600 + b * 60 + c for a, b, c in (first, last)]
    return jobs / ((seconds[1] - seconds[0]) % 86_400)


def throughput(folder: Path, jobs: int) -> None:
    """Medians of five runs taken in turn; every job is queued before the worker starts."""
    for slots in (1, 2):
        rates: dict[str, list[float]] = {"ours": [], "durable": [], "bare": [], "nq": [], "tsp": []}
        for turn in range(5):
            name = f"{slots}-{turn}"
            rates["ours"].append(drain(folder / f"ours{name}", slots, jobs))
            rates["durable"].append(durable_loop(folder / f"durable{name}", slots, jobs))
            rates["bare"].append(bare_loop(folder / f"bare{name}", slots, jobs))
            for peer in ("nq", "tsp"):
                if shutil.which(peer) and (peer == "tsp" or slots == 1):  # nq has one slot
                    rates[peer].append(peer_loop(folder / f"{peer}{name}", slots, jobs, peer))
        ours = statistics.median(rates.pop("ours"))
        for name, found in rates.items():
            if found:
                reach = "reach 0.85" if name == "durable" else ""
                what = f"jobs/s, {slots} slots: worker : {name}"
                say(what, ours, statistics.median(found), "1/s", reach)


def start_latency(folder: Path, jobs: int) -> None:
    """From `submit` to the job's first instruction, and the same of the shim alone."""
    storage, processes = fresh(folder)
    processes.worker()
    wait_until(storage.workers)
    ours, bare = [], []
    for turn in range(jobs):
        begun = time.time()
        job = storage.submit(Job(command=["/bin/date", "+%s.%N"]))
        wait_until(lambda job=job: storage.status(job.id) in FINISHED)
        ours.append(float(storage.load_logs(job.id)) - begun)
        begun = time.time()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        journal = os.open(folder / f"journal{turn}", flags, 0o600)
        with open(folder / f"bare{turn}", "ab") as log:
            start_shim(journal, log, "/bin/date", "+%s.%N").wait()
        os.close(journal)
        bare.append(float((folder / f"bare{turn}").read_text()) - begun)
    processes.end()
    for name, mine, theirs in zip(("median", "p95"), quantiles(ours), quantiles(bare), strict=True):
        reach = f"{mine - theirs:+.1f} ms; reach +2" if name == "median" else ""
        say(f"submit to first instruction, {name}", mine, theirs, "ms", reach)


def idle(folder: Path, seconds: float) -> None:
    storage, processes = fresh(folder)
    worker = processes.worker()
    wait_until(storage.workers)

    def used() -> float:
        numbers = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    before, deadline = used(), time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > deadline, seconds + 10)
    status = Path(f"/proc/{worker.pid}/status").read_text()
    rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    cpu = (used() - before) / seconds * 60
    processes.end()
    print(f"idle worker: {cpu:.3f} CPU s a minute (reach 0.1), {rss:.1f} MiB RSS (reach 30)")


# --- History ------------------------------------------------------------------------------------


def add_history(storage: FolderStore, processes: Processes, jobs: int) -> None:
    """Ended jobs, of two days, which share the files of one that a worker ran."""
    model = storage.submit(Job(command="true"))
    processes.worker("--drain").wait()
    (path,) = Path(storage.root).glob(f"succeeded/*/{model.id}")
    for number in range(jobs):
        job_id = storage_id(time.time() - 86_400 * (number % 2), number)
        folder = Path(storage.root) / "failed" / job_id[:8] / job_id
        folder.mkdir(parents=True)
        for name in ("job.json", "journal"):  # fewer links than ext4 allows: 65,000
            os.link(path / name, folder / name)


def storage_id(moment: float, number: int) -> str:
    return first_id(moment)[:16] + f"{number:08}"


def history(folder: Path, jobs: int = 60_000) -> None:
    """From the start of the API to its first answer, with many ended jobs and with none."""
    folder.mkdir()
    new, old = fresh(folder / "new"), fresh(folder / "old")
    add_history(*old, jobs)
    times: dict[str, list[float]] = {"new": [], "old": []}
    for _ in range(5):
        for name, (_, processes) in (("new", new), ("old", old)):
            times[name] += each(1, processes.api)
            processes.end()
    what = f"start of the API: with {jobs:,} ended jobs : none"
    say(what, *(quantiles(times[name])[0] for name in ("old", "new")), "ms", "reach 1.5")


# --- Logs ---------------------------------------------------------------------------------------


def write_log(path: Path, size: int) -> None:
    """A log of real lines."""
    block = b"".join(b"%07d a line of a log, as programs write them\n" % n for n in range(22_000))
    with open(path, "wb") as file:
        for _ in range(size // len(block) + 1):
            file.write(block)
        file.truncate(size)


def ended_job(storage: FolderStore, processes: Processes, size: int) -> str:
    job = storage.submit(Job(command="echo"))
    processes.worker("--drain").wait()
    (path,) = Path(storage.root).glob(f"succeeded/*/{job.id}/output.log")
    write_log(path, size)
    return job.id


def each(turns: int, call: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def tails(folder: Path, large: int) -> None:
    folder.mkdir()
    medians = []
    for name, size in (("small", 1 << 20), ("large", large)):
        write_log(folder / name, size)
        with FileLog(str(folder / name)) as log:
            times = each(200, lambda log=log, size=size: log.read(log.tail(1000, size), size))
        medians.append(quantiles(times)[0])
    what = f"last 1,000 lines of {large / (1 << 30):g} GiB : of 1 MiB"
    say(what, medians[1], medians[0], "ms", "reach 2")
    (folder / "large").unlink()


static = Flask(__name__)


@static.get("/<path:name>")
def a_file(name: str) -> Response:
    return send_file("/" + name)


def polling(folder: Path, large: int) -> None:
    storage, processes = fresh(folder)
    jobs = {"1 MiB": ended_job(storage, processes, 1 << 20)}
    jobs[f"{large >> 30} GiB"] = ended_job(storage, processes, large)
    (folder / "piece").write_bytes(b"x" * (256 << 10))
    (folder / "page").write_bytes(b"x" * 46_000)  # as much as 1,000 lines
    url = processes.api()
    files = f"http://127.0.0.1:{free_port()}"
    options = "--interface wsgi --blocking-threads 100 --no-access-log --working-dir tests --port"
    server = ("granian", *options.split(), files.rpartition(":")[2], "bench:static")
    processes.serve(f"{files}{folder}/page", sys.executable, "-m", *server)
    session = requests.Session()

    def get(address: str, **headers: str) -> requests.Response:
        answer = session.get(address, headers=headers)
        assert answer.status_code in (200, 304), answer.text
        return answer

    def rate(address: str, **headers: str) -> float:
        return 1 / statistics.median(each(300, lambda: get(address, **headers)))

    logs = f"{url}/jobs/{jobs['1 MiB']}/logs"
    page = f"{files}{folder}/page"
    etag = {"If-None-Match": get(logs).headers["ETag"]}
    static_etag = {"If-None-Match": get(page).headers["ETag"]}
    say(
        "polls answered 304 : a static file's", rate(logs, **etag), rate(page, **static_etag), "1/s"
    )
    ours, bare = rate(f"{logs}?offset=0"), rate(f"{files}{folder}/piece")
    say("polls of 256 KiB : a static file's", ours, bare, "1/s")
    for name, job_id in jobs.items():
        ours = rate(f"{url}/jobs/{job_id}/logs?tail=1000")
        say(f"tails of 1,000 lines of {name} : a static file's", ours, rate(page), "1/s")
    begun = time.perf_counter()
    matches = get(f"{url}/jobs/{jobs[f'{large >> 30} GiB']}/logs?q=no+such+text").json()
    reached = (large - (matches["next"] or 0)) / (1 << 30)
    print(f"search: {reached:.2f} GiB in {time.perf_counter() - begun:.2f} s")
    processes.end()


def following(folder: Path, followers: int) -> None:
    """From a program's write to each follower's read."""
    storage, processes = fresh(folder)
    processes.worker()
    measure_followers(storage, processes.api(), folder, followers)
    processes.end()


def measure_followers(storage: Store, url: str, folder: Path, followers: int) -> None:
    program = "import time\nfor _ in range(100): print(time.time()); time.sleep(0.02)"
    for count in (1, followers):
        gate = folder / f"gate{count}"
        os.mkfifo(gate)
        job = storage.submit(Job(command=f"cat {gate}; exec {sys.executable} -c '{program}'"))
        delays: list[float] = []
        ready = threading.Barrier(count + 1)

        def follow(job_id: str, ready: threading.Barrier, delays: list[float]) -> None:
            answer = requests.get(
                f"{url}/jobs/{job_id}/logs?follow=1",
                headers={"Accept": "text/event-stream"},
                stream=True,
            )
            lines = answer.iter_lines(chunk_size=None)
            next(lines)
            ready.wait()
            for line in lines:
                now = time.time()
                if line.startswith(b"event: end"):
                    return
                if line.startswith(b"data: "):
                    delays += [now - float(text) for text in json.loads(line[6:]).split()]

        threads = [
            threading.Thread(target=follow, args=(job.id, ready, delays)) for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        ready.wait()
        gate.write_text("")
        for thread in threads:
            thread.join()
        median, p95 = quantiles(delays)
        print(f"write to read, {count} followers: median {median:.2f} ms, p95 {p95:.2f} ms")


# --- Several machines ---------------------------------------------------------------------------


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


# --- Attacked -----------------------------------------------------------------------------------


def slowest(url: str) -> float:
    """The slowest of some answers, in ms."""
    paths = ("/healthz", "/jobs") * 10
    return max(each(1, lambda path=path: requests.get(url + path))[0] for path in paths) * 1e3


def attacked(folder: Path) -> None:
    """How long the others wait while clients do what they should not."""
    folder.mkdir()
    with serve_site(folder) as served:
        ended = served.hand.ended(b"a line of a log\n" * 4_000_000)
        claim = served.hand.running(b"begin\n")
        kinds = {
            "nobody": nullcontext(),
            "900 idle": attacks.idle(served),
            "100 slow headers": attacks.slow_headers(served),
            "4,000 slow headers": attacks.slow_headers(served, 4_000),
            "200 slow bodies": attacks.slow_bodies(served),
            "90 slow downloads": attacks.slow_downloads(served, ended, 90),
            "64 followers": attacks.followers(served, claim.job.id),
        }
        for name, attack in kinds.items():
            with attack:
                took = slowest(served.url)
            print(f"/healthz and /jobs beside {name}: {took:.1f} ms at the most (reach 1,000)")
        with attacks.followers(served, claim.job.id), attacks.idle(served, 1_000):
            took = slowest(served.url)
        print(f"/healthz and /jobs beside 64 followers and 1,000 idle: {took:.1f} ms (reach 1,000)")
        served.hand.finish(claim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--gigabytes", type=int, default=2)
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--page", action="store_true", help="the page alone, in Chromium")
    parser.add_argument("--redis", action="store_true", help="several machines, and no other")
    asked = parser.parse_args()
    if asked.page:
        bench_page()
        return
    with tempfile.TemporaryDirectory(dir=ROOT / "tests") as name:
        folder = Path(name)
        print(f"{'':52} {'ours':>10} {'bare':>10}")
        if asked.redis:
            several_machines(folder / "redis", asked.jobs, asked.followers)
            return
        throughput(folder, asked.jobs)
        start_latency(folder / "start", 100)
        idle(folder / "idle", asked.seconds)
        history(folder / "history")
        tails(folder / "tails", asked.gigabytes << 30)
        following(folder / "following", asked.followers)
        attacked(folder / "attacked")
        polling(folder / "polling", asked.gigabytes << 30)


if __name__ == "__main__":
    main()
