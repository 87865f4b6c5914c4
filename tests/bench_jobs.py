"""How fast a worker runs jobs and how much it takes while idle: figures of bench.py."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from conftest import Processes, clean_environment, end_jobs, start_shim, wait_until
from figures import each, quantiles, say, say_alone

from storage import load_logs
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.status import FINISHED
from tailboard.values import first_id

MOST_SECONDS = 600  # seconds to wait until a worker has run all jobs
DURABLE_TARGETS = {1: 0.85, 2: 0.8}  # by slots: the minimum share of the rate of `durable_loop`


@contextmanager
def fresh(folder: Path) -> Iterator[tuple[FolderStore, Processes]]:
    """A new jobs folder, and a way to start programs for it. They and its jobs are ended at the
    end."""
    folder.mkdir(exist_ok=True)
    processes = Processes(folder / "output.txt", clean_environment(folder / "jobs"))
    storage = FolderStore(folder / "jobs")
    try:
        yield storage, processes
    finally:
        processes.end()
        end_jobs(storage)
        storage.close()


def run_queued_jobs(processes: Processes, *options: str) -> None:
    """Lets a worker run all queued jobs."""
    code = processes.worker(*options, "--drain").wait(MOST_SECONDS)
    if code != 0:
        raise RuntimeError(f"the worker ended with exit code {code}: {processes.text()[-200:]}")


def in_threads(slots: int, jobs: int, run: Callable[[int], None]) -> float:
    """Jobs per second of several threads that each run one job after the other."""
    with ThreadPoolExecutor(slots) as pool:
        begun = time.perf_counter()
        for ended in [pool.submit(run, number) for number in range(jobs)]:
            ended.result()
        return jobs / (time.perf_counter() - begun)


def bare_loop(folder: Path, slots: int, jobs: int) -> float:
    """Jobs per second of threads that only start `true`, each with its own log."""
    folder.mkdir()

    def run(number: int) -> None:
        with open(folder / f"{number}.log", "ab") as log:
            subprocess.Popen(["true"], stdin=subprocess.DEVNULL, stdout=log, stderr=log).wait()

    return in_threads(slots, jobs, run)


def durable_loop(folder: Path, slots: int, jobs: int) -> float:
    """Jobs per second of threads that do only what we promise for each job: append a line and fsync
    it, run the shim, append a line and fsync it."""
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
    """Jobs per second of nq or task-spooler. All jobs are queued before any may start."""
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
    """Jobs per second of a worker, between its first claim and its last record."""
    with fresh(folder) as (storage, processes):
        for _ in range(jobs):
            storage.submit(Job(command=["true"]))
        run_queued_jobs(processes, "--slots", str(slots))
        text = processes.text()
    seen = re.findall(r"^[0-9-]+ ([0-9:.]+)Z INFO (claimed|succeeded)", text, re.M)
    succeeded = sum(event == "succeeded" for _, event in seen)
    if succeeded != jobs:
        raise RuntimeError(f"only {succeeded} of {jobs} jobs succeeded")
    first, last = (seconds_of_day(moment) for moment, _ in (seen[0], seen[-1]))
    return jobs / ((last - first) % 86_400)


def seconds_of_day(moment: str) -> float:
    hours, minutes, seconds = (float(part) for part in moment.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def throughput(folder: Path, slots: int, jobs: int) -> None:
    """Medians of five alternating runs. Every job is queued before the worker starts."""
    rates: dict[str, list[float]] = {"ours": [], "durable": [], "bare": [], "nq": [], "tsp": []}
    for turn in range(5):
        rates["ours"].append(drain(folder / f"ours{turn}", slots, jobs))
        rates["durable"].append(durable_loop(folder / f"durable{turn}", slots, jobs))
        rates["bare"].append(bare_loop(folder / f"bare{turn}", slots, jobs))
        for peer in ("nq", "tsp"):
            if shutil.which(peer) and (peer == "tsp" or slots == 1):  # nq has one slot
                rates[peer].append(peer_loop(folder / f"{peer}{turn}", slots, jobs, peer))
    ours = statistics.median(rates.pop("ours"))
    for name, found in rates.items():
        if found:
            target = f"target {DURABLE_TARGETS[slots]}" if name == "durable" else ""
            what = f"jobs/s, {slots} slots: worker : {name}"
            say(what, ours, statistics.median(found), "1/s", target)


def start_latency(folder: Path, jobs: int) -> None:
    """The time from `submit` to the job's first instruction, and the same of the shim alone."""
    ours, bare = [], []
    with fresh(folder) as (storage, processes):
        processes.worker()
        wait_until(storage.workers)
        for turn in range(jobs):
            begun = time.time()
            job = storage.submit(Job(command=["/bin/date", "+%s.%N"]))
            wait_until(lambda job=job: storage.status(job.id) in FINISHED)
            ours.append(float(load_logs(storage, job.id)) - begun)
            bare.append(shim_latency(folder, turn))
    for name, mine, theirs in zip(("median", "p95"), quantiles(ours), quantiles(bare), strict=True):
        target = f"{mine - theirs:+.1f} ms; target +2" if name == "median" else ""
        say(f"submit to first instruction, {name}", mine, theirs, "ms", target)


