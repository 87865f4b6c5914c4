"""What the page's home shows of ended jobs: the last runs of each name, and recent failures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from tailboard.notify.history import History, Run, finish_time
from tailboard.notify.usual import usual_seconds
from tailboard.status import Status

RUNS_SHOWN = 20  # of each name
MOST_FAILURES = 50  # names with failures in one response
MOST_BYTES = 56 << 10  # of the names in one response, as JSON
FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.LOST)
FAILURE_FIELDS = ("id", "title", "status", "exit_code", "reason", "hint", "finished_at")


def list_names(history: History) -> dict[str, Any]:
    """The last runs of each name, the name with the newest run first. `more`: how many names are
    left out, because the response would be too large."""
    history.refresh()
    groups = sorted(list(history.groups.values()), key=lambda runs: runs[0].id, reverse=True)
    shown, size = [], 0
    for runs in groups:
        row = describe_name(runs)
        size += len(json.dumps(row))
        if size > MOST_BYTES:
            break
        shown.append(row)
    return {"names": shown, "more": len(groups) - len(shown), "complete": history.is_complete}


def list_failures(history: History, since: float) -> dict[str, Any]:
    """The jobs that failed, timed out or were lost after `since`, in seconds since 1970. They are
    folded by name, the newest first."""
    history.refresh()
    runs = [run for group in list(history.groups.values()) for run in group]
    recent = [run for run in runs if run.status in FAILURES and finish_time(run) > since]
    groups = group_by_name(sorted(recent, key=lambda run: (finish_time(run), run.id), reverse=True))
    failures = [
        {"name": name, "count": len(group), "newest": describe_failure(group[0])}
        for name, group in islice(groups.items(), MOST_FAILURES)
    ]
    return {"failures": failures, "complete": history.is_complete}


def group_by_name(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each name, in the order in which they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def describe_failure(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in FAILURE_FIELDS} | {"saved": run.is_saved}


def describe_name(runs: Sequence[Run]) -> dict[str, Any]:
    """A row of the names; `runs` are all runs of the name, newest first."""
    newest = runs[0]
    return {
        "name": newest.name,
        "title": newest.title,
        "saved": newest.is_saved,
        "runs": [[run.id, run.status, run.seconds] for run in runs[:RUNS_SHOWN]][::-1],
        "median": usual_seconds(runs),
        "succeeded": sum(run.status is Status.SUCCEEDED for run in runs),
        "ended": len(runs),
        "last_at": newest.finished_at,
    }
