"""Jobs: what one is, where it lives, how it moves from state to state, how its log is read.

A job is a folder; its state is the folder that it stands in; every transition is one rename:

    jobs/
      queued/QUEUE/ID/     waits for a worker
      running/ID/          claimed by a worker
      succeeded/DAY/ID/    ended; likewise failed/ cancelled/ timed_out/ lost/
      workers/NAME.json    one for each worker, flock-ed while it lives
      keys/                an Idempotency-Key's hash, holding the ID of its job
      tmp/                 half-made and half-deleted jobs, never read
      deleted              how many jobs of each status were deleted
    ID/  job.json (the record)  output.log  lock  pid  exit  cancel  times

Claim rule: who holds the flock on ID/lock, and nobody else, moves the folder and rewrites job.json;
everyone else leaves the marker `cancel`. A claim takes the lock, writes into it who claims, renames
to running/, and hands the locked descriptor to the shim (SHIM below) as its standard input.
Crash rule: a running job's lock is free <=> its shim is dead; the kernel sees to that. Then `exit`
says how it ended; no `pid` means that it never started (back to the queue), unless the machine went
down since the claim; otherwise nobody could record the end (lost). A claim of another attempt than
the record's tells a requeue that was cut short, to be completed.
A job is looked up in the order it moves (queued, running, finished), so it cannot slip past.

This module imports none of our others, nor Flask or Streamlit.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import heapq
import json
import logging
import os
import re
import select
import shutil
import signal
import stat
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from glob import glob
from itertools import chain
from typing import Any, BinaryIO, Protocol, Self, get_origin, get_type_hints

try:  # Linux only; elsewhere the queues are polled
    from inotify_simple import INotify, flags
except (ImportError, OSError):
    INotify = None

VERSION = 1  # of job.json; a record with a higher one is shown, but not run or rewritten
TAIL_BYTES = 1 << 20  # the most that a tail returns: \r progress bars make one endless line
BLOCK = 1 << 16  # bytes read at a time when looking for lines
SAMPLE = struct.Struct("<dQ")  # in `times`: seconds since 1970, size of the log
SEARCH_BLOCK = 1 << 20  # bytes read at a time when searching
EXCERPT = 1_000  # bytes of a line that a search shows
SCAN_LIMIT = 2_000  # records read for one page of a filtered list
ID_RE = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-z]{8}")
QUEUE_RE = re.compile(r"[a-z0-9_-]{1,32}")
QUEUE_NAMES = "1 to 32 of the characters a-z 0-9 _ -"
DAY_RE = re.compile(r"[0-9]{8}")
RESOURCE_ERRNOS = (
    errno.EAGAIN,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
)
LINE_RE = re.compile(rb"[^\n]*\n|[^\n]+")
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 that sorts

log = logging.getLogger("storage")

# Lets a command outlive the worker: $1 is the job's folder, $2 the umask, the rest the command.
# Standard input is the job's lock, which the command does not get. The traps are no-ops and not
# "ignore", which the command would inherit; the shell acts on them when the command has ended.
# What cannot be written, on a full disk, is tried again: the end is true before it is known.
# `exec`, lest the command be one of the shell's own; nothing that the shell has to say of a signal
# gets into the log.
SHIM = """trap : TERM INT HUP; job=$1 mask=$2; shift 2; exec 3>&2 2>/dev/null
note() { umask 077; until echo $2 >"$job/$1"; do [ -d "$job" ] || exit; sleep 1; done; }
note pid $$; umask "$mask"
(exec "$@") </dev/null 2>&3 3>&-
note exit $?
"""


class Status(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker claimed it; its process runs, or is about to
    SUCCEEDED = "succeeded"  # ended with exit code 0
    FAILED = "failed"  # ended with another code, or could not start
    CANCELLED = "cancelled"  # stopped because somebody asked
    TIMED_OUT = "timed_out"  # stopped because it ran longer than its timeout
    LOST = "lost"  # its process is gone and nobody could record how it ended


FINISHED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT, Status.LOST)


class JobError(Exception):
    """The job does not allow that."""


class JobNotFound(JobError):
    """There is no such job."""


class WrongState(JobError):
    """The job's state does not allow that."""


@dataclass(slots=True, kw_only=True)
class Job:
    """One job. Times are RFC 3339 in UTC; None where a thing is not known or does not apply."""

    id: str = ""
    command: str | list[str]  # a shell line, or a program and its arguments
    name: str | None = None
    queue: str = "default"
    cwd: str | None = None  # None: the worker's own folder
    env: dict[str, str] = field(default_factory=dict)
    timeout: float | int | None = None  # seconds
    retries: int = 0
    attempt: int = 1
    status: Status = Status.QUEUED
    submitted_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None  # 128+n after signal n, as shells say it
    reason: str | None = None  # a sentence where the status needs one
    worker: str | None = None
    host: str | None = None
    pid: int | None = None  # of the shim, which leads the job's process group
    submitted_by: str | None = None
    rerun_of: str | None = None
    cpu_seconds: float | int | None = None
    max_rss_bytes: int | None = None
    log_size: int = 0  # bytes
    log_start: int = 0  # offset of the first byte that is kept
    # Not on the wire:
    started_monotonic: float | None = None  # on this boot's clock, for an adopted job's timeout
    version: int = VERSION  # 0: the record is damaged
    extra: dict[str, Any] = field(default_factory=dict)  # fields that we do not know, kept

    def as_dict(self) -> dict[str, Any]:
        """The job as JSON on the wire."""
        return {name: getattr(self, name) for name in WIRE}


FIELDS = tuple(f.name for f in fields(Job))
NOT_ON_THE_WIRE = ("started_monotonic", "version", "extra")
WIRE = tuple(name for name in FIELDS if name not in NOT_ON_THE_WIRE)
DERIVED = ("status", "pid", "log_size", "started_monotonic", "extra")
RECORD = tuple(name for name in FIELDS if name not in DERIVED)
KINDS = {  # a record by another hand is checked: our code relies on these
    name: get_origin(kind) if get_origin(kind) is dict else kind
    for name, kind in get_type_hints(Job).items()
    if name in RECORD and name != "command"
}
CLAIM = {  # what a claim writes into the lock
    "worker": str,
    "host": str,
    "started_at": str,
    "started_monotonic": float,
    "attempt": int,
    "boot": str,
}


