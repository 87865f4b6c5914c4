"""GET /prune: which ended jobs would be deleted now, and why."""

from __future__ import annotations

from typing import Any

from tailboard.audit import Action
from tailboard.keep_rules import Prunable
from tailboard.values import utc
from tailboard.web.audit import actor
from tailboard.web.state import state

MOST_LISTED = 10_000  # jobs in one response, about 3 MB


def list_prunable() -> dict[str, Any]:
    """The response of GET /prune. Its `bulk` names these jobs for the audit log."""
    found, is_complete = state().prune_search.find()
    listed = found[:MOST_LISTED]
    ids = [each.job.id for each in listed]
    return {
        "jobs": [describe(each) for each in listed],
        "bytes": sum(each.job.size for each in listed),
        "complete": is_complete and len(listed) == len(found),
        "bulk": state().bulks.remember(Action.DELETE, actor(), {"why": "retention"}, ids),
    }


def describe(found: Prunable) -> dict[str, Any]:
    job = found.job
    return {
        "id": job.id,
        "title": job.origin.group,
        "status": job.status,
        "finished_at": utc(job.ended_at),
        "bytes": job.size,
        "reason": found.reason,
    }
