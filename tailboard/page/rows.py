"""What the page shows of jobs, saved commands and machines. Imports nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tailboard.page.shapes import Filters, Job, RowChanges, SentList
from tailboard.titles import command_text, long_title

MOST_CHANGES = 20  # rows and IDs; if more have changed, the whole list is sent again
INTERVALS = {"off": None, "1 s": 1, "5 s": 5, "10 s": 10}  # seconds between refreshes
STATUSES = {
    "queued": {"icon": "◌", "colour": "#64748b"},
    "running": {"icon": "▶", "colour": "#2563eb"},
    "succeeded": {"icon": "✓", "colour": "#15803d"},
    "failed": {"icon": "✕", "colour": "#c81e2b"},
    "cancelled": {"icon": "⊘", "colour": "#92600a"},
    "timed_out": {"icon": "!", "colour": "#b4480a"},
    "lost": {"icon": "?", "colour": "#7c3aed"},
}
FILTERS = ("status", "queue", "by", "q", "before")
ROW_FIELDS = (
    *("id", "status", "queue", "submitted_at", "started_at", "finished_at"),
    *("exit_code", "reason", "hint", "attempt", "retries", "worker", "not_before", "submitted_by"),
    "urgent",
)
LISTED_TEXT = 2000  # characters of a saved command's line that the browser receives
LISTED_VALUE = 80  # characters of a param's value in a row
LISTED_PROGRESS = 100  # characters of the text of a job's progress in a row
HIDDEN_VALUE = "•••"  # shown instead of a value that is probably secret
SECRET_RE = re.compile("TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH(?!OR)|(?:^|_|API)KEY(?:_|$)")


def is_ended(job: Job | None) -> bool:
    return job is not None and job["status"] not in ("queued", "running")


def log_interval(chosen: str, job: Job | None, error: str) -> float | None:
    """Seconds between refreshes of the log; None if it is not refreshed, because no job is shown or
    because the job has ended. While there is an error, or a message about the job is being sent,
    the refreshes continue."""
    if job is None and not error:
        return None
    is_final = is_ended(job) and not has_pending(job)
    return None if is_final and not error else INTERVALS[chosen]


def has_pending(job: Job | None) -> bool:
    """Will a message about the job be sent, or tried again?"""
    notices = (job or {}).get("notifications", ())
    return any(delivery["pending"] for notice in notices for delivery in notice["deliveries"])


def job_title(job: Job) -> str:
    """A job's name, or else the first line of its command, or else its ID."""
    return long_title(job.get("name"), job.get("command")) or str(job["id"])


def job_row(job: Job) -> Job:
    """What the list shows of a job. It is small, because each visitor receives 200 of them."""
    row = {name: job.get(name) for name in ROW_FIELDS}
    if job.get("after"):  # few jobs wait for others
        row["after"] = job["after"]
    if job.get("saved"):  # some visitors may run only such jobs again, or cancel them
        row["saved"] = job["saved"]
    if job.get("usual"):
        row["usual"] = listed_usual(job["usual"], datetime.now(UTC))
    if job.get("status") == "running":
        row["progress"] = listed_progress(job.get("progress"))
    return row | {"title": job_title(job), "values": shown_values(job, LISTED_VALUE)}