@dataclass(slots=True)
class Outcome:
    """How an attempt ended."""

    status: Status
    exit_code: int | None = None
    reason: str | None = None
    finished_at: str | None = None  # None: now


@dataclass(slots=True)
class WorkerInfo:
    """A worker as others see it; no `queues` means all."""

    name: str
    host: str
    pid: int
    slots: int
    queues: list[str]
    running: int = 0
    started_at: str = field(default_factory=lambda: utc())
    seen_at: str = ""


@dataclass(slots=True)
class Claim(AbstractContextManager["Claim"]):
    """A job whose lock this process holds: the right to move it and to rewrite its record."""

    job: Job
    folder: str
    lock: int  # the locked descriptor

    def open_log_for_append(self) -> BinaryIO:
        """The job's log file, for its output and for what we have to say there."""
        mode = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        return open(os.open(f"{self.folder}/output.log", mode, 0o600), "ab", buffering=0)

    def write_notice(self, line: str) -> None:
        """A line of our own in the job's log, where what stands before may lack its end."""
        with self.open_log_for_append() as out:
            size = os.fstat(out.fileno()).st_size
            if size and os.pread(out.fileno(), 1, size - 1) != b"\n":
                out.write(b"\n")
            out.write(f"{line}\n".encode(errors="replace"))

    def shim(self) -> list[str]:
        """The arguments that run the job's command under the shim, with our own umask."""
        os.umask(umask := os.umask(0o077))
        command = self.job.command
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        return ["/bin/sh", "-c", SHIM, "tailboard", self.folder, f"{umask:03o}", *words]

    def __exit__(self, *_: object) -> None:
        os.close(self.lock)


class Store(Protocol):
    """What worker and API ask of a storage. OSError where it is full or out of reach."""

    def submit(self, job: Job, key: str | None = None) -> Job: ...
    def get(self, job_id: str) -> Job: ...
    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
    ) -> tuple[Sequence[Job], str | None]: ...
    def ids(self) -> Iterator[str]: ...
    def counts(self) -> dict[Status, int]: ...
    def finished_totals(self) -> dict[Status, int]: ...
    def iter_new_finished(self, seen: set[str]) -> Iterator[Job]: ...
    def check_writable(self) -> None: ...
    def queued_by_queue(self) -> dict[str, Sequence[str]]: ...
    def cancel(self, job_id: str, reason: str, status: Status = Status.CANCELLED) -> Job: ...
    def delete(self, job_id: str) -> None: ...
    def open_log(self, job_id: str) -> Log: ...
    def load_logs(self, job_id: str, tail: int = 1000) -> str: ...
    def watch(self, job_id: str) -> Notifier: ...
    def status(self, job_id: str) -> Status: ...
    def workers(self) -> Sequence[WorkerInfo]: ...
    # What only a worker asks:
    def tracking_env(self, job_id: str) -> dict[str, str]: ...
    def prune(self, days: int, max_bytes: int) -> Iterator[None]: ...
    def heartbeat(self, info: WorkerInfo, running: int) -> None: ...
    def subscribe(self, queues: Iterable[str]) -> int | None: ...
    def refresh(self, scan: bool = False) -> None: ...
    def claim(self, worker: str, host: str) -> Claim | None: ...
    def acquire_lock(self, job_id: str) -> Claim | None: ...
    def cancel_requested(self, job_id: str) -> bool: ...
    def supervise_log(self, job_id: str) -> LogSupervisor | None: ...
    def outcome(self, held: Claim) -> Outcome | None: ...
    def finish(self, held: Claim, outcome: Outcome) -> Job: ...
    def requeue(self, held: Claim, retry: bool) -> Job: ...


# --- Settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the environment's TAILBOARD_* variables say; the README has them in a table."""

    storage: str = "jobs"
    token: str = ""
    followers: int = 64
    dashboard: str = "http://localhost:8501,http://127.0.0.1:8501"
    log_max_bytes: int = 1 << 30
    keep_days: int = 30
    keep_bytes: int = 0
    webhook: str = ""
    webhook_on: str = "failed,timed_out,lost"
    # Read elsewhere: by dashboard.py, which imports nothing of ours, and by gunicorn's settings.
    api: str = ""
    public_api: str = ""
    bind: str = "127.0.0.1:5000"

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Self:
        """ValueError, in one sentence, where a value is bad or a name is a typing error. Other
        unknown variables are left to `foreign_settings`: they may belong to another program."""
        kinds = {name.upper(): (name, type(getattr(cls, name))) for name in SETTING_NAMES}
        given: dict[str, Any] = {}
        for variable, value in env.items():
            name = variable.removeprefix("TAILBOARD_")
            if name == variable:
                continue
            if name not in kinds:
                if meant := _near_miss(name):
                    raise ValueError(f"{variable} is no setting; is TAILBOARD_{meant} meant?")
                continue
            if value:
                field_name, kind = kinds[name]
                if kind is int and not re.fullmatch("[0-9]{1,18}", value):
                    raise ValueError(f"{variable} must be a whole number, and {value!r} is none")
                given[field_name] = kind(value)
        settings = cls(**given)
        if unknown := set(settings.webhook_on.split(",")) - {str(s) for s in FINISHED}:
            raise ValueError(
                f"TAILBOARD_WEBHOOK_ON: {min(unknown)!r} is none of {', '.join(FINISHED)}"
            )
        return settings


SETTING_NAMES = tuple(f.name for f in fields(Settings))


def _near_miss(name: str) -> str | None:
    """The setting for which this name, without its prefix, is most likely a typing error."""
    from difflib import get_close_matches  # here: few starts need it

    known = [known.upper() for known in SETTING_NAMES]
    close = get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


