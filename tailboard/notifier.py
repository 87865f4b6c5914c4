"""Waiting for changes of files and folders."""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

try:  # Linux only; elsewhere the queues are polled
    from inotify_simple import INotify, flags
except (ImportError, OSError):
    INotify = None


def wait_readable(descriptors: Iterable[int], timeout: float) -> Sequence[int]:
    """Wait up to `timeout` seconds until a descriptor can be read; returns those that can. Unlike
    select, poll takes descriptors above 1,023, which a worker with about 340 jobs has."""
    poller = select.poll()
    for fd in descriptors:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(timeout * 1000)]


class Notifier:
    """Waits for changes in folders. The worker waits for jobs that enter a queue, a follower for a
    log that grows or a job that moves. If the system has no inotify, a notifier reports no changes,
    and `wait` sleeps longer each time, up to a second."""

    def __init__(self, *folders: str) -> None:
        self.inotify: Any = None
        self.pause = 0.02  # seconds
        with suppress(OSError):  # the system's limit of inotify instances is reached
            self.inotify = INotify(nonblocking=True) if INotify else None
        try:
            for folder in folders:
                self.add(folder)
        except OSError:
            self.close()
            raise

    def add(self, folder: str, removals: bool = False) -> int:
        """Watch a folder. Returns the number that `changes` reports with its changes; -1 without
        inotify. OSError if the folder is missing. `removals`: also report entries that leave it."""
        if self.inotify is None:
            return -1
        changes = flags.CREATE | flags.MOVED_TO | flags.MODIFY | flags.MOVE_SELF
        if removals:
            changes |= flags.DELETE | flags.MOVED_FROM
        return int(self.inotify.add_watch(folder, changes | flags.DELETE_SELF | flags.ONLYDIR))

    def fileno(self) -> int | None:
        """A descriptor that is readable when something has changed; None without inotify."""
        return None if self.inotify is None else self.inotify.fileno()

    def drop(self, number: int) -> None:
        """Stop watching the folder that `add` has given this number."""
        with suppress(OSError):  # the folder was deleted
            if self.inotify is not None:
                self.inotify.rm_watch(number)

    def changes(self) -> Iterator[tuple[int, str]]:
        """(number of the folder, name of the file) of each change since the last call."""
        return ((e.wd, e.name) for e in (self.inotify.read(0) if self.inotify else ()))

    def wait(self, timeout: float, *others: int) -> Sequence[int]:
        """Wait up to `timeout` seconds for a change, or until one of the `others` is readable.
        Forgets the changes. Returns those of the `others` that are readable."""
        own = self.fileno()
        if own is None:
            timeout = self.pause = min(timeout, self.pause * 1.5, 1.0)
        ready = wait_readable(others if own is None else (own, *others), timeout)
        for _ in self.changes():
            pass
        return [fd for fd in ready if fd in others]

    def close(self) -> None:
        if self.inotify is not None:
            self.inotify.close()
