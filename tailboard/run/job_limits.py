"""The limits of a job that apply to all its processes: `max_memory` and `nice`."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tailboard.folder.claim import Claim
from tailboard.job import Job
from tailboard.journal import Outcome
from tailboard.run import cgroups
from tailboard.run.cgroups import Cgroups, NoCgroups
from tailboard.run.running import Running
from tailboard.sizes import show_size
from tailboard.status import Status

log = logging.getLogger("worker")

RLIMIT = "rlimit"  # the value of TAILBOARD_MEMORY
CAN_SET_RLIMITS = hasattr(resource, "prlimit")  # of other processes: only on Linux


class JobLimits:
    """Applies the limits of jobs. The worker calls `apply` for a shim that waits at its gate, so
    that each process of the job inherits them."""

    def __init__(self, memory: str) -> None:
        """`memory`: see Settings.memory."""
        self.uses_rlimit = memory == RLIMIT
        self.cgroups = Cgroups()
        self.folders: dict[str, Path] = {}  # of the cgroups of jobs that run, by job ID
        self.left_behind: set[Path] = set()  # cgroups of ended jobs with processes in them
        self.autogroups: dict[int, int] = {}  # the nice values that are still to be set, by pid

    def apply(self, claim: Claim, pid: int) -> None:
        """Apply the limits of a job to its shim. OSError, or ValueError with a one-sentence
        message, if its memory cannot be limited."""
        if claim.job.nice is not None:
            self._set_nice(claim, pid, claim.job.nice)
        if claim.job.max_memory is not None:
            self._limit_memory(claim, pid, claim.job.max_memory)

    def _set_nice(self, claim: Claim, pid: int, nice: int) -> None:
        """Give a shim this priority. If that is not permitted, the job runs anyway, and its log and
        the worker's say so."""
        try:
            os.setpriority(os.PRIO_PROCESS, pid, nice)
        except PermissionError:
            actual = os.getpriority(os.PRIO_PROCESS, pid)
            log.warning("nice not permitted job=%s nice=%d actual=%d", claim.job.id, nice, actual)
            claim.write_notice(
                f"tailboard: nice {nice} is not permitted here; it runs with nice {actual}"
            )
        else:
            if not set_autogroup(pid, nice):
                self.autogroups[pid] = nice

    def _limit_memory(self, claim: Claim, pid: int, limit: int) -> None:
        self._remove_left_behind()
        try:
            folder = self.cgroups.create(claim.job.id, claim.job.attempt, limit)
        except NoCgroups as why:
            self._limit_address_space(claim, pid, limit, why)
            return
        try:
            cgroups.add_process(folder, pid)
        except OSError:
            cgroups.remove(folder)
            raise
        self.folders[claim.job.id] = folder

    def _limit_address_space(self, claim: Claim, pid: int, limit: int, why: NoCgroups) -> None:
        """Set RLIMIT_AS if the user has chosen that: it limits each process for itself, and it also
        counts memory that a process has only reserved. ValueError otherwise."""
        if not CAN_SET_RLIMITS:
            raise ValueError("max_memory needs Linux")
        if not self.uses_rlimit:
            raise ValueError(
                f"max_memory needs a cgroup v2 of the worker's own, and {why}: give its systemd "
                "unit Delegate=memory, or set TAILBOARD_MEMORY=rlimit to limit the address space "
                "of each process instead"
            )
        most = resource.prlimit(pid, resource.RLIMIT_AS)[1]  # the worker's own (ulimit -v)
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        claim.write_notice(
            f"tailboard: max_memory limits the address space of each process to {show_size(limit)} "
            "(TAILBOARD_MEMORY=rlimit)"
        )

    def adopt(self, job: Job, pid: int | None) -> None:
        """Find the cgroup of a job that another worker has started, whose shim is `pid`."""
        if job.max_memory is not None and (folder := self.cgroups.find(job.id, job.attempt, pid)):
            self.folders[job.id] = folder

    def renew(self, running: Iterable[Running]) -> None:
        """Complete what could not be done when the jobs started, and limit the memory of those
        whose limit ended with the worker before, see `cgroups.GUARD`. NoCgroups or OSError if that
        is not possible."""
        alive = [entry for entry in running if not entry.ended]
        wanted, self.autogroups = self.autogroups, {}
        for entry in alive:
            if entry.pid in wanted and not set_autogroup(entry.pid, wanted[entry.pid]):
                self.autogroups[entry.pid] = wanted[entry.pid]
        for entry in alive:
            folder = self.folders.get(entry.job.id)
            if folder is not None and entry.job.max_memory is not None:
                self.cgroups.renew(folder, entry.job.max_memory)

    def explain(self, entry: Running, outcome: Outcome) -> None:
        """If the kernel has killed processes of a job because it reached its max_memory, say so in
        its log, and in `outcome` unless the job succeeded or was stopped. The job has ended."""
        folder, limit = self.folders.get(entry.job.id), entry.job.max_memory
        count = 0 if folder is None else cgroups.count_oom_kills(folder)
        if not count or limit is None:
            return
        text = f"it used more than its max_memory of {show_size(limit)}"
        if outcome.status in (Status.FAILED, Status.LOST) and not was_stopped(entry):
            outcome.reason = f"killed: {text}"
        processes = "one of its processes" if count == 1 else f"{count} of its processes"
        with suppress(OSError):  # the end must be recorded in any case
            entry.claim.write_notice(f"tailboard: the kernel killed {processes}: {text}")

    def release(self, job: Job) -> None:
        """Remove the cgroup of a job that has ended; later if it has left processes behind."""
        if (folder := self.folders.pop(job.id, None)) is not None:
            self.left_behind.add(folder)
            self._remove_left_behind()

    def _remove_left_behind(self) -> None:
        self.left_behind = {each for each in self.left_behind if not cgroups.remove(each)}


def was_stopped(entry: Running) -> bool:
    """Did a worker end the job, for a reason of its own?"""
    return entry.claim.attempt.stopping is not None


def set_autogroup(pid: int, nice: int) -> bool:
    """Give the session of a shim this priority, too: with autogroups, the kernel compares processes
    of different sessions by that, and their own priorities have no effect (sched(7)). Returns False
    if it is to be tried again: the kernel accepts ten per second from all users together."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    except OSError as error:  # mostly: this system has no autogroups
        return error.errno != errno.EAGAIN
    return True
