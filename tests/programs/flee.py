"""A job that is hard to end: it and its children ignore TERM, and some leave its process group or
session. Each writes its process ID to the file given.

flee.py FILE
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def stay() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        signal.pause()


def start_child(*steps: Callable[[], None]) -> None:
    if os.fork() == 0:
        for step in steps:
            step()
        stay()


def go_on_as_child() -> None:
    if os.fork():
        os._exit(0)


start_child()
start_child(os.setsid)
start_child(os.setpgrp)
start_child(go_on_as_child, os.setsid, go_on_as_child)  # a daemon
stay()
