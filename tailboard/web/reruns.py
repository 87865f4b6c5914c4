"""Rerunning a job, on its own or with the jobs that were cancelled because of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flask import abort

from tailboard.errors import JobNotFound, KeyBusy
from tailboard.job import AfterStatus, Job
from tailboard.keys import own_key
from tailboard.status import Status
from tailboard.web.actions import make_job
from tailboard.web.audit import note_dependents
from tailboard.web.auth import require_role_for, visitor
from tailboard.web.bulk import iter_pages
from tailboard.web.models import Submission
from tailboard.web.state import state
from tailboard.web.submissions import SKIPPED, Created, submit

MOST_DEPENDENTS = 1_000  # jobs that are rerun with another one
SEARCH_TIME = 5.0  # seconds for finding them
NOT_REPEATED = ("not_before", "after", "after_status")  # they belong to the old job's own time


def run_again(job_id: str, key: str | None = None, sent: str | None = None) -> Created:
    """Submit a job like another one, which waits for no other jobs. `key`: the request's
    Idempotency-Key, and `sent` the hash of the request, see `Jobs.submit`."""
    old = state().store.get(job_id)
    require_role_for(old)
    return submit(job_like(old), key, sent)


def job_like(old: Job) -> Job:
    """A new job with the options of an old one. 409 if that had secret values: they are not kept,
    and the job must not run without them."""
    if old.secret_params:
        given = ", ".join(old.secret_params)
        abort(
            409,
            f"job {old.id} had secret values, which are not kept: start "
            f"{old.saved} again with {given}",
        )
    names = [name for name in Submission.model_fields if name not in NOT_REPEATED]
    options = {name: getattr(old, name) for name in names}
    options["submitted_by"] = visitor() or old.submitted_by
    job = make_job(options)
    return replace(job, rerun_of=old.id, saved=old.saved, values=old.values, then=old.then)


# --- With the jobs that were cancelled because of it ----------------------------------------------


def run_again_with_after(job_id: str, key: str | None, sent: str | None) -> Created:
    """The same, and submit the jobs again that were cancelled because of this one; they wait for
    the new jobs. `reruns` of the response lists their IDs. If the request is repeated with its
    key, it only submits jobs that are still missing."""
    root = state().store.get(job_id)
    require_role_for(root)
    dependents = find_dependents(root)
    for job in dependents:
        require_role_for(job)
    refuse_deleted_parents(root, dependents)
    body, status, headers = submit(job_like(root), key, sent)
    if SKIPPED in headers:
        return body, status, headers
    reruns = rerun_dependents(root, body["id"], dependents)
    return body | {"reruns": reruns}, status, headers


def find_dependents(root: Job) -> list[Job]:
    """The jobs that were cancelled because this one, or another one of them, did not end as they
    expected; oldest first, so each comes after those that it waits for. They lack `env`. 409 if
    there are too many."""
    end = time.monotonic() + SEARCH_TIME
    cancelled: dict[str, Job] = {}
    for page in iter_pages(Status.CANCELLED, None, "", root.id):
        cancelled |= {job.id: job for job in page if job.after}
        if time.monotonic() > end:
            seconds = f"{SEARCH_TIME:g} seconds"
            abort(503, f"the jobs that wait for {root.id} were not found within {seconds}")
    chosen = {root.id}
    for job_id in sorted(cancelled):
        if was_cancelled_for(cancelled[job_id]) in chosen:
            chosen.add(job_id)
    if len(chosen) - 1 > MOST_DEPENDENTS:
        most = f"{MOST_DEPENDENTS:,}"
        abort(409, f"more than {most} jobs were cancelled because of {root.id}: rerun it alone")
    return [cancelled[job_id] for job_id in sorted(chosen - {root.id})]


def was_cancelled_for(job: Job) -> str | None:
    """The ID of the job of `after` because of which this one was cancelled; None if a user has
    cancelled it. See `order.look_at_parents`."""
    begin = (job.reason or "").partition(" ")[0]
    return begin if begin in job.after else None


def refuse_deleted_parents(root: Job, dependents: Sequence[Job]) -> None:
    """409 if one of the jobs waits for a deleted job too, so that its rerun could never start."""
    known = {root.id, *(job.id for job in dependents)}
    for job in dependents:
        if job.after_status != AfterStatus.SUCCEEDED:
            continue
        for parent in job.after:
            if parent not in known and not exists(parent):
                abort(409, f"job {job.id} also waits for {parent}, which was deleted")
            known.add(parent)


def wait_again(old: Job, new_ids: Mapping[str, str]) -> Job:
    """A job like one that waited for others. It waits for the new ones instead, by old ID."""
    job = job_like(old)
    job.after_status = old.after_status
    job.after = [new_ids.get(parent, parent) for parent in old.after]
    if job.after_status == AfterStatus.ENDED:  # deleted jobs have ended
        job.after = list(filter(exists, job.after))
    return job


def exists(job_id: str) -> bool:
    try:
        state().store.status(job_id)
    except JobNotFound:
        return False
    return True


def rerun_dependents(root: Job, new_root: str, dependents: Sequence[Job]) -> list[str]:
    """Submit the dependents again, and return the new IDs. A job whose key is busy is left out if
    its `if_busy` is "skip", and so are those that wait for it."""
    store = state().store
    new_ids = {root.id: new_root}
    left_out: set[str] = set()
    submitted = 0
    for job in dependents:
        if left_out.intersection(job.after):
            left_out.add(job.id)
            continue
        try:
            again = wait_again(store.get(job.id), new_ids)
            # Its key contains the new ID: a repeated request finds the job, another one does not.
            key = own_key(f"rerun {job.id} with {new_root}")
            queued = store.submit(again, key)
            new_ids[job.id] = queued.id
            submitted += not queued.is_repeat
            note_dependents(new_root, submitted)
        except (JobNotFound, KeyBusy):
            left_out.add(job.id)
        except ValueError as error:
            abort(400, str(error))
    return list(new_ids.values())[1:]
