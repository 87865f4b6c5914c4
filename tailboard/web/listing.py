"""The list of jobs: a page of it, or the jobs that a part of an ID may mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import abort

from tailboard.job import Job, shorten
from tailboard.web.models import Filters, Listing
from tailboard.web.state import state
from tailboard.web.usual import ShownUsual, silence
from tailboard.web.views import shown_marks, waiting
from tailboard.web.waiting import Waiting, shown_job


def list_jobs(query: Listing) -> dict[str, Any]:
    """A page of the jobs that the filters select, newest first."""
    store = state().store
    jobs, following = store.list(
        query.status,
        query.queue,
        query.q,
        query.limit,
        query.before,
        query.first_id(),
        short=True,
        by=query.by,
    )
    reasons, counts = waiting(), store.counts()
    total = counts[query.status] if query.status else sum(counts.values())
    return {
        "jobs": show_all(jobs, reasons, query.results),
        "next": following,
        "skipped": store.count_since(query.before, query.status) if query.before else 0,
        "searched": store.count_since(following, query.status) if following else total,
        "counts": counts,
        "paused": list(reasons.pauses.values()),
    }


def find_jobs(part: str, query: Listing) -> dict[str, Any]:
    """A page of the jobs whose ID starts or ends with `part`, newest first. 400 if the query has
    filters, too."""
    filters = {*Filters.model_fields, "q"}
    for name in Listing.model_fields:
        if name in filters & query.model_fields_set:
            abort(400, f"use only one of id and {name}")
    store = state().store
    matching = sorted(store.find(part), reverse=True)
    older = [each for each in matching if query.before is None or each < query.before]
    page = older[: query.limit]
    reasons = waiting()
    jobs = [shorten(job) for job in store.get_many(page)]
    return {
        "jobs": show_all(jobs, reasons, query.results),
        "next": page[-1] if len(older) > len(page) else None,
        "skipped": len(matching) - len(older),
        "searched": len(matching),
        "counts": store.counts(),
        "paused": list(reasons.pauses.values()),
    }


def show_all(jobs: Sequence[Job], reasons: Waiting, with_results: bool) -> list[dict[str, Any]]:
    """The jobs of one page as JSON."""
    usual, marks = ShownUsual(state().usual_times), shown_marks()
    marks.read(jobs)
    usage = state().steady_usage.of(jobs)

    def show(job: Job) -> dict[str, Any]:
        shown = shown_job(job, reasons) | usual.in_list(job) | usage.get(job.id, {})
        shown |= silence(job) | marks.progress(job)
        return shown | marks.results(job) if with_results else shown

    return [show(job) for job in jobs]
