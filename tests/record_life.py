"""Plays a scene of a job's life in a new folder and prints the file operations, as JSON:

    record_life.py SCENE FOLDER

After each step the folder is compared with what it was before, so that the shim's lines and the
job's output are recorded as well; only what leaves no trace is patched: fsync, and the write that
opens a shim's gate. Files and folders have numbers ("node"), which stay when they move; 0 is the
folder that holds the storage.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tailboard import intervals, keep_rules
from tailboard.files import append_line
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.saved_command import SavedCommand
from tailboard.settings import Settings
from tailboard.status import Status
from tailboard.workers import WorkerInfo
from worker import Worker

STEPS = {
    "open",
    "os.rename",
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "fcntl.flock",
    "subprocess.Popen",
}
HOST = socket.gethostname()
TALLY = 'echo $JOB_ID $JOB_ATTEMPT >>"$TALLY"; '  # the running job reports that it runs


# --- The recorder ---------------------------------------------------------------------------------


class Found(NamedTuple):
    """A file or a folder (content None) as it is now."""

    parent: int
    name: str
    content: bytes | None
    mtime: int


class Recorder:
    def __init__(self, base: str) -> None:
        self.base = base
        self.operations: list[dict[str, Any]] = []
        self.numbers = {os.stat(base).st_ino: 0}
        self.count = 0
        self.known: dict[int, Found] = {}
        self.looking = False
        self.at_gate: dict[str, Any] | None = None  # the attempt whose shim has not continued yet
        self.fsync, self.write = os.fsync, os.write
        os.fsync = self.fsynced  # type: ignore[assignment]  # ours are all descriptors
        os.write = self.written  # type: ignore[assignment]
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS or self.looking:
            return
        self.look()
        if event == "subprocess.Popen":
            env = {os.fsdecode(k): os.fsdecode(v) for k, v in (arguments[3] or {}).items()}
            if "JOB_ID" in env:
                self.at_gate = {"id": env["JOB_ID"], "attempt": int(env["JOB_ATTEMPT"])}

    def fsynced(self, fd: int) -> None:
        self.look()
        self.operations.append({"do": "fsync", "node": self.numbers[os.fstat(fd).st_ino]})
        self.fsync(fd)

    def written(self, fd: int, data: bytes) -> int:
        if self.at_gate and stat.S_ISFIFO(os.fstat(fd).st_mode):
            self.mark("started", **self.at_gate)
            self.at_gate = None
        return self.write(fd, data)

    def mark(self, what: str, **facts: Any) -> None:
        """Records a response to a caller."""
        self.look()
        self.operations.append({"do": what} | facts)

    def look(self) -> None:
        """Records what has changed since the last call."""
        self.looking = True
        try:
            found = self.walk(self.base, {})
        finally:
            self.looking = False
        for inode, gone in self.known.items():
            if inode not in found:
                self.record("unname", self.numbers.pop(inode), parent=gone.parent)
        for inode, now in found.items():
            self.compare(self.numbers[inode], self.known.get(inode), now)
        self.known = found

    def walk(self, folder: str, found: dict[int, Found]) -> dict[int, Found]:
        """Everything in a folder, by inode; folders come before their contents."""
        parent = self.numbers[os.stat(folder).st_ino]
        for name in sorted(os.listdir(folder)):
            path = f"{folder}/{name}"
            status = os.lstat(path)
            if status.st_ino not in self.numbers:
                self.count += 1
                self.numbers[status.st_ino] = self.count
            if stat.S_ISDIR(status.st_mode):
                found[status.st_ino] = Found(parent, name, None, status.st_mtime_ns)
                self.walk(path, found)
            else:
                content = Path(path).read_bytes()
                found[status.st_ino] = Found(parent, name, content, status.st_mtime_ns)
        return found

    def compare(self, node: int, before: Found | None, now: Found) -> None:
        place = {"parent": now.parent, "name": now.name}
        if before is None:
            self.record("name", node, **place, folder=now.content is None, mtime=now.mtime)
        elif (before.parent, before.name) != (now.parent, now.name):
            self.record("move", node, **place, source=before.parent)
        old = b"" if before is None else before.content
        if now.content is not None and old is not None and now.content != old:
            self.record_writes(node, old, now)

    def record_writes(self, node: int, old: bytes, now: Found) -> None:
        """Records an append, in a journal line by line, or a file that was rewritten in place."""
        assert now.content is not None
        offset = len(old) if now.content.startswith(old) else 0
        added = now.content[offset:]
        parts = (
            re.findall(rb"\n[^\n]*\n|.+", added, re.DOTALL) if now.name == "journal" else [added]
        )
        for part in parts:
            text = part.decode("latin-1")
            self.record("write", node, offset=offset, data=text, mtime=now.mtime)
            offset += len(part)

    def record(self, do: str, node: int, **details: Any) -> None:
        self.operations.append({"do": do, "node": node} | details)


# --- The scenes -----------------------------------------------------------------------------------


class Life:
    """A storage, a worker that the test runs step by step, and the responses to callers."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.recorder = Recorder(base)
        self.store = FolderStore(f"{base}/jobs")

    def submit(self, line: str = "exit 3", key: str | None = None, **fields: Any) -> Job:
        self.recorder.mark("asked", line=TALLY + line, key=key)
        job = self.store.submit(Job(command=TALLY + line, **fields), key, "1" * 64)
        self.recorder.mark("answered", id=job.id, retries=job.retries)
        return job

    def save(self, name: str) -> None:
        """Saves a command that another one starts."""
        self.recorder.mark("asked", line=TALLY + "true", key=None)
        self.store.saved.save(SavedCommand(saved=name, command=TALLY + "true"))

    def begin(self) -> Worker:
        """A worker that has started the oldest job."""
        info = WorkerInfo(f"{HOST}-{os.getpid()}", HOST, os.getpid(), 1, [])
        worker = Worker(self.store, Settings(), True, "leave", info)
        worker.claim()
        return worker

    def end(self, worker: Worker) -> None:
        """Lets its job end, and claims no other."""
        while worker.supervisor.running:
            worker.pause()
            worker.supervisor.reap()
            worker.supervisor.supervise_all()
            worker.supervisor.record_ends()

    def run(self) -> None:
        self.end(self.begin())

    def cancel(self, job: Job) -> None:
        self.store.cancel(job.id, "somebody asked")
        self.recorder.mark("cancelled", id=job.id)

    def delete(self, job: Job) -> None:
        self.recorder.mark("deleting", id=job.id)
        self.store.delete(job.id)


