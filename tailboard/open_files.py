"""Which other processes still have a file open to write to it. Only Linux says so, in /proc."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

LOOK_INTERVAL = 0.02  # seconds


def wait_until_closed(path: str, seconds: float) -> bool:
    """Wait, at most so many seconds, until no other process has this file open to write to it.
    Returns False if one still has."""
    deadline = time.monotonic() + seconds
    writers = [*find_writers(path, processes())]
    while writers and time.monotonic() < deadline:
        time.sleep(LOOK_INTERVAL)
        writers = [*find_writers(path, writers)] or [*find_writers(path, processes())]
    return not writers


def processes() -> Iterator[str]:
    """The pids of all other processes, as text."""
    with suppress(FileNotFoundError):
        own = str(os.getpid())
        yield from (name for name in os.listdir("/proc") if name.isdecimal() and name != own)


def find_writers(path: str, pids: Iterable[str]) -> Iterator[str]:
    """Those of these processes that can write to the file. Processes of other users, whose files we
    cannot see, are left out."""
    path = os.path.realpath(path)
    for pid in pids:
        with suppress(OSError):  # it has ended, or belongs to another user
            if any(
                can_write(f"/proc/{pid}/fd/{name}", path) for name in os.listdir(f"/proc/{pid}/fd")
            ):
                yield pid


def can_write(link: str, path: str) -> bool:
    """Is this descriptor of a process, a link in /proc, open to write to the file?"""
    with suppress(FileNotFoundError):  # it was closed
        return os.readlink(link) == path and bool(os.lstat(link).st_mode & stat.S_IWUSR)
    return False
