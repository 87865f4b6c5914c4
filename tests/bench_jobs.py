"""How fast a worker runs jobs and how much it takes while idle: figures of bench.py."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from conftest import Processes, clean_environment, start_shim, wait_until
from figures import each, quantiles, say

from storage import FINISHED, FolderStore, Job, first_id


def fresh(folder: Path) -> tuple[FolderStore, Processes]:
    folder.mkdir()
    processes = Processes(folder / "output.txt", clean_environment(folder / "jobs"))
    return FolderStore(folder / "jobs"), processes


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