def foreign_settings(env: Mapping[str, str] = os.environ) -> list[str]:
    """The TAILBOARD_* variables that are no settings of ours: a deployment may carry some that
    belong to other programs (TAILBOARD_HOME), so each is worth a warning and no more."""
    known = {f"TAILBOARD_{name.upper()}" for name in SETTING_NAMES}
    return sorted(name for name in env if name.startswith("TAILBOARD_") and name not in known)


# --- Small things -------------------------------------------------------------------------------


def utc(timestamp: float | None = None) -> str:
    """A time (seconds since 1970; None: now) as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """UTC date, time, microseconds in 4 base-32 characters, 4 random ones."""
    now = datetime.now(UTC)
    number = now.microsecond << 20 | int.from_bytes(os.urandom(3)) >> 4
    return f"{now:%Y%m%d-%H%M%S}-" + "".join(
        ID_ALPHABET[number >> n & 31] for n in range(35, -1, -5)
    )


def _fsync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    """A small file's bytes; never through a symbolic link or from a FIFO that nobody writes."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(fd, os.fstat(fd).st_size + 1)
    finally:
        os.close(fd)


def _write(path: str, content: object) -> None:
    """Replace a JSON file by another in one step that a power cut does not halve."""
    draft = f"{path}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(json.dumps(content).encode() + b"\n")
        file.flush()
        os.fsync(fd)
    os.rename(draft, path)


def _write_record(folder: str, job: Job) -> None:
    _write(f"{folder}/job.json", job.extra | {name: getattr(job, name) for name in RECORD})


def _parse_record(data: bytes, job_id: str) -> Job:
    """The Job in the bytes of a job.json; ValueError, saying why, where there is none."""
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    known = {name: record.pop(name) for name in RECORD if name in record}
    job = Job(**{"command": None, "version": None} | known | {"id": job_id}, extra=record)
    for name, kind in KINDS.items():
        if not isinstance(getattr(job, name), kind):
            raise ValueError(f"its {name} is not what it should be")
    words = [job.command] if isinstance(job.command, str) else job.command
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ValueError("its command is not what it should be")
    if not QUEUE_RE.fullmatch(job.queue):
        raise ValueError("its queue is not what it should be")
    if job.version > VERSION:
        job.reason = f"its record is of version {job.version}, newer than this Tailboard"
    return job


def _lock(path: str) -> int | None:
    """Take the flock on a file, made if need be, without waiting; None where somebody has it.

    Between opening and locking, its folder may have moved away: then it is not ours."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    os.close(fd)
    return None


def _boot() -> str:
    """Tells one start of this machine from another, where it can be told (Linux, random(4))."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


def _parse_claim(data: bytes) -> dict[str, Any] | None:
    """What a claim wrote into a lock; {} where nobody claimed; None where it cannot be read."""
    with suppress(ValueError, KeyError, TypeError):
        claim: dict[str, Any] = json.loads(data)
        if claim == {} or all(isinstance(claim[name], kind) for name, kind in CLAIM.items()):
            return claim
    return None


def _number(path: str) -> int | None:
    """The number in a file that the shim wrote; None where it is missing or half written."""
    with suppress(OSError, ValueError):
        text = _read(path)
        return int(text) if text.endswith(b"\n") else None
    return None


def _remove_attempt_files(folder: str, *names: str) -> None:
    """Remove what an attempt has left, which would be read as the next one's."""
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")


