"""The scheduler: submits the jobs of saved commands when they are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from tailboard import intervals
from tailboard.errors import JobNotFound, KeyBusy
from tailboard.job import MAX_RETRY_DELAY, Job
from tailboard.program_log import RepeatedErrors
from tailboard.saved_command import SavedCommand
from tailboard.schedules import SCHEDULE, Schedule, ScheduleDecision, due, next_time
from tailboard.status import FINISHED, Status

log = logging.getLogger("worker")


class ScheduledCommands(Protocol):
    """The methods for saved commands that the scheduler needs; the contract is
    `storage.SavedCommands`."""

    def list(self) -> Sequence[SavedCommand]: ...

    def runs(self, name: str) -> Sequence[str]: ...

    def load_schedule(self, name: str) -> Schedule: ...


class SchedulerStore(Protocol):
    """The methods of a storage that the scheduler needs; the contract is `storage.Store`."""

    @property
    def saved(self) -> ScheduledCommands: ...

    def status(self, job_id: str) -> Status: ...

    def fire(
        self, command: SavedCommand, seen: Schedule, decision: ScheduleDecision, job: Job | None
    ) -> Job | None: ...


def active_run(store: SchedulerStore, name: str) -> str | None:
    """The ID of a job of this saved command that is queued or running; None if there is none."""
    for job_id in store.saved.runs(name):
        with suppress(JobNotFound):  # it was deleted
            if store.status(job_id) not in FINISHED:
                return job_id
    return None


def fire_due(store: SchedulerStore, command: SavedCommand, now: float) -> Job | None:
    """Submit the job of a saved command that is due at `now` (seconds since 1970), or store that
    its times are skipped because an earlier run is active: by default any run of the command, and
    if it has `if_busy` only as that says. Returns the job; None if none was submitted, also if
    another worker got it first."""
    seen = store.saved.load_schedule(command.saved)
    decision = due(command, seen, now)
    if decision is None:
        return None
    if not decision.submits:
        log.warning(
            "schedule counts from now saved=%s since=%s settled=%s",
            command.saved,
            seen.since,
            seen.settled,
        )
        return store.fire(command, seen, decision, None)
    active = active_run(store, command.saved) if command.if_busy is None else None
    if active is not None:
        skip(store, command, seen, now, active)
        return None
    job = replace(command.job({}), submitted_by=SCHEDULE, submit_reason=decision.reason)
    try:
        return store.fire(command, seen, decision, job)
    except KeyBusy as error:
        skip(store, command, seen, now, error.job_id)
        return None


def skip(
    store: SchedulerStore, command: SavedCommand, seen: Schedule, now: float, active: str
) -> None:
    """Store that the times that are due are skipped, because this job is active."""
    decision = due(command, seen, now, active)
    if decision is not None:
        log.info("skipped saved=%s times=%d active=%s", command.saved, decision.skipped, active)
        store.fire(command, seen, decision, None)


class Scheduler:
    """Fires saved commands when they are due. Every worker has one, except those that drain. The
    store makes sure that only one of them fires each scheduled time. The scheduler plans when to
    handle each command again, and checks every few seconds whether commands were saved, changed or
    deleted."""

    def __init__(self, store: SchedulerStore, clock: Callable[[], float] | None = None) -> None:
        """`clock` returns seconds since 1970; None: this machine's clock."""
        self.store, self.clock = store, clock or time.time
        self.is_stopped = False
        self.next_look = 0.0  # on the monotonic clock
        self.looked_at = 0.0  # by `clock`
        self.plans: dict[str, tuple[SavedCommand, float]] = {}  # by name: when to check it next
        self.errors = RepeatedErrors(log)  # by saved command

    def stop(self) -> None:
        """Fire nothing more. A signal handler or another thread can call this."""
        self.is_stopped = True

    def is_due(self) -> bool:
        return time.monotonic() >= self.next_due()

    def next_due(self) -> float:
        """When to call `fire_all_due` next, on the monotonic clock; infinity if stopped."""
        return float("inf") if self.is_stopped else self.next_look

    def fire_all_due(self) -> None:
        """Fire the saved commands that are due, for FIRE_TIME seconds at most, so that running jobs
        are not neglected. The next call handles the remaining commands."""
        self.next_look = time.monotonic() + intervals.RETRY_DELAY  # in case an error ends this call
        now = self.clock()
        if now < self.looked_at:  # the clock was set back
            self.plans.clear()
        self.looked_at = now
        plans = {}
        commands = self.store.saved.list()
        until = time.monotonic() + intervals.FIRE_TIME
        is_late = False
        for command in commands:
            known, at = self.plans.get(command.saved, (None, 0.0))
            if known != command or now >= at:
                at = now if is_late else self.fire(command, now)
                is_late = time.monotonic() >= until
            plans[command.saved] = (command, at)
        self.plans = plans
        upcoming = min((at for _, at in plans.values()), default=now + intervals.HEARTBEAT_INTERVAL)
        self.next_look = time.monotonic() + min(
            intervals.HEARTBEAT_INTERVAL, max(0.0, upcoming - now)
        )

    def fire(self, command: SavedCommand, now: float) -> float:
        """Fire a command if it is due. Returns when to check it next, in seconds since 1970. An
        error is logged once, and the command is tried again later; it does not stop others."""
        thing = f"schedule={command.saved}"
        try:
            job = fire_due(self.store, command, now)
            if job is not None:
                log.info(
                    "fired saved=%s job=%s reason=%r", command.saved, job.id, job.submit_reason
                )
            schedule = self.store.saved.load_schedule(command.saved)
            is_open = due(command, schedule, now) is not None
            upcoming = next_time(command, schedule, now)
        except BlockingIOError:  # another worker is changing a schedule
            return now + intervals.RETRY_DELAY
        except Exception as error:
            self.errors.report(thing, error)
            return now + intervals.RETRY_DELAY
        self.errors.resolved(thing)
        if is_open:
            return now + intervals.RETRY_DELAY
        return float("inf") if upcoming is None else upcoming


def is_soon(due: float) -> bool:
    """Is this time on the monotonic clock close enough for `--drain` to wait for it? Every retry
    is, because no retry delay exceeds MAX_RETRY_DELAY."""
    return due <= time.monotonic() + MAX_RETRY_DELAY