def is_the_first(life: Life) -> None:
    life.submit()


def is_submitted(life: Life) -> None:
    life.submit()


def is_submitted_with_a_key(life: Life) -> None:
    first = life.submit(key="a key", queue="gpu")
    assert life.submit(key="a key", queue="gpu").id == first.id


def is_submitted_while_another_makes_the_queue(life: Life) -> None:
    os.mkdir(f"{life.store.root}/queued/gpu")  # and was killed, or is about to fsync
    life.submit(queue="gpu")


def ends(life: Life) -> None:
    life.submit()
    life.run()


def ends_and_notifies(life: Life) -> None:
    life.submit(notify=[{"on": ["failed", "lost"], "to": "ops"}])
    life.run()


def starts_the_next_command(life: Life) -> None:
    life.save("report")
    life.submit("true", then="report")
    life.run()


def is_retried(life: Life) -> None:
    life.submit("exit 3", retries=1)
    life.run()
    life.run()


def times_out(life: Life) -> None:
    life.submit("exec sleep 60", timeout=0.05)
    life.run()


def cannot_start(life: Life) -> None:
    life.submit(cwd="/no/such/folder", retries=1)
    life.run()


def is_put_back(life: Life) -> None:
    """The machine had no free process."""
    life.submit()
    claim = life.store.claim(f"{HOST}-0", HOST)
    assert claim
    with claim:
        claim.requeue(Outcome(Status.QUEUED))
    life.run()


def is_lost(life: Life) -> None:
    life.submit("kill -9 $PPID; exec sleep 60", retries=1)
    for _ in range(2):
        life.run()


def is_cancelled_in_the_queue(life: Life) -> None:
    life.cancel(life.submit())


def is_cancelled_by_a_killed_client(life: Life) -> None:
    """The client that cancels it is killed before it has fsynced the line and moved the folder. The
    claimer finishes the cancellation."""
    job = life.submit()
    journal = os.open(f"{life.store.root}/queued/default/{job.id}/journal", os.O_RDWR | os.O_APPEND)
    append_line(journal, {"ended": {"status": Status.CANCELLED, "reason": "somebody asked"}})
    os.close(journal)
    life.run()


def is_cancelled_while_it_runs(life: Life) -> None:
    job = life.submit("exec sleep 60", retries=1)
    worker = life.begin()
    life.cancel(job)
    life.end(worker)


def is_cancelled_between_attempts(life: Life) -> None:
    job = life.submit(retries=1)
    life.run()
    life.cancel(job)


def is_deleted(life: Life) -> None:
    job = life.submit()
    life.run()
    life.delete(job)


def is_pruned(life: Life) -> None:
    job = life.submit("echo some output")
    life.run()
    life.recorder.mark("deleting", id=job.id)
    keep_rules.MIN_KEPT = 0.0  # as if it had ended long ago
    for _ in life.store.prune(days=0, max_bytes=1):
        pass
    assert life.store.list()[0] == [], "otherwise the scene would record no deletion"


SCENES: list[Callable[[Life], None]] = [
    is_the_first,
    is_submitted,
    is_submitted_with_a_key,
    is_submitted_while_another_makes_the_queue,
    ends,
    ends_and_notifies,
    starts_the_next_command,
    is_retried,
    times_out,
    cannot_start,
    is_put_back,
    is_lost,
    is_cancelled_in_the_queue,
    is_cancelled_by_a_killed_client,
    is_cancelled_while_it_runs,
    is_cancelled_between_attempts,
    is_deleted,
    is_pruned,
]


def main(scene_name: str, base: str) -> None:
    scene = next(scene for scene in SCENES if scene.__name__ == scene_name)
    intervals.KILL_DELAY, intervals.POLL_INTERVAL = 0.5, 0.02  # so that the test need not wait
    life = Life(base)
    if scene is not is_the_first:
        life.recorder.mark("settled")  # the storage was created long ago and is durable
    scene(life)
    life.recorder.mark("over")
    print(json.dumps(life.recorder.operations))


if __name__ == "__main__":
    main(*sys.argv[1:])
