"""A process that leaves its session and overwrites its environment, as setproctitle does: /proc no
longer shows the JOB_ID that it was started with. It writes its process ID to the file given.

hide.py FILE
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

os.setsid()
pointers = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
first = pointers[0]
assert first is not None
ctypes.memset(first, 0, sum(len(name) + len(value) + 2 for name, value in os.environb.items()))
with open("/proc/self/environ", "rb") as file:
    assert b"JOB_ID" not in file.read()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\n")
signal.pause()
