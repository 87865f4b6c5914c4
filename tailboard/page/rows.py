"""What the page's lists show."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

MOST_CHANGES = 20  # rows and IDs that are sent beside a list before it is sent anew
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
Job = dict[str, Any]  # as the API sends it
FILTERS = ("status", "queue", "q", "before")
ROW_FIELDS = (
    *("id", "status", "queue", "submitted_at", "started_at", "finished_at"),
    *("exit_code", "reason", "hint", "attempt", "retries", "worker", "not_before"),
)
JOB_FIELDS = ("command", "name", "queue", "cwd", "env", "timeout", "retries", "retry_delay")
LISTED_TEXT = 2000  # characters of a saved command's line that the page is sent


def is_ended(job: Job | None) -> bool:
    return job is not None and job["status"] not in ("queued", "running")


def log_interval(chosen: str, job: Job | None, error: str) -> float | None:
    """Seconds between refreshes of the log; None once its job has ended, unless something is
    wrong, or no job is shown."""
    if job is None and not error:
        return None
    return None if is_ended(job) and not error else INTERVALS[chosen]


def command_text(job: Job) -> str:
    """A command as one would type it."""
    command = job.get("command") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def job_title(job: Job) -> str:
    """What a job is called: its name, else the first line of its command."""
    first_line = command_text(job).strip().partition("\n")[0][:200]
    return str(job.get("name") or first_line or job["id"])


def job_row(job: Job) -> Job:
    """What the list shows of a job: little, because every visitor gets 200 of them."""
    return {name: job.get(name) for name in ROW_FIELDS} | {"title": job_title(job)}


def list_changes(rows: Iterable[Job], sent: Iterable[Job]) -> dict[str, Any]:
    """What makes these rows of those that were sent before: rows that are new or other, and the IDs
    of those that are gone."""
    before = {row["id"]: row for row in sent}
    rows = list(rows)
    changed = [row for row in rows if before.get(row["id"]) != row]
    gone = before.keys() - {row["id"] for row in rows}
    return {"rows": changed, "gone": sorted(gone)}


def is_list_to_send(
    changes: Mapping[str, Any], filters: Mapping[str, str], sent: Mapping[str, Any]
) -> bool:
    """Is the list to be sent anew, rather than what has changed since it was?"""
    many = len(changes["rows"]) + len(changes["gone"]) > MOST_CHANGES
    return many or filters != sent["filters"]


def job_details(job: Job) -> Job:
    """What the log pane shows of a job. Values of its environment stay here."""
    hidden = ("env", "command")
    shown = {name: value for name, value in job.items() if name not in hidden}
    texts = {"title": job_title(job), "command_text": command_text(job)}
    return shown | texts | {"env_names": sorted(job.get("env") or {})}


def count_on_day(jobs: Iterable[Job], day: date, now: datetime) -> int:
    """How many of some jobs ended on a day, in the zone of `now`."""
    ends = [datetime.fromisoformat(job["finished_at"]) for job in jobs if job.get("finished_at")]
    return sum(end.astimezone(now.tzinfo).date() == day for end in ends)


def count_slots(workers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    workers = list(workers)
    return {
        "busy": sum(worker["running"] for worker in workers),
        "all": sum(worker["slots"] for worker in workers),
    }


def machines_summary(machines: list[dict[str, Any]], storage: Mapping[str, Any]) -> str:
    """The machines that share their jobs, in a line each: how busy they are, when a silent one was
    last heard of, and the memory of Redis. Empty where one folder holds all."""
    if not machines:
        return ""
    lines = []
    for machine in machines:
        line = f"{machine['spool']}: {machine['running']} of {machine['slots']} slots busy"
        if machine["state"] == "unreachable":
            line += f", unreachable, last heard of at {machine['heard_at']}"
        lines.append(line)
    limit = f" of {storage['max_bytes'] >> 20} MiB" if storage["max_bytes"] else ""
    lines.append(f"Redis uses {storage['used_bytes'] >> 20} MiB{limit}")
    if storage.get("rolled_back_at"):
        lines.append(f"Redis returned to an older state at {storage['rolled_back_at']}")
    return "\n".join(lines)


def saved_row(command: Job) -> Job:
    """What the page shows of a saved command, cut to what it needs: there may be hundreds."""
    names = ("saved", "params", "cron", "zone", "paused", "next_run", "skipped")
    run_names = ("id", "status", "submitted_at", "started_at", "finished_at")
    runs = [{name: run.get(name) for name in run_names} for run in command.get("runs", ())]
    text = command_text(command)
    if len(text) > LISTED_TEXT:
        text = f"{text[:LISTED_TEXT]}…"
    return {name: command.get(name) for name in names} | {"command_text": text, "runs": runs}
