"""Which processes belong to which running job, found again and again at a low cost.

`ProcessTable` in processes.py finds the same processes for signals, from nothing. It takes ten
times as long."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import psutil

from tailboard.run.process_states import NOT_OURS, ProcessState, read_owner, read_state

RECHECK_ROUNDS = 12  # rounds until a process that belongs to no running job is read again
FORGET_TIME = 60.0  # seconds without a round, after which each pid can be that of another process


class Known(NamedTuple):
    """A process that was seen before."""

    start: float
    owner: str | None  # the ID of its job, or NOT_OURS; None: not examined, it is too old


class JobProcesses:
    """Finds everything that jobs started: the processes with the job's ID in their environment,
    those in the session of its shim, and the descendants of all these, except those of other jobs
    and of workers. A process stays a process of its job, whatever happens to its parent, its group
    or its environment.

    The environment of a process is read once. Later, one short file is read for each process of a
    job, and none for most others."""

    def __init__(self) -> None:
        self.known: dict[int, Known] = {}  # by pid
        self.states: dict[int, ProcessState] = {}  # of the processes of jobs, in the last round
        self.round = 0
        self.looked_at = 0.0  # on the monotonic clock: when the last round was

    def find(self, leaders: Mapping[str, int], storage: str) -> dict[str, dict[int, ProcessState]]:
        """The processes, by pid, of each of these jobs of a storage (a JOB_STORAGE). `leaders`: the
        pid of the shim of each job, by its ID. A job whose shim has ended is left out. Processes
        that are older than the shim are not the job's: an earlier attempt has left them behind."""
        self.round += 1
        if time.monotonic() - self.looked_at > FORGET_TIME:
            self.known.clear()
        self.looked_at = time.monotonic()
        pids = psutil.pids()
        for pid in self.known.keys() - set(pids):
            del self.known[pid]
        shims = {job_id: state for job_id, pid in leaders.items() if (state := read_state(pid))}
        first = min((shim.start for shim in shims.values()), default=math.inf)
        states = self._read_states(pids, leaders, first)
        self._examine(states, {pid: job_id for job_id, pid in leaders.items()}, storage, first)
        found: dict[str, dict[int, ProcessState]] = {job_id: {} for job_id in shims}
        for pid, state in states.items():
            owner = self.known[pid].owner
            if owner in shims and state.start >= shims[owner].start:
                found[owner][pid] = state
        self.states = {pid: state for group in found.values() for pid, state in group.items()}
        return found

    def _read_states(
        self, pids: Iterable[int], leaders: Mapping[str, int], first: float
    ) -> dict[int, ProcessState]:
        """The states of these processes, without most of those that belong to no job."""
        shims = set(leaders.values())
        states = {}
        for pid in pids:
            known = self.known.get(pid)
            if known is not None and pid not in shims and (pid + self.round) % RECHECK_ROUNDS:
                is_too_old = known.owner is None and known.start < first
                if is_too_old or (known.owner is not None and known.owner not in leaders):
                    continue
            # If it has ended since `pids` was read, its parent may not have waited for it when the
            # parent was read: it counts as alive until it is no longer listed.
            state = read_state(pid) or self.states.get(pid)
            if state is not None:
                states[pid] = state
        return states

    def _examine(
        self,
        states: Mapping[int, ProcessState],
        shims: Mapping[int, str],
        storage: str,
        first: float,
    ) -> None:
        """Find the owners of processes that are not known. Parents precede their children."""
        for pid in sorted(states, key=lambda pid: (states[pid].start, pid)):
            state, known = states[pid], self.known.get(pid)
            owner = known.owner if known is not None and known.start == state.start else None
            if state.start >= first and (owner is None or owner != shims.get(pid, owner)):
                # A process that is just being started can still have the worker's environment.
                owner = read_owner(pid, storage)
                if owner is None:
                    owner = shims.get(pid) or self._owner_of_parent(state)
                if owner is None:  # `sudo -b`, for example
                    owner = shims.get(state.session, NOT_OURS)
            self.known[pid] = Known(state.start, owner)

    def _owner_of_parent(self, state: ProcessState) -> str | None:
        """None if the parent was not examined: it is older than the jobs, such as init."""
        parent = self.known.get(state.parent)
        return None if parent is None or parent.start > state.start else parent.owner
