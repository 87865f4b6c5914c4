"""What it costs to compare running jobs with earlier runs: figures of bench.py."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from unittest.mock import patch

from conftest import JobMaker, wait_until
from figures import each, quantiles, say, say_alone
from past_runs import end_after, end_with_output, rewrite_claim, write_output

from api import create_app
from tailboard.explain import live_forecasts
from tailboard.notify.history import History
from tailboard.notify.usual import LEAST_RUNS, UsualTimes
from tailboard.notify.watch import Moment, RunningWatch
from tailboard.values import utc

COMMANDS = 20  # that run
RULES = [{"on": ["late", "silent"], "to": "ops"}]
STAGES = 300  # of a deployment, one a second
WRITE_INTERVAL = 10  # seconds after which each job writes something


def watching(folder: Path, jobs: int, seconds: int) -> None:
    """The share of a core that it takes to watch running jobs, each of which writes something now
    and then. The watch looks once for each second, but does not wait in between."""
    maker = JobMaker(folder / "jobs")
    for number in range(COMMANDS * LEAST_RUNS):
        end_after(maker.running(name=f"command {number % COMMANDS}"), 36, 20)
    logs = [add_running_job(maker, f"command {number % COMMANDS}") for number in range(jobs)]
    times = UsualTimes(maker.storage, History(maker.storage))
    watch = RunningWatch(maker.storage, times, lambda _: RULES)
    base, used = Moment.now(), 0.0
    for second in range(seconds):
        if second % WRITE_INTERVAL == 0:
            for log in logs:
                os.utime(log, (base.wall + second,) * 2)
        times._next_refresh = 0.0  # as if a second had passed
        begun = time.process_time()
        watch.look(Moment(base.monotonic + second, base.wall + second))
        used += time.process_time() - begun
    say_alone(
        f"late and silent, {jobs:,} running jobs", 100 * used / seconds, "%-of-a-core", "target 1"
    )


def estimating(folder: Path, jobs: int, rounds: int) -> None:
    """The time of GET /jobs when the progress of each running job is estimated, which is done every
    two seconds, and the time of GET /jobs in between. Each job writes ten lines meanwhile."""
    maker = JobMaker(folder / "jobs")
    for number in range(COMMANDS):
        end_with_output(maker.running(name=f"command {number}"), STAGES, *stages(0, STAGES))
    logs = [add_job_halfway(maker, f"command {number % COMMANDS}") for number in range(jobs)]
    client = create_app({"STORAGE": folder / "jobs"}).test_client()

    def count_estimates() -> int:
        listed = client.get(f"/jobs?limit={jobs}").json["jobs"]
        return sum(job["progress"] is not None for job in listed)

    wait_until(lambda: count_estimates() == jobs)
    known, estimated = [], []
    for _ in range(rounds):
        for log in logs:
            with open(log, "a") as file:
                file.write("a line that says nothing about the progress\n" * 10)
        for times, interval in ((known, math.inf), (estimated, 0.0)):
            with patch.object(live_forecasts, "INTERVAL", interval):
                times += each(1, count_estimates)
    what = f"GET /jobs, {jobs:,} running jobs, estimated : known"
    say(what, quantiles(estimated)[0], quantiles(known)[0], "ms", "target 2")


def stages(begin: int, end: int) -> list[tuple[float, str]]:
    """One line for each second from `begin` to `end`, which occurs in no other second."""
    names = (chr(97 + n // 26) + chr(97 + n % 26) for n in range(end - begin))
    return [(n, f"stage {name} of the deployment is done\n") for n, name in enumerate(names, begin)]


def add_job_halfway(maker: JobMaker, name: str) -> str:
    """A job that has written half of its stages. Returns the path of its log."""
    with maker.running(name=name) as held:
        write_output(held, *stages(-STAGES // 2, 0))
        rewrite_claim(held.folder, started_at=utc(time.time() - STAGES // 2))
        return f"{held.folder}/output.log"


def add_running_job(maker: JobMaker, name: str) -> str:
    """A job that nobody supervises, so that it takes no descriptor. Returns the path of its log."""
    with maker.running(b"started\n", name=name) as held:
        return f"{held.folder}/output.log"