def listed_usual(usual: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What is usual for a running job. `silent_since` is left out unless the job is silent: it
    changes whenever the job writes something, and each change sends the row again."""
    since, limit = usual["silent_since"], usual["silent_after"]
    is_silent = since and limit and (now - datetime.fromisoformat(since)).total_seconds() >= limit
    return {**usual, "silent_since": since if is_silent else None}


def listed_progress(progress: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The progress of a running job, no more exact than the page shows it: each change sends the
    row again."""
    if progress is None:
        return None
    text, left = progress["text"], progress["seconds_left"]
    return {
        "percent": int(progress["percent"]),
        "text": text and cut_value(text, LISTED_PROGRESS),
        "source": progress["source"],
        "seconds_left": None if left is None else roughly(left),
    }


def roughly(seconds: float) -> int:
    """To ten seconds, or to a minute if it is more than one; 0 only if nothing is left."""
    step = 60 if seconds > 60 else 10
    return max(step, round(seconds / step) * step) if seconds > 0 else 0


def shown_values(job: Job, most: int | None = None) -> dict[str, str]:
    """The values of the params of a saved command that a job was given, each with at most `most`
    characters. A value whose name suggests a secret is hidden."""
    given: dict[str, str] = job.get("values") or {}
    return {
        name: HIDDEN_VALUE if SECRET_RE.search(name) else cut_value(value, most)
        for name, value in given.items()
    }


def cut_value(value: str, most: int | None) -> str:
    return value if most is None or len(value) <= most else f"{value[:most]}…"


def row_changes(rows: Sequence[Job], sent: Iterable[Job]) -> RowChanges:
    """The difference between these rows and those that were sent before."""
    before = {row["id"]: row for row in sent}
    changed = [row for row in rows if before.get(row["id"]) != row]
    gone = before.keys() - {row["id"] for row in rows}
    return {"rows": changed, "gone": sorted(gone)}


def must_send_list(changes: RowChanges, filters: Filters, sent: SentList) -> bool:
    """Must the page send the whole list again, rather than only what has changed in it?"""
    has_many_changes = len(changes["rows"]) + len(changes["gone"]) > MOST_CHANGES
    return has_many_changes or filters != sent["filters"]


def job_details(job: Job) -> Job:
    """What the log pane shows of a job: of its environment only the names and the values of params,
    since other values can be secret."""
    # The browser loads the usage itself, and `usual` says what it needs of the silence.
    hidden = ("env", "command", "usage", "silent_since")
    shown = {name: value for name, value in job.items() if name not in hidden}
    texts = {"title": job_title(job), "command_text": command_text(job.get("command"))}
    values = shown_values(job)
    return shown | texts | {"values": values, "env_names": sorted(job.get("env") or {})}


def last_midnight(now: datetime) -> str:
    """When the day of `now` began, in its time zone, as a time for the API."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def count_slots(workers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The slots of all workers: how many are `busy`, and how many there are."""
    return {
        "busy": sum(worker["running"] for worker in workers),
        "all": sum(worker["slots"] for worker in workers),
    }


def machines_summary(machines: list[dict[str, Any]], storage: Mapping[str, Any]) -> str:
    """One line for each machine that shares its jobs: how busy it is and, if it is unreachable,
    when it was last seen. Then the memory of Redis. Empty if the jobs are in a folder."""
    if not machines:
        return ""
    lines = []
    for machine in machines:
        line = f"{machine['spool']}: {machine['running']} of {machine['slots']} slots busy"
        if machine["state"] == "unreachable":
            line += f", unreachable, last seen at {machine['heard_at']}"
        lines.append(line)
    limit = f" of {storage['max_bytes'] >> 20} MiB" if storage["max_bytes"] else ""
    lines.append(f"Redis uses {storage['used_bytes'] >> 20} MiB{limit}")
    if storage.get("rolled_back_at"):
        lines.append(f"Redis returned to an older state at {storage['rolled_back_at']}")
    return "\n".join(lines)


def saved_row(command: Job) -> Job:
    """What the page shows of a saved command. It is small, because there can be hundreds."""
    names = ("saved", "params", "cron", "zone", "paused", "next_run", "skipped", "then", "notify")
    run_names = ("id", "status", "submitted_at", "started_at", "finished_at", "reason")
    runs = [{name: run.get(name) for name in run_names} for run in command.get("runs", ())]
    text = command_text(command.get("command"))
    if len(text) > LISTED_TEXT:
        text = f"{text[:LISTED_TEXT]}…"
    return {name: command.get(name) for name in names} | {"command_text": text, "runs": runs}
