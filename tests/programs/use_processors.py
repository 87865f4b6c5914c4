"""A job whose processes use the processor in all the ways that make it hard to add up their time.
When they are done, it takes memory.

use_processors.py FOLDER MIB

It writes to files in FOLDER: `daemon`, what a daemon has used, for which no process waits;
`memory`, once the memory is taken. It waits for the files `end-daemon` and `end`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

PAUSE = 0.01  # seconds


def use(seconds: float) -> None:
    while time.process_time() < seconds:
        pass


def fork(*steps: Callable[[], object]) -> int:
    """A child that does this and ends; its pid."""
    if pid := os.fork():
        return pid
    for step in steps:
        step()
    os._exit(0)


def fork_and_wait(*steps: Callable[[], object]) -> None:
    os.waitpid(fork(*steps), 0)


def wait_for(name: str) -> None:
    while not (folder / name).exists():
        time.sleep(PAUSE)


def report(name: str, text: str) -> None:
    (folder / f"{name}.new").write_text(text)
    (folder / f"{name}.new").rename(folder / name)


def run_as_daemon() -> None:
    os.setsid()
    use(0.3)
    report("daemon", str(time.process_time()))
    wait_for("end-daemon")


folder = Path(sys.argv[1])
reader, writer = os.pipe()  # its end says that the daemon has ended
fork_and_wait(lambda: fork(run_as_daemon))  # whose parent ends at once
os.close(writer)
fork_and_wait(lambda: use(0.2), lambda: fork_and_wait(lambda: use(0.3)))  # a grandchild
fork_and_wait(os.setsid, lambda: use(0.2))
for each in [fork(lambda: use(0.15)) for _ in range(2)]:
    os.waitpid(each, 0)
use(0.3)
os.read(reader, 1)
memory = b"x" * (int(sys.argv[2]) << 20)
report("memory", "")
wait_for("end")
