"""`flask submit` and `flask jobs`: submit a job, list jobs."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from tailboard.cli import terminal
from tailboard.cli.logs import follow_to_end
from tailboard.cli.options import job_options, parse_pairs, read_script
from tailboard.cli.terminal import Commands, cut_to, echo_line, user_name
from tailboard.job import Job
from tailboard.status import Status
from tailboard.titles import short_title
from tailboard.values import parse_time
from tailboard.web.actions import make_job
from tailboard.web.models import UNITS
from tailboard.web.state import state
from tailboard.web.views import pauses_by_queue, shown_job

commands = Commands()


@commands.command("submit")
@click.argument("command")
@click.option("--name")
@job_options
@click.option(
    "--not-before",
    metavar="TIME",
    help="Do not start before this time: +10m, +2h, or 2026-11-23T18:00:00Z.",
)
@click.option("--follow", is_flag=True, help="Print the log; exit with the job's exit code.")
def submit_command(command: str, env: tuple[str, ...], follow: bool, **given: Any) -> None:
    """Submit COMMAND, a shell line (-: a script from standard input), and print the job's ID."""
    given["command"] = read_script() if command == "-" else command
    given["env"] = parse_pairs("--env", env)
    job = state().store.submit(make_job(given | {"submitted_by": user_name()}))
    echo_line(job.id, err=follow)
    if follow:
        follow_to_end(job)


@commands.command("jobs")
@click.option("--status", type=click.Choice([str(status) for status in Status]))
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def jobs_command(status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first. On a terminal, a second line says why a job failed or
    waits."""
    pauses, columns = pauses_by_queue(), terminal.terminal_columns()
    for job in state().store.list(Status(status) if status else None, limit=limit)[0]:
        shown = shown_job(job, pauses)
        lines = [json.dumps(shown)] if as_json else job_lines(job, shown, columns)
        for line in lines:
            echo_line(line)


def job_lines(job: Job, shown: dict[str, Any], columns: int | None) -> list[str]:
    """A job as text. Without `columns`, for programs, it is always one line."""
    code = "" if job.exit_code is None else job.exit_code
    line = f"{job.id}  {job.status:9}  {code!s:>3}  {short_title(job.name, job.command)}"
    if columns is None:
        return [line]
    lines = [line]
    if explanation := what_happened(shown):
        lines.append(f"    {explanation}")
    return [cut_to(line, columns) for line in lines]


def what_happened(job: dict[str, Any]) -> str:
    """Why a job failed, or why it waits; empty if there is nothing to explain."""
    explanation = [" ".join(text.split()) for text in (job["reason"], job["hint"]) if text]
    return ": ".join(explanation) or time_to_wait(job)


def time_to_wait(job: dict[str, Any]) -> str:
    """How long a queued job still waits for its time; empty for any other job."""
    if job["status"] != Status.QUEUED or job["not_before"] is None:
        return ""
    left = parse_time(job["not_before"]) - time.time()
    if left <= 0:
        return ""
    unit = next(unit for unit in "dhms" if left >= UNITS[unit] or unit == "s")
    verb = "again" if job["attempt"] > 1 else "starts"
    return f"{verb} in {left / UNITS[unit]:.0f} {'min' if unit == 'm' else unit}"
