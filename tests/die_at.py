"""Starts a worker, submits a job or fires a saved command, and kills itself by SIGKILL just before
its N-th step:

    die_at.py N STEPS worker OPTION...
    die_at.py N STEPS submit FOLDER KEY COMMAND
    die_at.py N STEPS fire FOLDER NAME

A step is a call that changes what others see: files, folders, locks, processes. Their names go to
the file STEPS. With N = 0 it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import storage

if sys.argv[3] == "worker":
    import worker  # takes a while, which those that submit need not wait for

deadly, steps_file = int(sys.argv[1]), sys.argv[2]
kill, write, steps = os.kill, os.write, os.open(steps_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
count = 0


def step(name: str, *arguments: Any) -> None:
    global count
    count += 1
    write(steps, " ".join([name, *(short(a) for a in arguments[:2])]).encode() + b"\n")
    if count == deadly:
        kill(os.getpid(), signal.SIGKILL)


def short(argument: Any) -> str:
    """What a path, or a descriptor's file, is called."""
    if isinstance(argument, int) and os.path.exists(f"/proc/self/fd/{argument}"):
        argument = os.readlink(f"/proc/self/fd/{argument}")
    if isinstance(argument, str):
        return "/".join(argument.split("/")[-2:])
    return type(argument).__name__


def watch(home: Any, name: str, and_after: bool = False) -> None:
    function: Callable[..., Any] = getattr(home, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        if name != "open" or arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            step(name, *arguments)
        try:
            return function(*arguments, **options)
        finally:
            if and_after:
                step(f"after {name}")

    setattr(home, name, watched)


for (
    name
) in "open close write pwrite ftruncate fsync rename unlink mkdir rmdir kill killpg wait4".split():
    watch(os, name)
watch(fcntl, "flock")
watch(json, "dumps")  # between the opening of a file and the first write to it
watch(subprocess, "_fork_exec", and_after=True)

if sys.argv[3] == "worker":
    worker.KILL_DELAY, worker.HEARTBEAT_INTERVAL, worker.POLL_INTERVAL = 0.5, 0.5, 0.05
    sys.argv[1:] = sys.argv[4:]
    worker.main()
elif sys.argv[3] == "fire":
    store = storage.FolderStore(sys.argv[4])
    storage.fire_due(store, store.load_command(sys.argv[5]), time.time())
else:
    folder, key, command = sys.argv[4:]
    print(storage.FolderStore(folder).submit(storage.Job(command=command), key or None).id)
