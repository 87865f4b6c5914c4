"""How fast logs are read and followed: figures of bench.py."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import requests
from bench_jobs import fresh
from conftest import Processes, free_port
from figures import each, quantiles, say
from flask import Flask, Response, send_file

from storage import FileLog, FolderStore, Job, Store


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
    server = ("granian", *options.split(), files.rpartition(":")[2], "bench_logs:static")
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
