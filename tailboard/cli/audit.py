"""`tailboard audit`: who did what."""

from __future__ import annotations

import json
from typing import Any

import click

from tailboard.audit import SUBJECTS
from tailboard.cli.completers import job_ids
from tailboard.cli.options import LIMIT
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, echo_line, find
from tailboard.values import ID_RE

commands = Commands()


@commands.command("audit")
@click.option("--since", metavar="AGE", help="Only lines since then: 30s, 7d, or a timestamp.")
@click.option("--by", metavar="NAME", help="Only what NAME did.")
@click.option(
    "--job", metavar="ID", shell_complete=job_ids, help="Only lines about the job with this ID."
)
@click.option("--limit", type=LIMIT, default=50, show_default=True, help="How many lines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def audit_command(
    since: str | None, by: str | None, job: str | None, limit: int, as_json: bool
) -> None:
    """Print the audit log, newest line first: time, name, action, what it was done to, and from
    where. Needs the role `all`."""
    if job is not None and not ID_RE.fullmatch(job):  # a whole ID can be that of a deleted job
        job = find(job)["id"]
    pages = list(client().audit_pages(since=since, by=by, job=job, limit=limit))
    entries = [entry for page in pages for entry in page["entries"]]
    for line in map(json.dumps, entries) if as_json else aligned(entries):
        echo_line(line)
    if not entries:
        is_chosen = since or by or job
        echo_line(f"the audit log {'has no such line' if is_chosen else 'is empty'}", err=True)
    if damaged := sum(page["damaged"] for page in pages):
        lines = "line" if damaged == 1 else "lines"
        echo_line(f"{damaged} damaged {lines} skipped", err=True)


def aligned(entries: list[dict[str, Any]]) -> list[str]:
    """The lines as text, in columns."""
    rows = [
        [f"{entry['at'][:19]}Z", who(entry), entry["action"], what(entry), whence(entry)]
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def who(entry: dict[str, Any]) -> str:
    """The name; without one, the kind of the token."""
    without = {"shared": "(shared token)", "none": "(no token)"}
    return entry["by"] or without.get(entry["via"], f"({entry['via']})")


def what(entry: dict[str, Any]) -> str:
    """What the action was done to."""
    if "count" in entry:
        filters = " ".join(f"{name}={value}" for name, value in entry.get("filter", {}).items())
        jobs = "job" if entry["count"] == 1 else "jobs"
        return f"{entry['count']} {jobs}: {filters}"
    parts = [f"{name} {entry[name]}" for name in SUBJECTS if name in entry]
    if "rerun_of" in entry:
        parts.append(f"rerun of {entry['rerun_of']}")
    if "dependents" in entry:
        parts.append(f"with {entry['dependents']} that waited for it")
    if "fields" in entry:
        parts.append(f"changed: {', '.join(map(str, entry['fields'])) or 'nothing'}")
    if "limit" in entry:
        parts.append(f"limit {entry['limit'] or 'removed'}")
    if "role" in entry:
        parts.append(f"role {entry['role']}")
    return ", ".join(parts)


def whence(entry: dict[str, Any]) -> str:
    """The client's address, and what a proxy or the page reports."""
    parts = [f"from {entry['from']}"] if entry["from"] else []
    if "forwarded_for" in entry:
        parts.append(f"for {entry['forwarded_for']}")
    return " ".join([*parts, *(["(page)"] if entry.get("agent") == "page" else [])])
