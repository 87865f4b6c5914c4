"""The files of workers, workers/NAME.json: each worker locks its own for as long as it lives."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from tailboard.files import (
    SMALL_FILE,
    lock_file,
    open_regular,
    paths_in,
    read_descriptor,
    read_small,
)
from tailboard.journal import Attempt
from tailboard.program_log import RepeatedErrors
from tailboard.values import utc
from tailboard.workers import WorkerInfo, encode_worker, parse_worker

WORKER_RECORD = 1 << 12  # bytes of a worker's file, always


class WorkerFiles:
    """The files of all workers of a jobs folder. One of them can belong to this process."""

    def __init__(self, root: str, boot: str, pid_namespace: str, errors: RepeatedErrors) -> None:
        """`errors`: where damaged files are reported, by path below `root`."""
        self.root, self._boot, self._pid_namespace = root, boot, pid_namespace
        self._errors = errors
        self.own_name: str | None = None  # of this process's worker
        self._registration: int | None = None  # the locked descriptor of its file

    def is_registered(self, name: str) -> bool:
        """Does this process have the file of this name, and does it still exist?"""
        return self._registration is not None and os.path.exists(f"{self.root}/workers/{name}.json")

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        """See `WorkerStore.heartbeat`, the contract. workers/ must exist."""
        info.running, info.seen_at = running, utc()
        if not self.is_registered(info.name):
            self._register(info)
        assert self._registration is not None
        # Write in place, always with the same length: a rename would leave the lock on the old
        # file.
        record = encode_worker(info)
        record["heartbeat"] = {"boot": self._boot, "monotonic": time.monotonic()}
        record["pid_namespace"] = self._pid_namespace
        os.pwrite(self._registration, json.dumps(record).encode().ljust(WORKER_RECORD), 0)

    def _register(self, info: WorkerInfo) -> None:
        """Lock a file of our own. If a living worker has our name, `info.name` gets a number."""
        self._remove_dead()
        wanted = info.name
        for number in range(2, 100):
            path = f"{self.root}/workers/{info.name}.json"
            registration = lock_file(path, os.O_RDWR | os.O_CREAT)
            if registration is not None:
                if self._registration is not None:  # its folder was removed
                    os.close(self._registration)
                self._registration, self.own_name = registration, info.name
                return
            info.name = f"{wanted}-{number}"
        raise OSError(errno.EBUSY, f"a hundred workers are already named {wanted}")

    def _remove_dead(self) -> None:
        """Remove the files of dead workers: their lock is free. Keep files that no worker wrote."""
        for path in paths_in(f"{self.root}/workers", ".json"):
            with suppress(OSError, ValueError):
                dead = lock_file(path, os.O_RDWR)
                if dead is not None:
                    with open(dead, "rb") as file:
                        if content := file.read(SMALL_FILE):
                            parse_worker(content, self._boot)
                        os.unlink(path)

    def list(self) -> Sequence[WorkerInfo]:
        """The living workers, by name. Damaged files are reported to `errors`."""
        found = []
        for path in paths_in(f"{self.root}/workers", ".json"):
            thing = os.path.relpath(path, self.root)
            try:
                with open(open_regular(path, os.O_RDONLY), "rb") as file:
                    content = read_descriptor(file.fileno())
                    info = parse_worker(content, self._boot) if content else None
                    try:
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:  # the lock is taken: its worker is alive
                        found += [info] if info else []
                self._errors.resolved(thing)
            except FileNotFoundError:
                self._errors.resolved(thing)
            except (OSError, ValueError) as error:
                self._errors.report(thing, error)
        return sorted(found, key=lambda info: info.name)

    def is_namesake(self, claimed: Attempt) -> bool:
        """Is the living worker with the name in this claim a different one, in another PID
        namespace?"""
        found = None
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            record = json.loads(read_small(f"{self.root}/workers/{claimed.worker}.json"))
            found = record.get("pid_namespace")
        return bool(found and claimed.pid_namespace and found != claimed.pid_namespace)
