"""How fast logs are read and followed: figures of bench.py."""

from __future__ import annotations

import errno
import json
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import requests
from bench_jobs import fresh, run_queued_jobs
from conftest import JobMaker, Processes, free_port, wait_until
from figures import each, quantiles, say, say_alone
from flask import Flask, Response, send_file

from storage import Store
from tailboard.explain.log_marks import LogMarks
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.logs import SEARCH_BLOCK, FileLog
from tailboard.masking import MASKED_BLOCK, Mask

PATIENCE = 120  # seconds to wait for a response or a follower
SMALL = 1 << 20  # bytes of a log
PAGE_BYTES = 46_000  # the size of 1,000 lines


def in_gib(size: int) -> str:
    return f"{size / (1 << 30):g} GiB"


def write_log(path: Path, size: int) -> None:
    """A log of real lines."""
    block = b"".join(b"%07d a line of a log, as programs write them\n" % n for n in range(22_000))
    with open(path, "wb") as file:
        for _ in range(size // len(block) + 1):
            file.write(block)
        file.truncate(size)


def ended_job(storage: FolderStore, processes: Processes, size: int) -> str:
    """A job that has ended with a log of this size; its ID."""
    job = storage.submit(Job(command="echo"))
    run_queued_jobs(processes)
    (path,) = Path(storage.root).glob(f"succeeded/*/{job.id}/output.log")
    write_log(path, size)
    return job.id


def tail_reads(folder: Path, large: int) -> None:
    """The time to read the last lines from the file."""
    medians = []
    for name, size in (("small", SMALL), ("large", large)):
        write_log(folder / name, size)
        with FileLog(str(folder / name)) as log:
            times = each(200, lambda log=log, size=size: log.read(log.tail(1000, size), size))
        medians.append(quantiles(times)[0])
    what = f"last 1,000 lines of {in_gib(large)} : of 1 MiB"
    say(what, medians[1], medians[0], "ms", "target 2")


# --- Over HTTP ------------------------------------------------------------------------------------

static = Flask(__name__)


@static.get("/<path:name>")
def a_file(name: str) -> Response:
    return send_file("/" + name)


def serve_files(processes: Processes, page: Path) -> str:
    """Serves files with the server that the API uses; yields the URL of this file."""
    url = f"http://127.0.0.1:{free_port()}{page}"
    options = "--interface wsgi --blocking-threads 100 --no-access-log --working-dir tests --port"
    port = url.split(":")[2].partition("/")[0]
    server = ("granian", *options.split(), port, "bench_logs:static")
    processes.serve(url, sys.executable, "-m", *server)
    return url


class Client:
    """A connection that is kept open, as in a browser."""

    def __init__(self) -> None:
        self.session = requests.Session()

    def get(self, url: str, **headers: str) -> requests.Response:
        answer = self.session.get(url, headers=headers, timeout=PATIENCE)
        if answer.status_code not in (200, 304):
            raise RuntimeError(f"{url} answered {answer.status_code}: {answer.text[:200]}")
        return answer

    def seconds(self, url: str, **headers: str) -> float:
        return each(1, lambda: self.get(url, **headers))[0]

    def etag(self, url: str) -> dict[str, str]:
        """The headers of a request for changes since the last response."""
        return {"If-None-Match": self.get(url).headers["ETag"]}


def polls(folder: Path) -> None:
    """Repeated requests for one log, and for a static file, in turn."""
    (folder / "page").write_bytes(b"x" * PAGE_BYTES)
    (folder / "piece").write_bytes(b"x" * (256 << 10))
    with fresh(folder) as (storage, processes):
        logs = f"{processes.api()}/jobs/{ended_job(storage, processes, SMALL)}/logs"
        page, client = serve_files(processes, folder / "page"), Client()
        piece = page.removesuffix("page") + "piece"
        etag, static_etag = client.etag(logs), client.etag(page)
        unchanged, pieces = [], []
        for _ in range(300):
            unchanged.append((client.seconds(logs, **etag), client.seconds(page, **static_etag)))
            pieces.append((client.seconds(f"{logs}?offset=0"), client.seconds(piece)))
    say("polls answered 304 : a static file's", *median_rates(unchanged), "1/s")
    say("polls of 256 KiB : a static file's", *median_rates(pieces), "1/s")


def median_rates(times: list[tuple[float, ...]]) -> list[float]:
    """Responses per second, for each column of seconds."""
    return [1 / statistics.median(column) for column in zip(*times, strict=True)]


def tail_requests(folder: Path, large: int) -> None:
    """Alternating requests for the end of a short log, the end of a huge log, and a static file of
    that size."""
    (folder / "page").write_bytes(b"x" * PAGE_BYTES)
    with fresh(folder) as (storage, processes):
        jobs = [ended_job(storage, processes, size) for size in (SMALL, large)]
        api, client = processes.api(), Client()
        urls = [f"{api}/jobs/{job_id}/logs?tail=1000" for job_id in jobs]
        urls.append(serve_files(processes, folder / "page"))
        for url in urls * 20:  # the lines of a log are counted by its first few requests
            client.get(url)
        times = [tuple(client.seconds(url) for url in urls) for _ in range(300)]
    short, huge, bare = median_rates(times)
    say("tails of 1,000 lines of 1 MiB : a static file's", short, bare, "1/s")
    say(f"tails of 1,000 lines of {in_gib(large)} : a static file's", huge, bare, "1/s")
    say(f"tails of 1,000 lines of {in_gib(large)} : of 1 MiB", huge, short, "1/s", "target 0.8")


def search(folder: Path, large: int) -> None:
    """Searches for a text that the log does not contain, until the API's time limit."""
    with fresh(folder) as (storage, processes):
        job_id, client = ended_job(storage, processes, large), Client()
        url = f"{processes.api()}/jobs/{job_id}/logs?q=no+such+text"
        begun = time.perf_counter()
        following = client.get(url).json()["next"]
        seconds = time.perf_counter() - begun
    searched = (large - (following or 0)) / (1 << 30)
    say_alone(f"search of {in_gib(large)}", searched / seconds, "GiB/s", f"{searched:.2f} GiB")


def markers(folder: Path, size: int) -> None:
    """How fast a log without markers is searched for them, and read."""
    write_log(folder / "log", size)
    times = []
    with FileLog(str(folder / "log")) as log:
        for _ in range(5):
            searched = each(1, lambda: LogMarks().work(log, size, True, math.inf))
            times.append((*searched, *each(1, lambda: read_all(log, size))))
    search, read = (size / 1e9 / statistics.median(column) for column in zip(*times, strict=True))
    say(f"search of {in_gib(size)} for markers : plain read", search, read, "GB/s", "target 1 GB/s")


def read_all(log: FileLog, size: int) -> None:
    at = 0
    while at < size:
        at += len(log.pread(SEARCH_BLOCK, at))


# --- Secrets --------------------------------------------------------------------------------------

VALUES = (
    b"correct-horse-battery-staple",
    b"Xk29fjWq8sLmZ0pQ",
    b"postgres://app:p4ssw0rd@db.example/app",
)
WAYS = (
    ("download", "download=1", {}),
    ("following as text", "follow=1&offset=0", {}),
    ("following as events", "follow=1&offset=0", {"Accept": "text/event-stream"}),
)


def secrets(folder: Path, size: int) -> None:
    """How fast the log of a running job with three secrets is read, and that of one without."""
    with fresh(folder) as (storage, processes):
        api, job_maker = processes.api(), JobMaker(Path(storage.root))
        claims = [job_maker.running(b"begin\n"), job_maker.running(b"begin\n")]
        claims[0].seal_secrets(VALUES)
        for claim in claims:
            write_log(job_maker.log(claim.job.id), size)
        ids = [claim.job.id for claim in claims]
        for name, query, headers in WAYS:
            urls = [f"{api}/jobs/{job_id}/logs?{query}" for job_id in ids]
            times = [
                tuple(read_seconds(url, headers, size - PAGE_BYTES) for url in urls)
                for _ in range(7)
            ]
            speeds = [size / 1e6 * rate for rate in median_rates(times)]
            say(f"{name} with three secrets : without", *speeds, "MB/s", "target 0.8")
        times = [tuple(open_seconds(storage, job_id) for job_id in ids) for _ in range(2_000)]
        opened = [1e6 / rate for rate in median_rates(times)]
        say("opening a log with secrets : without", *opened, "us")
    for what, values in (("three secrets", VALUES), ("three of 8 bytes", [v[:8] for v in VALUES])):
        say_alone(f"masking of {what}, which do not occur", mask_speed(values, b""), "MB/s")
        often = b"%s, " % values[0] + b"x" * 900
        say_alone(f"masking of {what}, one in 900 bytes", mask_speed(values, often), "MB/s")
        say_alone(f"masking of {what}, nothing else", mask_speed(values, values[0]), "MB/s")


def open_seconds(storage: FolderStore, job_id: str) -> float:
    return each(1, lambda: storage.open_log(job_id).close())[0]


def read_seconds(url: str, headers: dict[str, str], size: int) -> float:
    """The time until so many bytes of a log have arrived."""
    begun, left = time.perf_counter(), size
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
        answer.raise_for_status()
        while left > 0:
            left -= len(answer.raw.read(min(left, 1 << 18)))
    return time.perf_counter() - begun


def mask_speed(values: Sequence[bytes], line: bytes) -> float:
    """MB/s, for a log of these lines, or of ordinary ones."""
    line = line or b"2026-11-30T12:00:00Z INFO worker 17: request 4711 of /api/items took 12 ms"
    block, mask = (line + b"\n") * (MASKED_BLOCK // (len(line) + 1)), Mask(values)
    return len(block) / 1e6 / min(each(20, lambda: mask.apply(block)))


# --- Following ------------------------------------------------------------------------------------


def following(folder: Path, followers: int) -> None:
    """The time from a program's write to each follower's read."""
    with fresh(folder) as (storage, processes):
        processes.worker()
        measure_followers(storage, processes.api(), folder, followers)


def measure_followers(storage: Store, url: str, folder: Path, count: int) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    program = "import time\nfor _ in range(100): print(time.time()); time.sleep(0.02)"
    job = storage.submit(Job(command=f"cat {gate}; exec {sys.executable} -c '{program}'"))
    ready = threading.Barrier(count + 1, timeout=2 * PATIENCE)
    with ThreadPoolExecutor(count) as pool:
        logs = f"{url}/jobs/{job.id}/logs?follow=1"
        readers = [pool.submit(follow, logs, ready) for _ in range(count)]
        with suppress(threading.BrokenBarrierError):  # the reader that broke it reports the reason
            ready.wait()
            wait_until(lambda: open_gate(gate), PATIENCE / 2)
        delays = [delay for reader in readers for delay in reader.result()]
    median, p95 = quantiles(delays)
    say_alone(f"write to read, {count} followers, median", median, "ms")
    say_alone(f"write to read, {count} followers, p95", p95, "ms")


def follow(url: str, ready: threading.Barrier) -> list[float]:
    """The delays, in seconds, of a log whose lines contain the times of writing."""
    deadline = time.time() + PATIENCE
    try:
        headers = {"Accept": "text/event-stream"}
        answer = requests.get(url, headers=headers, stream=True, timeout=PATIENCE)
        answer.raise_for_status()
        lines = answer.iter_lines(chunk_size=None)
        next(lines)
    except Exception:
        ready.abort()  # so that the others need not wait for this one
        raise
    delays: list[float] = []
    with suppress(threading.BrokenBarrierError):
        ready.wait()
        for line in lines:
            now = time.time()
            if line.startswith(b"event: end"):
                return delays
            if line.startswith(b"data: "):
                delays += [now - float(text) for text in json.loads(line[6:]).split()]
            if now > deadline:  # keep-alives never stop
                raise TimeoutError(f"the log has not ended within {PATIENCE} s")
        raise RuntimeError("the answer ended before the log")
    return []


def open_gate(gate: Path) -> bool:
    """Releases a job that reads this FIFO; False if it does not read it yet."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True
