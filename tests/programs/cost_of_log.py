"""Counts the bytes that are read for the last lines of a log, and those lines.

cost_of_log.py FOLDER JOB
"""

from __future__ import annotations

import sys

from storage import load_logs, open_store


def bytes_read() -> int:
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


store = open_store(sys.argv[1])
load_logs(store, sys.argv[2])  # what is read once only is not counted
before = bytes_read()
text = load_logs(store, sys.argv[2])
print(bytes_read() - before, len(text.splitlines()))