def _read_cancel_request(folder: str) -> Outcome:
    """What the marker `cancel` asks for; one made by hand may be empty."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(_read(f"{folder}/cancel"))
        return Outcome(Status(note["status"]), reason=str(note["reason"]))
    return Outcome(Status.CANCELLED, reason="cancelled by a file in its folder")


def _mtime(path: str) -> float | None:
    with suppress(OSError):
        return os.lstat(path).st_mtime
    return None


# --- Logs ---------------------------------------------------------------------------------------


class Log(AbstractContextManager["Log"]):
    """A job's log, open for reading. An offset counts raw bytes and means one place for ever; the
    head of a runaway log may have been given back, and then the log begins at `start`."""

    def __init__(self, path: str) -> None:
        self.times = f"{os.path.dirname(path)}/times"
        self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode) and path != os.devnull:  # a job's doing
            os.close(self.fd)
            raise FileNotFoundError(errno.ENOENT, "the log is not a file", path)
        with suppress(BlockingIOError):  # it is being deleted
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # retention leaves it alone

    def close(self) -> None:
        os.close(self.fd)

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def start(self) -> int:
        """The offset of the first byte kept: before it there is a hole (lseek(2), SEEK_DATA)."""
        with suppress(OSError):  # an empty file has no data
            return os.lseek(self.fd, 0, os.SEEK_DATA)
        return 0

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """Up to `limit` bytes from `offset`, or from `start` where that has passed it; and from
        where they are."""
        while True:
            offset = max(offset, self.start)
            data = os.pread(self.fd, limit, offset)
            passed = max(0, self.start - offset)  # looked up again: it may have moved meanwhile
            if passed < len(data) or not data:
                return (offset + passed, data[passed:]) if data else (offset, b"")

    def tail(self, lines: int, size: int, limit: int = TAIL_BYTES) -> int:
        """The offset where the last `lines` lines before `size` begin, at most `limit` bytes
        back. Reads backwards in blocks, so that the length of the log does not matter."""
        floor, end = max(self.start, size - limit), size
        wanted = lines + (os.pread(self.fd, 1, max(0, size - 1)) == b"\n")  # ends the last line
        while lines > 0 and end > floor:
            begin = max(floor, end - BLOCK)
            block = os.pread(self.fd, end - begin, begin)
            found = block.count(b"\n")
            if found >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rindex(b"\n", 0, at)
                return begin + at + 1
            wanted -= found
            end = begin
        return floor if lines > 0 else size

    def line_at(self, offset: int) -> int:
        """Where the line begins that the byte at `offset` is part of (TAIL_BYTES back at most)."""
        if offset <= self.start or os.pread(self.fd, 1, offset - 1) == b"\n":
            return offset
        return self.tail(1, offset)

    def search(
        self, needle: bytes, before: int, limit: int, deadline: float
    ) -> tuple[list[tuple[int, bytes]], int | None]:
        """(offset of the line, an excerpt with the match) of up to `limit` lines that hold the
        bytes, in ASCII capitals or not, newest first, from below `before`; and the offset to go
        on below, None at the beginning. Stops at `deadline` on the monotonic clock."""
        found: list[tuple[int, bytes]] = []
        needle, start, end = needle.lower(), self.start, before
        while end > start:
            if len(found) == limit or time.monotonic() > deadline:
                return found, end
            begin = max(start, end - SEARCH_BLOCK)
            block = os.pread(self.fd, end - begin + len(needle) - 1, begin).lower()
            while end > begin and len(found) < limit:
                at = block.rfind(needle, 0, end - begin + len(needle) - 1)
                if at < 0:
                    end = begin
                    break
                end = self.line_at(begin + at)
                shown = max(end, begin + at - EXCERPT // 2)
                found.append((end, os.pread(self.fd, EXCERPT, shown).split(b"\n", 1)[0]))
        return found, None

    def count_lines(self, begin: int, end: int, deadline: float) -> tuple[int, int]:
        """How many lines end from `begin` on, and up to where: `end`, unless time was up."""
        count = 0
        while begin < end and time.monotonic() < deadline:
            block = os.pread(self.fd, min(SEARCH_BLOCK, end - begin), begin)
            count += block.count(b"\n")
            begin += len(block)
        return begin, count

    def offset_at_time(self, moment: float) -> int:
        """Where the lines written from `moment` (seconds since 1970) on begin; some that are
        older by up to a sample may come first, none is missed."""
        if moment > os.fstat(self.fd).st_mtime:
            return self.size
        with SizeSamples(self.times) as samples:
            place = bisect_right(samples, moment, key=lambda sample: sample[0])
            return self.line_at(max(self.start, samples[place - 1][1] if place else 0))

    def add_timestamps(self, offset: int, data: bytes) -> bytes:
        """Lead each line of the data, which stands at `offset`, by the time at which it was seen
        to be there: never a time at which it cannot have been written yet."""
        written = os.fstat(self.fd).st_mtime
        at, known, text, out = offset, -1, b"", []
        with SizeSamples(self.times) as samples:
            for line in LINE_RE.findall(data):
                if at > offset or self.line_at(at) == at:
                    if at >= known:
                        place = bisect_right(samples, at, key=lambda sample: sample[1])
                        seen, known = samples[place] if place < len(samples) else (written, 1 << 63)
                        text = utc(min(seen, written)).encode() + b" "
                    out.append(text)
                out.append(line)
                at += len(line)
        return b"".join(out)


class SizeSamples(Sequence[tuple[float, int]], AbstractContextManager["SizeSamples"]):
    """The (time, size) samples of a log, read one by one from the file `times` if there is one."""

    def __init__(self, path: str) -> None:
        self.fd, self.length = -1, 0
        with suppress(OSError):
            self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            self.length = os.fstat(self.fd).st_size // SAMPLE.size

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: Any) -> Any:
        return SAMPLE.unpack(os.pread(self.fd, SAMPLE.size, place * SAMPLE.size))


class Notifier:
    """Tells of changes in folders: of jobs that enter a queue to the worker, of a log that grows
    or a job that moves on to a follower. Without inotify it tells nothing and `wait` waits for
    longer and longer, up to a second."""

    def __init__(self, *folders: str) -> None:
        self.inotify: Any = None
        self.pause = 0.02  # seconds
        with suppress(OSError):  # no instance left to be had
            self.inotify = INotify(nonblocking=True) if INotify else None
        try:
            for folder in folders:
                self.add(folder)
        except OSError:
            self.close()
            raise

    def add(self, folder: str) -> int:
        """Watch a folder, and the number that its changes carry; OSError where there is none."""
        if self.inotify is None:
            return -1
        changes = flags.CREATE | flags.MOVED_TO | flags.MODIFY | flags.MOVE_SELF
        return int(self.inotify.add_watch(folder, changes | flags.DELETE_SELF | flags.ONLYDIR))

    def fileno(self) -> int | None:
        """Readable when something has changed."""
        return None if self.inotify is None else self.inotify.fileno()

    def changes(self) -> Iterator[tuple[int, str]]:
        """The numbers and the names of what has changed since the last call."""
        return ((e.wd, e.name) for e in (self.inotify.read(0) if self.inotify else ()))

    def wait(self, timeout: float, *others: int) -> Sequence[int]:
        """Up to `timeout` seconds; those of the other descriptors that are readable."""
        own = self.fileno()
        if own is None:
            timeout = self.pause = min(timeout, self.pause * 1.5, 1.0)
        poller = select.poll()
        for fd in others if own is None else (own, *others):
            poller.register(fd, select.POLLIN)
        ready = poller.poll(timeout * 1000)
        for _ in self.changes():
            pass
        return [fd for fd, _ in ready if fd in others]

    def close(self) -> None:
        if self.inotify is not None:
            self.inotify.close()


class LogSupervisor:
    """What a worker does for the log of a running job while it runs. Holding it, by the flock on
    `times`, makes a worker the one that supervises the job: BlockingIOError where one does."""

    def __init__(self, folder: str) -> None:
        self.log = os.open(f"{folder}/output.log", os.O_RDWR | os.O_NOFOLLOW)
        self.times = os.open(f"{folder}/times", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self.times, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise
        self.records = os.fstat(self.times).st_size // SAMPLE.size
        last = os.pread(self.times, SAMPLE.size, max(0, self.records - 1) * SAMPLE.size)
        self.time, self.size = SAMPLE.unpack(last) if len(last) == SAMPLE.size else (0.0, 0)

    def close(self) -> None:
        os.close(self.log)
        os.close(self.times)

    def sample_and_trim(self, limit: int) -> bool:
        """Note (time, size) if the log has grown, at most once a second; give all but its newest
        `limit` bytes back to the file system. False: it cannot."""
        size, now = os.fstat(self.log).st_size, time.time()
        if size > self.size and not 0 <= now - self.time < 1:
            self.time, self.size = max(now, self.time), size  # sorted, whoever sets the clock
            place = self.records * SAMPLE.size  # not the end, which a crash may have halved
            os.pwrite(self.times, SAMPLE.pack(self.time, size), place)
            self.records += 1
        return self._trim(limit)

    def _trim(self, limit: int) -> bool:
        now = os.fstat(self.log)
        if now.st_blocks * 512 <= limit or now.st_size <= limit:
            return True
        try:  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, fallocate(2)
            length = ctypes.c_int64((now.st_size - limit) // BLOCK * BLOCK)
            fallocate = ctypes.CDLL(None).fallocate
            return bool(fallocate(self.log, 3, ctypes.c_int64(0), length) == 0)
        except AttributeError:  # not on this system
            return False


# --- The folder backend -------------------------------------------------------------------------


class FolderStore:
    """Jobs in a folder, on a local file system or a shared one whose flock works."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self._listings: dict[str, tuple[int, list[str]]] = {}  # folder -> its mtime, its names
        self._backlog: list[tuple[str, str]] = []  # a heap of (ID, queue) that may be claimed
        self._queues: frozenset[str] = frozenset()  # those that this worker serves; none: all
        self._notifier: Notifier | None = None
        self._watched: dict[int, str] = {}  # the notifier's numbers -> queue
        self._boot = _boot()
        self._registration: int | None = None  # the locked descriptor of workers/NAME.json
        self._make_folders()

    def _make_folders(self) -> None:
        for name in ("", *Status, "queued/default", "workers", "keys", "tmp"):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)

    # Looking

    def _find(self, job_id: str) -> tuple[Status, str]:
        for _ in range(2 if ID_RE.fullmatch(job_id) else 0):  # a requeue moves backwards, past us
            for status in Status:
                for folder in self._folders(status, job_id[:8]):
                    path = f"{folder}/{job_id}"
                    if os.path.isdir(path) and not os.path.islink(path):
                        return status, path
        raise JobNotFound(f"there is no job {job_id!r}")

    def _folders(self, status: Status, day: str | None = None) -> list[str]:
        """The folders in which job folders of this status (and day) stand, newest first."""
        home = f"{self.root}/{status}"
        if status is Status.RUNNING:
            return [home]
        if day and status is not Status.QUEUED:
            return [f"{home}/{day}"]
        pattern = QUEUE_RE if status is Status.QUEUED else DAY_RE
        return [f"{home}/{name}" for name in reversed(self._listing(home, pattern))]

    def _listing(self, folder: str, pattern: re.Pattern[str] = ID_RE) -> list[str]:
        """The names in a folder that match, sorted; remembered until the folder changes. A time
        stamp does not tell two changes of one clock tick apart, so a fresh one is not trusted."""
        try:
            stamp = os.stat(folder).st_mtime_ns
            known = self._listings.get(folder)
            if known and known[0] == stamp:
                return known[1]
            names = sorted(filter(pattern.fullmatch, os.listdir(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        if time.time_ns() - stamp > 100_000_000:
            self._listings[folder] = stamp, names
        return names

    def _load(self, status: Status, folder: str) -> Job | None:
        """The job in this folder; None where it has just moved on, or was none ever."""
        if os.path.islink(folder):
            return None
        try:
            job = _parse_record(_read(f"{folder}/job.json"), os.path.basename(folder))
        except (OSError, ValueError, RecursionError) as error:
            if not os.path.isdir(folder):
                return None
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"its job.json cannot be read: {why}"
            job = Job(id=os.path.basename(folder), command="", reason=reason, version=0)
        job.status = status
        with suppress(OSError):
            job.log_size = os.lstat(f"{folder}/output.log").st_size
        if status is Status.QUEUED:
            job.queue = os.path.basename(os.path.dirname(folder))
        elif status is Status.RUNNING:
            job.pid, job.log_start = _number(f"{folder}/pid"), _log_start(folder)
            with suppress(OSError):
                claim = _parse_claim(_read(f"{folder}/lock")) or {}
                for name in ("worker", "host", "started_at", "started_monotonic"):
                    setattr(job, name, claim.get(name))
        return job

    def get(self, job_id: str) -> Job:
        """The job; JobNotFound."""
        while True:
            if job := self._load(*self._find(job_id)):
                return job

    def _iter_folder(
        self, folder: str, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        names = self._listing(folder)
        for name in reversed(names[: bisect_left(names, before) if before else None]):
            yield name, status, f"{folder}/{name}"

    def _iter_newest_first(
        self, status: Status, before: str | None
    ) -> Iterator[tuple[str, Status, str]]:
        """(ID, status, folder), newest first; days that the caller does not reach are not read."""
        parts = (self._iter_folder(folder, status, before) for folder in self._folders(status))
        if status is Status.QUEUED:  # queues overlap in time, days do not
            return heapq.merge(*parts, reverse=True)
        return chain.from_iterable(parts)

    def list(
        self,
        status: Status | None = None,
        queue: str | None = None,
        text: str = "",
        limit: int = 50,
        before: str | None = None,
    ) -> tuple[Sequence[Job], str | None]:
        """Up to `limit` jobs, newest first, and the ID to go on before (None: that was all).

        `text` is looked for in name, command and ID, whatever its case. Reads SCAN_LIMIT records
        at the most, so that there may be few or none of them and yet more to come."""
        jobs: list[Job] = []
        last = ""
        needle = text.casefold()
        merged = heapq.merge(
            *(self._iter_newest_first(s, before) for s in ([status] if status else Status)),
            reverse=True,
        )
        for read, (job_id, found, folder) in enumerate(merged):
            if len(jobs) == limit or read == SCAN_LIMIT:
                return jobs, last
            if job_id == last:  # it moved on while we listed
                continue
            last = job_id
            job = self._load(found, folder)
            if job is None:
                with suppress(JobNotFound):
                    job = self.get(job_id)
            if job is None or status not in (None, job.status) or queue not in (None, job.queue):
                continue
            if needle in f"{job.name or ''}\n{job.command}\n{job_id}".casefold():
                jobs.append(job)
        return jobs, None

    def ids(self) -> Iterator[str]:
        """The IDs of all jobs."""
        return (
            name for s in Status for folder in self._folders(s) for name in self._listing(folder)
        )

    def iter_new_finished(self, seen: set[str]) -> Iterator[Job]:
        """The jobs that have ended and are not in `seen`, which takes their IDs."""
        for status in FINISHED:
            for folder in self._folders(status):
                for name in self._listing(folder):
                    if name not in seen and (job := self._load(status, f"{folder}/{name}")):
                        seen.add(name)
                        yield job

    def queued_by_queue(self) -> dict[str, Sequence[str]]:
        """The IDs queued in each queue that holds any, oldest first."""
        listings = {os.path.basename(f): self._listing(f) for f in self._folders(Status.QUEUED)}
        return {queue: names for queue, names in sorted(listings.items()) if names}

    def counts(self) -> dict[Status, int]:
        """Jobs by status, counted by their names: no record is read."""
        return {s: sum(len(self._listing(f)) for f in self._folders(s)) for s in Status}

    def open_log(self, job_id: str) -> Log:
        """The job's log; JobNotFound, or FileNotFoundError where it has none (yet)."""
        while True:
            folder = self._find(job_id)[1]
            try:
                return Log(f"{folder}/output.log")
            except FileNotFoundError:
                if os.path.isdir(folder):  # and did not just move on
                    raise

    def load_logs(self, job_id: str, tail: int = 1000) -> str:
        """The last `tail` lines, at most TAIL_BYTES; FileNotFoundError where there is no log."""
        with self.open_log(job_id) as log:
            size = log.size
            offset = log.tail(tail, size)
            return log.read(offset, size - offset)[1].decode(errors="replace")

    def watch(self, job_id: str) -> Notifier:
        """A watch on a job's log and state; JobNotFound."""
        while True:
            with suppress(FileNotFoundError):
                return Notifier(self._find(job_id)[1])

    def status(self, job_id: str) -> Status:
        """A job's status, without a look at its record; JobNotFound."""
        return self._find(job_id)[0]

    # Transitions: each names the states that it may start from.

    def submit(self, job: Job, key: str | None = None) -> Job:
        """Queue a job (-> queued), with an ID and durably. The same `key` gives the job that it
        gave before, as long as that exists. ValueError for what is no queue's name."""
        if not QUEUE_RE.fullmatch(job.queue):
            raise ValueError(f"queue must be {QUEUE_NAMES}, and {job.queue!r} is not")
        job = replace(job, id=new_id(), submitted_at=utc())
        if key is None:
            return self._enqueue(job)
        from hashlib import sha256  # here, because the worker has no use for its 3 MB

        path = f"{self.root}/keys/{sha256(key.encode(errors='replace')).hexdigest()}"
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(JobNotFound):
                return self.get(file.read(24).decode(errors="replace"))
            # The ID first: after a crash here the key leads to no job, which is as good as none.
            file.seek(0)
            file.write(job.id.encode())
            file.flush()
            os.fsync(file.fileno())
            return self._enqueue(job)

    def _enqueue(self, job: Job) -> Job:
        draft, home = f"{self.root}/tmp/{job.id}", f"{self.root}/queued/{job.queue}"
        try:
            os.mkdir(draft, mode=0o700)
            _write_record(draft, job)
            _fsync_folder(draft)
            if not os.path.isdir(home):
                os.makedirs(home, mode=0o700, exist_ok=True)
                _fsync_folder(f"{self.root}/queued")
            os.rename(draft, f"{home}/{job.id}")
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _fsync_folder(home)
        return job

    def claim(self, worker: str, host: str) -> Claim | None:
        """The oldest job of the subscribed queues (queued -> running); None: there is none."""
        while self._backlog:
            job_id, queue = heapq.heappop(self._backlog)
            try:
                held = self._acquire(Status.QUEUED, f"{self.root}/queued/{queue}/{job_id}")
                if held and (held := self._claim(held, worker, host)):
                    return held
            except FileNotFoundError:
                pass  # another worker was faster
            except OSError as error:
                if error.errno in RESOURCE_ERRNOS:
                    raise
                log.warning("unclaimable job=%s error=%r", job_id, str(error))
        return None

    def _claim(self, held: Claim, worker: str, host: str) -> Claim | None:
        try:
            if self._is_claimable(held):
                self._mark_claim(held, worker, host)
                self._move(held, f"{self.root}/running", Status.RUNNING)
                _fsync_folder(f"{self.root}/running")  # else a power cut might start it twice
                return held
        except BaseException:
            os.close(held.lock)
            raise
        os.close(held.lock)
        return None

    def _is_claimable(self, held: Claim) -> bool:
        folder, version = held.folder, held.job.version
        if os.path.exists(f"{folder}/pid"):  # moved back here by hand
            _remove_attempt_files(folder, "exit", "cancel", "pid")
        if os.path.exists(f"{folder}/cancel"):  # left when this lock could not be had
            self.finish(held, _read_cancel_request(folder))
        elif version == 0 and os.path.exists(f"{folder}/job.json"):
            self.finish(held, Outcome(Status.FAILED))  # damaged: nobody can ever run it
        else:
            return version == VERSION  # else it is half copied, or for a newer worker
        return False

    def _mark_claim(self, held: Claim, worker: str, host: str) -> None:
        job = held.job
        job.worker, job.host, job.started_at = worker, host, utc()
        job.started_monotonic = time.monotonic()
        claim = {
            "worker": job.worker,
            "host": job.host,
            "started_at": job.started_at,
            "started_monotonic": job.started_monotonic,
            "attempt": job.attempt,
            "boot": self._boot,
        }
        os.ftruncate(held.lock, 0)
        os.pwrite(held.lock, json.dumps(claim).encode(), 0)

    def acquire_lock(self, job_id: str) -> Claim | None:
        """Take a running job's lock. None: it is alive. JobNotFound: it does not run any more."""
        folder = f"{self.root}/running/{job_id}"
        try:
            by_hand = not os.path.exists(f"{folder}/lock")  # nobody claimed it: it was moved here
            if (held := self._acquire(Status.RUNNING, folder)) and by_hand:
                os.pwrite(held.lock, b"{}", 0)
        except FileNotFoundError:
            raise JobNotFound(f"job {job_id} does not run any more") from None
        return held

    def _acquire(self, status: Status, folder: str) -> Claim | None:
        lock = None if os.path.islink(folder) else _lock(f"{folder}/lock")
        if lock is None:
            return None
        if job := self._load(status, folder):
            return Claim(job, folder, lock)
        os.close(lock)
        return None

    def _move(self, held: Claim, home: str, status: Status) -> None:
        target = f"{home}/{held.job.id}"
        try:
            os.rename(held.folder, target)
        except FileNotFoundError:  # the first of its day, or somebody tidied up
            os.makedirs(home, mode=0o700, exist_ok=True)
            os.rename(held.folder, target)
        held.folder, held.job.status = target, status

    def outcome(self, held: Claim) -> Outcome | None:
        """How a running job whose shim is dead ended; None: it never started."""
        folder, job = held.folder, held.job
        claim = _parse_claim(os.pread(held.lock, BLOCK, 0))
        if claim and job.version and claim["attempt"] != job.attempt:
            return None  # a requeue was cut short
        same_boot = claim is not None and claim.get("boot", self._boot) == self._boot
        asked = _mtime(f"{folder}/cancel")
        if same_boot and not os.path.exists(f"{folder}/pid"):
            return _read_cancel_request(folder) if asked else None
        code, ended = _number(f"{folder}/exit"), _mtime(f"{folder}/exit")
        finished_at = utc(ended if code is not None else None)
        retries = bool(code) and job.attempt <= job.retries  # which a late cancel still stops
        if asked and (code is None or ended is None or asked <= ended or retries):
            return replace(_read_cancel_request(folder), exit_code=code, finished_at=finished_at)
        if code is None:
            reason = "its process was gone and no exit code was recorded"
            return Outcome(Status.LOST, None, reason, finished_at)
        result = Outcome(Status.FAILED if code else Status.SUCCEEDED, code, None, finished_at)
        with suppress(ValueError):
            result.reason = f"ended by {signal.Signals(code - 128).name}"
        return result

    def finish(self, held: Claim, outcome: Outcome) -> Job:
        """Record how a job ended (running -> finished; queued -> failed or cancelled). A record
        that is damaged or newer stays as it is, for a person to look at."""
        self._expect("finished", held.job, Status.RUNNING, Status.QUEUED)
        job = held.job
        if job.version == VERSION:
            job.exit_code, job.reason = outcome.exit_code, outcome.reason
            job.log_start = _log_start(held.folder)
            # Not before its start, wherever the clock has jumped meanwhile.
            job.finished_at = max(outcome.finished_at or utc(), job.started_at or "")
            _write_record(held.folder, job)
        self._move(held, f"{self.root}/{outcome.status}/{job.id[:8]}", outcome.status)
        return job

    def requeue(self, held: Claim, retry: bool) -> Job:
        """Back to the queue (running -> queued); `retry` makes it the next attempt."""
        self._expect("requeued", held.job, Status.RUNNING)
        job = held.job
        job.worker = job.host = job.started_at = job.started_monotonic = None
        if retry and job.version == VERSION:
            job.attempt += 1
            _write_record(held.folder, job)
        if _read_cancel_request(held.folder).status is not Status.CANCELLED:
            _remove_attempt_files(held.folder, "exit", "cancel", "pid")
        else:  # a person's wish, which the next claim carries out
            _remove_attempt_files(held.folder, "exit", "pid")
        self._move(held, f"{self.root}/queued/{job.queue}", Status.QUEUED)
        return job

    def cancel(self, job_id: str, reason: str, status: Status = Status.CANCELLED) -> Job:
        """Cancel a queued job at once (queued -> cancelled); leave a running one the marker that
        its worker acts on. WrongState once it has ended."""
        while True:
            found, folder = self._find(job_id)
            if found in FINISHED:
                raise WrongState(f"job {job_id} is {found}: it cannot be cancelled any more")
            with suppress(FileNotFoundError):  # it moved on: look again
                if found is Status.QUEUED and (held := self._acquire(found, folder)):
                    with held:
                        return self.finish(held, Outcome(status, reason=reason))
                if not os.path.exists(f"{folder}/cancel"):
                    _write(f"{folder}/cancel", {"status": status, "reason": reason})
                return self.get(job_id)

    def cancel_requested(self, job_id: str) -> bool:
        """Has somebody left the marker on this running job?"""
        return os.path.exists(f"{self.root}/running/{job_id}/cancel")

    def supervise_log(self, job_id: str) -> LogSupervisor | None:
        """Become the supervisor of a running job; None: another worker is."""
        with suppress(BlockingIOError, FileNotFoundError):
            return LogSupervisor(f"{self.root}/running/{job_id}")
        return None

    def delete(self, job_id: str) -> None:
        """Delete a finished job with its log (finished -> gone). WrongState before its end."""
        status, folder = self._find(job_id)
        if status not in FINISHED:
            raise WrongState(f"job {job_id} is {status}: only a job that has ended can be deleted")
        try:
            self._delete(status, folder)
        except FileNotFoundError:
            raise JobNotFound(f"there is no job {job_id!r}") from None

    def _delete(self, status: Status, folder: str) -> None:
        grave = f"{self.root}/tmp/{os.path.basename(folder)}.deleted"
        os.rename(folder, grave)
        shutil.rmtree(grave, ignore_errors=True)
        with open(os.open(f"{self.root}/deleted", os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            tally = _parse_counts(file.read())
            tally[status] += 1
            file.seek(0)
            file.write(json.dumps(tally).encode().ljust(256))

    def finished_totals(self) -> dict[Status, int]:
        """How many jobs have ended so ever, by status: those that are here and those deleted."""
        here = self.counts()
        with suppress(OSError):
            for status, count in _parse_counts(_read(f"{self.root}/deleted")).items():
                here[status] += count
        return {status: here[status] for status in FINISHED}

    def prune(self, days: int, max_bytes: int) -> Iterator[None]:
        """Delete the jobs that ended more than `days` days ago and the oldest whose logs exceed
        `max_bytes` in all (0: no bound), but none whose log is being read. Also what was left
        half-made. A look at a time: the caller goes on when it has the time."""
        oldest = time.time() - days * 86_400 if days else 0.0
        before = None if max_bytes else f"{datetime.fromtimestamp(oldest, UTC):%Y%m%d}-99"
        size = 0
        streams = [self._iter_newest_first(status, before) for status in FINISHED]
        for _, status, folder in heapq.merge(*streams, reverse=True):
            with suppress(OSError):
                log = f"{folder}/output.log"
                size += os.lstat(log).st_blocks * 512 if os.path.lexists(log) else 0
                old = (_mtime(f"{folder}/job.json") or 0.0) < oldest
                if (old or (max_bytes and size > max_bytes)) and not _is_read(log):
                    self._delete(status, folder)
                    os.rmdir(os.path.dirname(folder))  # fails as long as it holds another
            yield
        for name, limit in (("tmp", time.time() - 86_400), ("keys", oldest)):
            for path in glob(f"{self.root}/{name}/*"):
                if (seen := _mtime(path)) is not None and seen < limit:
                    with suppress(OSError):
                        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
                yield

    def check_writable(self) -> None:
        """OSError where nothing can be written."""
        path = f"{self.root}/tmp/check-{os.getpid()}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(b"x" * 4096)
        os.unlink(path)

    @staticmethod
    def _expect(verb: str, job: Job, *allowed: Status) -> None:
        if job.status not in allowed:
            raise WrongState(f"job {job.id} is {job.status}: it cannot be {verb}")

    # Workers

    def tracking_env(self, job_id: str) -> dict[str, str]:
        """The variables that tell what a job has started. A copy of this folder, restored from a
        backup say, has jobs of the same ID: it is told apart by its place on the disk."""
        found = os.stat(self.root)
        return {"JOB_ID": job_id, "JOB_STORAGE": f"{found.st_dev}-{found.st_ino}"}

    def heartbeat(self, info: WorkerInfo, running: int) -> None:
        """Show this worker, as long as its process lives; mend what has vanished of the folder."""
        info.running, info.seen_at = running, utc()
        path = f"{self.root}/workers/{info.name}.json"
        for _ in range(100):
            if self._registration is not None and os.path.exists(path):
                break
            self._make_folders()
            for other in glob(f"{self.root}/workers/*.json"):
                if dead := _lock(other):
                    os.unlink(other)
                    os.close(dead)
            self._registration = _lock(path)
        if self._registration is None:
            raise OSError(errno.EBUSY, f"another worker is called {info.name}")
        # In place and of one length: a rename would leave the lock on the old file.
        record = {f.name: getattr(info, f.name) for f in fields(info)}
        os.pwrite(self._registration, json.dumps(record).encode().ljust(1 << 10), 0)

    def workers(self) -> Sequence[WorkerInfo]:
        """The living workers, by name; a file whose lock is free is a dead one's."""
        found = []
        for path in sorted(glob(f"{self.root}/workers/*.json")):
            with suppress(OSError, ValueError, TypeError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(WorkerInfo(**json.loads(file.read())))
        return found

    # The queues, as a worker watches them

    def subscribe(self, queues: Iterable[str]) -> int | None:
        """Serve these queues (none: all). Returns a descriptor that is readable once a job has
        entered one, be it moved there by hand; None: `refresh` every now and then. ValueError for
        what is no queue's name."""
        self._queues = frozenset(queues)
        if not all(map(QUEUE_RE.fullmatch, self._queues)):
            raise ValueError(f"queues must be {QUEUE_NAMES}, with commas between them")
        self.close()
        self._notifier = Notifier()
        self.refresh(scan=True)
        return self._notifier.fileno()

    def close(self) -> None:
        """End the subscription."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def refresh(self, scan: bool = False) -> None:
        """Take in what has entered the queues; `scan` reads them anew."""
        assert self._notifier, "subscribe first"
        for number, name in self._notifier.changes():
            queue = self._watched.get(number)
            if queue and ID_RE.fullmatch(name):
                heapq.heappush(self._backlog, (name, queue))
            else:  # a new queue, one removed, or an overflow
                scan = True
        if scan or self._notifier.fileno() is None:
            self._backlog = sorted(self._scan(self._notifier))

    def _scan(self, notifier: Notifier) -> Iterator[tuple[str, str]]:
        home = f"{self.root}/queued"
        notifier.add(home)
        for queue in self._listing(home, QUEUE_RE):
            if not self._queues or queue in self._queues:
                with suppress(FileNotFoundError, NotADirectoryError):
                    # Watched before it is listed, so that no job slips between.
                    self._watched[notifier.add(f"{home}/{queue}")] = queue
                    yield from ((job_id, queue) for job_id in self._listing(f"{home}/{queue}"))


def _parse_counts(data: bytes) -> dict[Status, int]:
    try:
        return {status: int(json.loads(data)[status]) for status in FINISHED}
    except (ValueError, KeyError, TypeError):
        return dict.fromkeys(FINISHED, 0)


def _is_read(path: str) -> bool:
    """Has somebody opened this log to read it?"""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _log_start(folder: str) -> int:
    with suppress(OSError), Log(f"{folder}/output.log") as log:
        return log.start
    return 0


def open_store(url: str) -> Store:
    """The storage at a URL, which is so far a folder; ValueError for another."""
    if "://" in url:
        raise ValueError(f"TAILBOARD_STORAGE must be a folder, and {url!r} is none")
    return FolderStore(url)