def shim_latency(folder: Path, turn: int) -> float:
    """Seconds from here to the first instruction of a program under the shim."""
    begun = time.time()
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    journal = os.open(folder / f"journal{turn}", flags, 0o600)
    with open(folder / f"bare{turn}", "ab") as log:
        start_shim(journal, log, "/bin/date", "+%s.%N").wait()
    os.close(journal)
    return float((folder / f"bare{turn}").read_text()) - begun


def idle(folder: Path, seconds: float) -> None:
    with fresh(folder) as (storage, processes):
        worker = processes.worker()
        wait_until(storage.workers)
        before, deadline = cpu_seconds(worker.pid), time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > deadline, seconds + 10)
        cpu = (cpu_seconds(worker.pid) - before) / seconds * 60
        status = Path(f"/proc/{worker.pid}/status").read_text()
    rss = re.search(r"VmRSS:\s+(\d+)", status)
    assert rss, status
    say_alone("idle worker, processor", cpu, "CPU-s/min", "target 0.1")
    say_alone("idle worker, RSS", int(rss[1]) / 1024, "MiB", "target 30")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used so far."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


# --- What running jobs cost -----------------------------------------------------------------------

NO_SAMPLES = "tailboard.intervals.SAMPLE_INTERVAL=1e9"


def sampling(folder: Path, jobs: int, seconds: float) -> None:
    """The processor time that the threads of a worker take for its running jobs, of four processes
    each, with samples of what they use and without."""
    shares, latencies = [], []
    for name, options in (("with", []), ("without", [NO_SAMPLES])):
        with fresh(folder / name) as (storage, processes):
            command = [sys.executable, "-m", "tests.programs.tuned_worker", *options, "--"]
            worker = processes.start(*command, "--slots", str(jobs + 1))
            for _ in range(jobs):
                storage.submit(Job(command="sleep 1000 & sleep 1000; true"))
            wait_until(lambda storage=storage: storage.counts()["running"] == jobs)
            before, deadline = thread_seconds(worker.pid), time.monotonic() + seconds
            latency = []
            while time.monotonic() < deadline:
                latency += [run_one(storage)]
            shares.append((thread_seconds(worker.pid) - before) / seconds * 100)
            latencies.append(quantiles(latency)[1])
    target = f"{(shares[0] - shares[1]) / jobs:+.3f} % per job; target +0.2, and +5 in all"
    say(f"threads of a worker with {jobs} jobs: samples : none", *shares, "%", target)
    say(f"a job beside {jobs} others, p95: samples : none", *latencies, "ms")


def run_one(storage: FolderStore) -> float:
    """The seconds that a short job takes from its submission to its end."""
    begun = time.perf_counter()
    job = storage.submit(Job(command=["true"]))
    wait_until(lambda: storage.status(job.id) in FINISHED)
    return time.perf_counter() - begun


def thread_seconds(pid: int) -> float:
    """The processor time that the threads of a process have used so far, without its main one."""
    threads = [path for path in Path(f"/proc/{pid}/task").iterdir() if path.name != str(pid)]
    return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9


# --- History --------------------------------------------------------------------------------------


def add_history(storage: FolderStore, processes: Processes, jobs: int) -> None:
    """Ended jobs of two days, which share the files of one job that a worker ran."""
    model = storage.submit(Job(command="true"))
    run_queued_jobs(processes)
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
    """The time from the start of the API to its first response, with many ended jobs and with
    none."""
    times: dict[str, list[float]] = {"new": [], "old": []}
    with fresh(folder / "new") as new, fresh(folder / "old") as old:
        add_history(*old, jobs)
        for _ in range(5):
            for name, (_, processes) in (("new", new), ("old", old)):
                times[name] += each(1, processes.api)
                processes.end()
    what = f"start of the API: with {jobs:,} ended jobs : none"
    say(what, *(quantiles(times[name])[0] for name in ("old", "new")), "ms", "target 1.5")
