"""The run that starts after a job of this machine has succeeded (`then`).

Redis submits it together with the report of that success: it stores both or neither. The machine's
spool remembers that this was done, in case Redis is emptied and the job is reported again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

from tailboard.chains import LoadCommand, next_job, not_started
from tailboard.errors import JobError, KeyBusy, RecordDamaged
from tailboard.job import Job, parse_record
from tailboard.journal import parse_journal
from tailboard.machines.messages import SpoolEntry
from tailboard.status import Status

JOB_WITH_KEY = "<JOB>"  # in a line for the journal: report_then.lua puts the job's ID here


class NextRun(NamedTuple):
    """A run that starts after a job."""

    job: Job  # without an ID
    line_if_busy: bytes  # for the first job's journal, if another job has the key of this one


def has_next(entry: SpoolEntry) -> bool:
    """Can a run follow this job? Only then must its record be parsed."""
    return entry.status is Status.SUCCEEDED and b'"then"' in entry.record


def plan_next(entry: SpoolEntry, load: LoadCommand) -> tuple[SpoolEntry, NextRun | None]:
    """(the entry to report; the run that follows). If a run should follow but none can start, the
    entry's journal says why. OSError if the saved command cannot be loaded now."""
    try:
        job = parse_record(entry.record, entry.id)
    except (ValueError, RecursionError):  # the job has changed its own record
        return entry, None
    if job.then is None:
        return entry, None
    try:
        following = next_job(job, load)
    except (JobError, ValueError, RecordDamaged) as error:
        line = ended_line(entry, not_started(job, error))
        return replace(entry, journal=entry.journal + line), None
    busy = KeyBusy(JOB_WITH_KEY, following.key or "")
    return entry, NextRun(following, ended_line(entry, f"{job.then} did not start: {busy}"))


def ended_line(entry: SpoolEntry, reason: str) -> bytes:
    """A line for the journal of a job that has succeeded, with a reason."""
    outcome = parse_journal(entry.journal)[-1].ended
    assert outcome is not None
    line = {"ended": replace(outcome, reason=reason).ended_line()}
    return b"\n" + json.dumps(line).encode() + b"\n"
