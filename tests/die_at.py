"""Starts workers, submits jobs, fires saved commands or deletes old jobs, and kills each by SIGKILL
just before its N-th step, or lets it wait there until a FIFO is opened for writing. It reads from
its standard input, a line of JSON each, what to do:

    {"number": N, "steps": FILE, "gate": FIFO, "do": ["worker", OPTION...], "env": {...}}
                                       ["submit", FOLDER, KEY, COMMAND]
                                       ["fire", FOLDER, NAME]
                                       ["prune", FOLDER, BYTES]

Each is done by a process of its own, forked from this one: to start Python and to import the worker
takes longer than all else. Then its exit code is printed, negative if a signal ended it.

A step is a call that changes what others see: files, folders, locks, processes. Their names go to
the file STEPS. With N = 0 it lives; without a gate it is killed. With a gate, only the steps of the
main thread count: if another thread waited there, the process could end without it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import worker
from tailboard import intervals, job, scheduler
from tailboard import judge as judge_module
from tailboard.folder import folder_store
from tailboard.run import shim

REQUEST = "1" * 64  # a hash of the request that a client sends with a key
CALLS = "open close write pwrite ftruncate fsync rename unlink mkdir rmdir kill killpg wait4"
kill, write = os.kill, os.write


class Steps:
    """Counts and records the steps of this process, and kills or stops it before one of them."""

    def __init__(self, deadly: int, file: str, gate: str | None) -> None:
        self.deadly, self.gate, self.count = deadly, gate, 0
        self.lock = threading.RLock()  # two threads must not count the same number
        self.fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def step(self, name: str, *arguments: Any) -> None:
        if self.gate and threading.current_thread() is not threading.main_thread():
            return
        line = " ".join([name, *(short(a) for a in arguments[:2])]).encode() + b"\n"
        with self.lock:
            self.count += 1
            write(self.fd, line)
            if self.count == self.deadly and self.gate:
                Path(self.gate).read_bytes()
            elif self.count == self.deadly:
                kill(os.getpid(), signal.SIGKILL)

    def tear(self, pwrite: Callable[..., Any], fd: int, data: bytes, offset: int) -> None:
        """Write the first half if this process is to be killed now: SIGKILL can interrupt a
        write."""
        with self.lock:
            if self.count + 1 == self.deadly and not self.gate:
                pwrite(fd, data[: len(data) // 2], offset)
                self.step("pwrite", fd)

    def watch(self, home: Any, name: str, and_after: bool = False) -> None:
        function: Callable[..., Any] = getattr(home, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if name == "pwrite":
                self.tear(function, *arguments)
            if name != "open" or arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                self.step(name, *arguments)
            try:
                return function(*arguments, **options)
            finally:
                if and_after:
                    self.step(f"after {name}")

        setattr(home, name, watched)


def short(argument: Any) -> str:
    """A short name for a path or for the file of a descriptor."""
    if isinstance(argument, int) and os.path.exists(f"/proc/self/fd/{argument}"):
        argument = os.readlink(f"/proc/self/fd/{argument}")
    if isinstance(argument, str):
        return "/".join(argument.split("/")[-2:])
    return type(argument).__name__


def live(
    number: int, steps: str, do: list[str], env: dict[str, str], gate: str | None = None
) -> None:
    os.environ.update(env)
    watching = Steps(number, steps, gate)
    for name in CALLS.split():
        watching.watch(os, name)
    watching.watch(fcntl, "flock")
    watching.watch(json, "dumps")  # between the opening of a file and the first write to it
    watching.watch(subprocess, "_fork_exec", and_after=True)
    kind, *arguments = do
    if kind == "worker":
        intervals.KILL_DELAY = intervals.HEARTBEAT_INTERVAL = 0.5
        intervals.POLL_INTERVAL = 0.05
        judge_module.START_DELAY = 0.05
        shim.SHELL = env.get("TEST_SHELL", shim.SHELL)
        worker.main(arguments)
    elif kind == "fire":
        store = folder_store.FolderStore(arguments[0])
        scheduler.fire_due(store, store.saved.load(arguments[1]), time.time())
    elif kind == "prune":
        for _ in folder_store.FolderStore(arguments[0]).prune(0, int(arguments[1])):
            pass
    else:
        folder, key, command = arguments
        store = folder_store.FolderStore(folder)
        store.submit(job.Job(command=command), key or None, REQUEST)


def fork(request: dict[str, Any]) -> int:
    """Runs it in a forked process; returns the exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        live(**request)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


for line in iter(sys.stdin.readline, ""):
    print(fork(json.loads(line)), flush=True)
