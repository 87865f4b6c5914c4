"""The processes of jobs, and the resource limits of this process."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil

from tailboard.run.shim import DETACHED, JOB_VARIABLES
from tailboard.values import ID_RE

JOB_DESCRIPTORS = 3  # for each supervised job: its `times`, its log, its shim's pidfd
# For the worker itself, for starting, killing and recording a job, and for sending messages.
OWN_DESCRIPTORS = 48


class ProcessTable:
    """The living processes, as one scan found them. A scan takes 0.1 ms per process, so all jobs
    that are being stopped share one."""

    def __init__(self) -> None:
        self.alive: dict[int, psutil.Process] = {}  # by pid; each remembers its start time
        self.owner: dict[int, tuple[str, str]] = {}  # pid: the JOB_ID and JOB_STORAGE it carries
        self.detached: set[int] = set()  # pids of workers that jobs have started
        self.members: dict[int, list[int]] = defaultdict(list)  # pids by process group and session
        self.children: dict[int, list[int]] = defaultdict(list)  # pids by parent
        for pid in psutil.pids():
            with suppress(psutil.Error, OSError):  # it has ended, or belongs to another user
                self._add(psutil.Process(pid))

    def _add(self, process: psutil.Process) -> None:
        pid = process.pid
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return
            self.alive[pid] = process
            self.children[process.ppid()].append(pid)
        for family in {os.getpgid(pid), os.getsid(pid)}:
            self.members[family].append(pid)
        environ = process.environ()
        if DETACHED in environ:
            self.detached.add(pid)
        if ID_RE.fullmatch(environ.get("JOB_ID", "")):
            self.owner[pid] = environ["JOB_ID"], environ.get("JOB_STORAGE", "")

    def find(
        self,
        tracking_env: Mapping[str, str],
        leader: int | None = None,
        known: Iterable[psutil.Process] = (),
    ) -> set[psutil.Process]:
        """The processes of a job, without its shim `leader`: those with its JOB_ID in their
        environment (as Jenkins finds them); those in the leader's group or session, if the leader
        is known to be alive; those of `known` that are still alive; and the descendants of all
        these, except those of other jobs and of workers."""
        job = tracking_env["JOB_ID"], tracking_env["JOB_STORAGE"]
        found = {pid for pid, owner in self.owner.items() if owner == job}
        found.update(process.pid for process in known if self.alive.get(process.pid) == process)
        if leader:
            found |= {leader, *self.members[leader]}
        unseen = list(found)
        while unseen:
            for pid in self.children[unseen.pop()]:
                is_another = pid in self.detached or self.owner.get(pid, job) != job
                if pid not in found and not is_another:
                    found.add(pid)
                    unseen.append(pid)
        return {self.alive[pid] for pid in found if pid != leader and pid in self.alive}


def group_of(process: psutil.Process) -> int:
    """The process group of a process; 0 if it has ended."""
    with suppress(OSError):
        return os.getpgid(process.pid)
    return 0


def send_to(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal the processes that are still alive. psutil notices if a pid has been reused."""
    for process in processes:
        with suppress(psutil.Error, OSError):
            process.send_signal(number)


class PeakMemory:
    """The peak memory of children, from what wait4 reports."""

    def __init__(self) -> None:
        self.own_peak = 0  # bytes: the worker's own, as last read

    def of_child(self, maxrss: int) -> int | None:
        """ru_maxrss in bytes; None if it is not above the worker's own peak. On Linux every child
        starts with that: until its exec, a vfork shares the parent's memory (getrusage(2))."""
        if psutil.MACOS:
            return maxrss  # in bytes there
        if maxrss * 1024 > self.own_peak:
            with open("/proc/self/status") as file:
                self.own_peak = int(file.read().partition("VmHWM:")[2].split()[0]) * 1024
        return maxrss * 1024 if maxrss * 1024 > self.own_peak else None


def needed_descriptors(jobs: int) -> int:
    """How many descriptors a worker needs to supervise `jobs` jobs and to start, kill and record
    any of them."""
    return OWN_DESCRIPTORS + JOB_DESCRIPTORS * jobs


def descriptor_limit() -> float:
    """How many descriptors this process may open (`ulimit -n`); infinity without a limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def leave_job() -> None:
    """If a job has started this worker, re-execute it without the variables that mark the job's
    processes, so that it outlives the job: /proc shows the environment of the last exec."""
    if JOB_VARIABLES & os.environ.keys() and sys.executable:
        kept = {k: v for k, v in os.environ.items() if k not in JOB_VARIABLES}
        os.execve(sys.executable, sys.orig_argv, kept | {DETACHED: "1"})
    os.environ.pop(DETACHED, None)  # its own jobs must not inherit it
