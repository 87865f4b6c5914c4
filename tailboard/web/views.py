"""How the API shows jobs and saved commands."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from tailboard.job import Job
from tailboard.saved_command import SavedCommand
from tailboard.schedules import SavedState, Schedule, next_time
from tailboard.status import Status
from tailboard.titles import short_title
from tailboard.values import utc
from tailboard.web.progress import ShownMarks
from tailboard.web.retention import shown_retention
from tailboard.web.state import state
from tailboard.web.usual import ShownUsual, silence
from tailboard.web.waiting import Waiting, shown_job

ShownCommand = tuple[dict[str, Any], dict[str, str]]  # the body and the headers of a response
NAMES_SHOWN = 5  # queues named in one sentence


def whole_job(job: Job) -> dict[str, Any]:
    """A job on its own. Lists leave out env, attempts, notifications, the place in the queue and
    whether a cancel was requested."""
    shown = shown_job(job, waiting())
    noticed = state().store.notices.load(job.id).notices
    whole = {
        "attempts": job.attempts_as_dicts(),
        "notifications": [notice.as_dict() for notice in noticed],
    }
    return shown | whole | queue_position(job) | cancel_state(job)


def job_with_log(job: Job) -> dict[str, Any]:
    """The same, with what is usual for it, what it uses, when it is deleted, and what it has
    written to its log."""
    marks = shown_marks()
    usual = ShownUsual(state().usual_times).on_its_own(job)
    usage = state().steady_usage.exactly(job)
    shown = whole_job(job) | usual | silence(job) | usage | shown_retention(job)
    return shown | marks.progress(job) | marks.results(job)


def shown_marks() -> ShownMarks:
    """The progress and the results of the jobs of this response."""
    return ShownMarks(state().explainer.marks, state().explainer.forecasts)


def waiting() -> Waiting:
    """What queued jobs wait for, as it is during this request."""
    return Waiting(state().store)


def queue_position(job: Job) -> dict[str, int]:
    """How many jobs in its queue are older than a queued job; omitted for an urgent job, which does
    not wait for them, and for any other job."""
    if job.status != Status.QUEUED or job.urgent:
        return {}
    waiting = state().store.queued_by_queue().get(job.queue, [])
    return {"queued_before": sum(other < job.id for other in waiting)}


def cancel_state(job: Job) -> dict[str, bool]:
    """Was a cancel of a running job accepted, so that its processes are being ended? Omitted for
    any other job."""
    if job.status is not Status.RUNNING:
        return {}
    return {"cancel_requested": state().store.is_cancel_requested(job.id)}


def whole_command(command: SavedCommand) -> dict[str, Any]:
    """A saved command with its next run, its last runs, and how many scheduled times it skipped."""
    saved, name = state().store.saved, command.saved
    state().saved_runs.forget_deleted()
    stored = SavedState(command, saved.load_schedule(name), saved.runs(name))
    return whole_state(stored, waiting())


def shown_command(command: SavedCommand) -> ShownCommand:
    """The same with the ETag of its definition, for If-Match."""
    return whole_command(command), {"ETag": f'"{command.digest()}"'}


def whole_commands() -> list[dict[str, Any]]:
    """The same for all saved commands, by name."""
    states = state().store.saved.list_states()
    state().saved_runs.forget_deleted()
    reasons = waiting()
    return [whole_state(each, reasons) for each in states]


def whole_state(saved: SavedState, reasons: Waiting) -> dict[str, Any]:
    upcoming = next_time(saved.command, saved.schedule, time.time())
    runs = state().saved_runs.last(saved.runs, reasons)
    return saved.command.as_dict() | {
        "next_run": None if upcoming is None else utc(upcoming),
        "last_run": runs[0] if runs else None,
        "runs": runs,
        "skipped": skipped_times(saved.schedule),
    }


def skipped_times(schedule: Schedule) -> dict[str, Any]:
    """How many scheduled times were skipped, the last of them, and the job that was active then."""
    return {
        "count": schedule.skipped,
        "last_at": schedule.skipped_at,
        "for_job": schedule.skipped_for,
    }


def job_summary(job: Job) -> dict[str, Any]:
    """The fields of a job that are shown with a line of its log."""
    return {
        "id": job.id,
        "name": job.name,
        "title": short_title(job.name, job.command),
        "queue": job.queue,
        "status": job.status,
        "submitted_at": job.submitted_at,
        "finished_at": job.finished_at,
    }


def some_names(names: Iterable[str]) -> str:
    """The first of these names, and how many more there are."""
    known = sorted(names)
    more = len(known) - NAMES_SHOWN
    return ", ".join(known[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
