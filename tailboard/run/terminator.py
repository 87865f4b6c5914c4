"""Ending jobs: the signals to their processes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil

from tailboard import intervals
from tailboard.judge import Verdict
from tailboard.run.processes import ProcessTable, group_of, send_to
from tailboard.run.running import Running

log = logging.getLogger("worker")

SWEEP_INTERVAL = 0.05  # seconds between rounds of KILL for the processes that a job left behind


class Terminator:
    """Signals the processes of jobs. Jobs that are stopped in the same pass of the worker's loop
    share one scan of all processes."""

    def __init__(self, tracking_env: Callable[[str], Mapping[str, str]]) -> None:
        """`tracking_env`: see `WorkerStore.tracking_env`."""
        self.tracking_env = tracking_env
        self.processes: ProcessTable | None = None  # found by the current pass, if it has scanned

    def begin_pass(self) -> None:
        """Forget the scan of the last pass."""
        self.processes = None

    def terminate(self, entry: Running) -> None:
        """Ask everything that the job started to end. KILL is due after KILL_DELAY."""
        self._signal(entry, signal.SIGTERM, intervals.KILL_DELAY)

    def kill(self, entry: Running) -> None:
        """Kill everything that the job started. The next round is due after RETRY_DELAY."""
        self._signal(entry, signal.SIGKILL, intervals.RETRY_DELAY)

    def _signal(self, entry: Running, number: signal.Signals, next_after: float) -> None:
        """Signal all processes of the job except the shim, which lives on to record the exit
        code."""
        entry.kill_at = time.monotonic() + next_after
        if entry.process is None and entry.claim.acquire_lock():
            return  # its shim is dead: the pid may belong to another process
        log.info(
            "signals job=%s signal=%s reason=%r", entry.job.id, number.name, entry.stop_outcome
        )
        started = self._find_started(entry, entry.pid)
        if number is signal.SIGTERM and entry.pid is not None:  # its group gets the signal below
            started = {process for process in started if group_of(process) != entry.pid}
        send_to(started, number)
        if entry.pid is None:
            return
        with suppress(ProcessLookupError):
            if number is signal.SIGTERM:
                os.killpg(entry.pid, number)
            os.killpg(entry.pid, signal.SIGCONT)  # a stopped process does not react to TERM

    def sweep(self, entry: Running, verdict: Verdict) -> bool:
        """Kill the processes that are left of a stopped or lost job, whose shim is dead, once its
        KILL is due. Returns True if its end can be recorded: nothing is left, or the exit code is
        known and KILL was sent."""
        started = self._find_started(entry, None)
        if not started:
            return True
        if time.monotonic() >= entry.kill_at:
            send_to(started, signal.SIGKILL)
            entry.retry_at = time.monotonic() + SWEEP_INTERVAL
            return verdict.outcome.exit_code is not None
        return False

    def kill_abandoned(self, entry: Running) -> None:
        """Kill everything that a job whose folder was removed has started, the shim included."""
        send_to(self._find_started(entry, None), signal.SIGKILL)

    def _find_started(self, entry: Running, leader: int | None) -> set[psutil.Process]:
        """The living processes that a job has started, without the shim if `leader` is its pid.
        They are remembered, because a process without JOB_ID in its environment is known only by
        its parent, which may end first."""
        if self.processes is None:
            self.processes = ProcessTable()
        tracking_env = self.tracking_env(entry.job.id)
        found = self.processes.find(tracking_env, leader, entry.started)
        entry.started |= found
        return found
