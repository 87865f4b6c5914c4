"""When a job is deleted, as GET /jobs/ID shows it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tailboard.errors import CommandNotFound
from tailboard.job import Job
from tailboard.keep_rules import (
    DAY,
    Kind,
    Rules,
    days_kept,
    group_of,
    kind_of,
    newer_runs,
    rules_in,
)
from tailboard.status import FINISHED, Status
from tailboard.values import parse_time, utc
from tailboard.web.state import state

READ_TIME = 0.1  # seconds for reading the records of other runs


def shown_retention(job: Job) -> dict[str, Any]:
    """The field `retention`; null while the job has not ended."""
    if job.status not in FINISHED:
        return {"retention": None}
    return {"retention": JobRetention(job).as_dict()}


class JobRetention:
    """What the rules say about one ended job. The other runs of its command are known from the
    history of the last 14 days and from the last runs of the saved command, so that no request
    looks at all jobs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_saved, self.rules = current_rules(job)
        state().history.try_refresh(READ_TIME)

    def as_dict(self) -> dict[str, Any]:
        kept = self._last_of_its_kind() or self._waiting()
        if kept is not None:
            return {"delete_at": None, "reason": kept}
        delete_at, reasons = None, []
        limits = state().prune_search.limits()
        if days := days_kept(self.rules, limits.days):
            delete_at = self._time_after(days)
            reasons.append(
                f"{days} {'day' if days == 1 else 'days'} after its end ({self._rule()})"
            )
        if self.rules.keep_runs is not None:
            reasons.append(self._runs_left(self.rules.keep_runs))
        if limits.max_bytes:
            most = f"{limits.max_bytes:,} bytes"
            reasons.append(f"when the logs and files of all jobs exceed {most}")
        reason = " or ".join(reasons) or "no limit applies to it"
        return {"delete_at": delete_at, "reason": reason}

    def _rule(self) -> str:
        """Whose limit of days this is."""
        if self.rules.keep_days is None:
            return "TAILBOARD_KEEP_DAYS"
        return f"keep_days of {self.job.saved}" if self.is_saved else "its keep_days"

    def _time_after(self, days: int) -> str | None:
        with suppress(ValueError):  # of a damaged journal
            return utc(parse_time(self.job.finished_at or "") + days * DAY)
        return None

    def _runs_left(self, keep_runs: int) -> str:
        group, newer, is_exact = group_of(self.job), *self._newer()
        if len(newer) >= keep_runs:
            are = "is" if keep_runs == 1 else "are"
            return f"now: {newer_runs(keep_runs, group)} {are} kept"
        if not is_exact:
            return f"when it has {newer_runs(keep_runs, group)}"
        left = keep_runs - len(newer)
        more = f"{left:,} more {'run' if left == 1 else 'runs'} of {group}"
        return f"when {more} {'has' if left == 1 else 'have'} ended"

    def _newer(self) -> tuple[dict[str, Status], bool]:
        """(the newer runs that are known and have ended, by ID; are these all?)"""
        job, store, group = self.job, state().store, group_of(self.job)
        history = state().history.groups.get(group, ())
        newer = {run.id: run.status for run in history if run.id > job.id}
        started = store.saved.runs(job.saved) if job.saved else ()
        unknown = [run for run in started if run > job.id and run not in newer]
        newer |= ended_ones(store.get_many(unknown))
        is_exact = job.id in started or any(run.id == job.id for run in history)
        return newer, is_exact

    def _last_of_its_kind(self) -> str | None:
        """Why it is kept, if it is the last success or failure of a saved command."""
        kind: Kind | None = kind_of(self.job.status)
        if not self.is_saved or kind is None:
            return None
        newer, _ = self._newer()
        if any(kind_of(status) == kind for status in newer.values()):
            return None
        return f"the last {kind} of {self.job.saved} is kept"

    def _waiting(self) -> str | None:
        waiting = state().store.waiting_for(self.job.id)
        return None if waiting is None else f"job {waiting} waits for it"


def ended_ones(jobs: Iterable[Job]) -> dict[str, Status]:
    return {job.id: job.status for job in jobs if job.status in FINISHED}


def current_rules(job: Job) -> tuple[bool, Rules]:
    """(does the saved command of the job exist? The rules that apply to the job now)"""
    if job.saved is None:
        return False, rules_in(job)
    saved = state().store.saved
    try:
        return True, rules_in(saved.load(job.saved))
    except CommandNotFound:
        return job.saved in saved.names(), rules_in(job)
