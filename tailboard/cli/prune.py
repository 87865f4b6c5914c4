"""`tailboard prune`: delete the ended jobs that no rule keeps any longer."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from tailboard.cli.many import SHOWN_JOBS, Action, Progress, count_of, delete_job
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, cut_to, echo_line, terminal_columns
from tailboard.sizes import show_size

SIZE_WIDTH = 11  # characters, as of "1,023 bytes"
TITLE_WIDTH = 24
PATIENCE = 600.0  # seconds for the server to look at all jobs
commands = Commands()


@commands.command("prune")
@click.option("--dry-run", is_flag=True, help="Only print the jobs and why they are deleted.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def prune_command(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete now the ended jobs that the worker would delete over time, because they are too old or
    too many, or take up too much space."""
    found = find_prunable()
    jobs: list[dict[str, Any]] = found["jobs"]
    for job in jobs if dry_run else jobs[:SHOWN_JOBS]:
        echo_line(json.dumps(job) if as_json else describe(job), err=not dry_run)
    if not dry_run and len(jobs) > SHOWN_JOBS:
        echo_line(f"and {len(jobs) - SHOWN_JOBS} more", err=True)
    if not jobs:
        echo_line("Nothing to delete.", err=True)
        return
    rest = "" if found["complete"] else "; run it again for more"
    amount = f"{count_of(len(jobs))}, {show_size(found['bytes'])}"
    if dry_run:
        echo_line(f"would delete {amount}{rest}", err=True)
        return
    if not yes and not sys.stdin.isatty():
        raise click.ClickException("there is no terminal to ask on; --yes skips the question")
    if not yes and not click.confirm(f"Delete {amount}?", err=True):
        return
    action = Action("delete", delete_job, delete_job)
    Progress(action, [job["id"] for job in jobs], found["bulk"]).run()


def find_prunable() -> dict[str, Any]:
    """The response of GET /prune. The server reads the records of many jobs in several requests."""
    until = time.monotonic() + PATIENCE
    while True:
        found = client().prunable()
        if found["complete"] or found["jobs"] or time.monotonic() > until:
            return found


def describe(job: dict[str, Any]) -> str:
    """A job in one line, which is cut to the width of the terminal."""
    title = cut_to(job["title"], TITLE_WIDTH).ljust(TITLE_WIDTH)
    size = show_size(job["bytes"]).rjust(SIZE_WIDTH)
    ended = f"{job['finished_at'][:19]}Z"
    line = f"{job['id']}  {job['status']:9}  {ended}  {size}  {title}  {job['reason']}"
    columns = terminal_columns()
    return line if columns is None else cut_to(line, columns)
