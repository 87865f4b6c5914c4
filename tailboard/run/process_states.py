"""What the system says about one process, read as cheaply as it can be: a sampler reads the states
of all processes of all jobs every few seconds."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

import psutil

from tailboard.run.shim import DETACHED
from tailboard.values import ID_RE

STAT_BYTES = 1_024  # /proc/PID/stat is shorter
NOT_OURS = ""  # the owner of a process that belongs to no job of this storage


class ProcessState(NamedTuple):
    """A process at one moment. Its pid and `start` identify it: another process can get the pid."""

    start: float  # when it started, on a clock that only compares processes
    parent: int  # pid
    own_seconds: float  # processor time of all its threads
    waited_seconds: float  # that of the children that it has waited for, and of theirs
    memory_bytes: int  # resident; pages that processes share count for each of them
    session: int = 0  # the pid of its leader, which may have ended

    @property
    def seconds(self) -> float:
        return self.own_seconds + self.waited_seconds


def read_state(pid: int) -> ProcessState | None:
    """The state of a process; None if it has ended or cannot be read. psutil takes six times as
    long for the same on Linux, and the proportional set size (PSS) 200 times as long."""
    with suppress(OSError, psutil.Error):
        return _read_stat(pid) if psutil.LINUX else _ask_psutil(pid)
    return None


if psutil.LINUX:
    TICKS = os.sysconf("SC_CLK_TCK")  # per second
    PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes


def _read_stat(pid: int) -> ProcessState:
    """See proc_pid_stat(5). The name of the program, in parentheses, can contain anything."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        line = os.read(fd, STAT_BYTES)
    finally:
        os.close(fd)
    found = line[line.rindex(b")") + 2 :].split()
    return ProcessState(
        start=int(found[19]) / TICKS,
        parent=int(found[1]),
        own_seconds=(int(found[11]) + int(found[12])) / TICKS,
        waited_seconds=(int(found[13]) + int(found[14])) / TICKS,
        memory_bytes=int(found[21]) * PAGE,
        session=int(found[3]),
    )


def _ask_psutil(pid: int) -> ProcessState:
    """macOS does not report the processor time of children that were waited for."""
    process = psutil.Process(pid)
    with process.oneshot():
        used = process.cpu_times()
        return ProcessState(
            start=process.create_time(),
            parent=process.ppid(),
            own_seconds=used.user + used.system,
            waited_seconds=0.0,
            memory_bytes=process.memory_info().rss,
            session=os.getsid(pid),
        )


def read_owner(pid: int, storage: str) -> str | None:
    """The ID of the job of this storage (a JOB_STORAGE) that the environment of a process names.
    NOT_OURS if it names another storage, or belongs to a worker that a job has started; None if it
    names no job or cannot be read."""
    environ: dict[str, str] = {}
    with suppress(OSError, psutil.Error):
        environ = psutil.Process(pid).environ()
    if DETACHED in environ:
        return NOT_OURS
    job_id = environ.get("JOB_ID", "")
    if not ID_RE.fullmatch(job_id):
        return None
    return job_id if environ.get("JOB_STORAGE") == storage else NOT_OURS
