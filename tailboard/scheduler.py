"""Starting saved commands when they are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tailboard import intervals
from tailboard.errors import JobNotFound
from tailboard.job import MAX_RETRY_DELAY, Job
from tailboard.saved_command import SavedCommand
from tailboard.schedules import SCHEDULE, due, next_time
from tailboard.settings import RepeatedErrors
from tailboard.status import FINISHED

if TYPE_CHECKING:
    from storage import Store

log = logging.getLogger("worker")


def active_run(store: Store, name: str) -> str | None:
    """The ID of a job of this saved command that is queued or running; None if there is none."""
    for job_id in store.saved.runs(name):
        with suppress(JobNotFound):  # it was deleted
            if store.status(job_id) not in FINISHED:
                return job_id
    return None


def fire_due(store: Store, command: SavedCommand, now: float) -> Job | None:
    """Submit the job of a saved command whose time has come, or note that it is skipped. None
    where nothing was due, or another worker was faster."""
    seen = store.saved.load_schedule(command.saved)
    decision = due(command, seen, now)
    if decision is None:
        return None
    if not decision.submits:
        log.warning(
            "times count from now on saved=%s since=%s settled=%s",
            command.saved,
            seen.since,
            seen.settled,
        )
        return store.fire(command, seen, decision, None)
    active = active_run(store, command.saved)
    if active is not None:
        decision = due(command, seen, now, active) or decision
        log.info("skipped saved=%s times=%d active=%s", command.saved, decision.skipped, active)
        return store.fire(command, seen, decision, None)
    job = replace(command.job({}), submitted_by=SCHEDULE, submit_reason=decision.reason)
    return store.fire(command, seen, decision, job)


class Scheduler:
    """Fires saved commands whose time has come. Every worker has one but those that drain; which
    of them fires is settled in the store. It knows when the next time comes, and looks every few
    seconds whether a command was saved, changed or deleted."""

    def __init__(self, store: Store, clock: Callable[[], float] | None = None) -> None:
        """`clock`: seconds since 1970; None: the machine's."""
        self.store, self.clock = store, clock or time.time
        self.next_look = 0.0  # on the monotonic clock
        self.looked_at = 0.0  # by `clock`
        self.plans: dict[str, tuple[SavedCommand, float]] = {}  # by name: when to look at it next
        self.errors = RepeatedErrors(log)  # by saved command

    def is_due(self) -> bool:
        return time.monotonic() >= self.next_look

    def fire_all_due(self) -> None:
        """Fire the schedules that are due, for FIRING seconds at most, so that running jobs are not
        neglected, and set the time of the next look."""
        self.next_look = time.monotonic() + intervals.RETRY_DELAY  # where something goes wrong
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
        """Fire a command if it is due; when it is to be looked at next. What goes wrong with one
        is said once, tried again after a while, and never in the way of another."""
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
        except BlockingIOError:  # another worker is at it
            return now + intervals.RETRY_DELAY
        except Exception as error:
            self.errors.report(thing, error)
            return now + intervals.RETRY_DELAY
        self.errors.resolved(thing)
        if is_open:
            return now + intervals.RETRY_DELAY
        return float("inf") if upcoming is None else upcoming


def is_soon(due: float) -> bool:
    """Is this time of the monotonic clock so near that `--drain` waits for it? It is for each job
    that is to be tried again."""
    return due <= time.monotonic() + MAX_RETRY_DELAY
