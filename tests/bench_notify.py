"""What it costs to find late and silent jobs: figures of bench.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

from conftest import JobMaker
from figures import say_alone
from past_runs import end_after

from tailboard.notify.history import History
from tailboard.notify.usual import LEAST_RUNS, UsualTimes
from tailboard.notify.watch import Moment, RunningWatch

COMMANDS = 20  # that run
RULES = [{"on": ["late", "silent"], "to": "ops"}]
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


def add_running_job(maker: JobMaker, name: str) -> str:
    """A job that nobody supervises, so that it takes no descriptor. Returns the path of its log."""
    with maker.running(b"started\n", name=name) as held:
        return f"{held.folder}/output.log"
