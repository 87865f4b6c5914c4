"""`tailboard grep`: search the logs of all jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from tailboard.cli.options import filter_options
from tailboard.cli.target import client
from tailboard.cli.terminal import INTERRUPTED, Commands, echo_line, printable

PAGE_LINES = 1_000  # of one response; the API allows no more
ALL_LINES = 1_000_000_000  # of one job; the API allows no more
commands = Commands()


@commands.command("grep")
@click.argument("text")
@filter_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N lines.")
@click.option(
    "--per-job", type=click.IntRange(1, ALL_LINES), metavar="N", help="At most N lines per job."
)
def grep_command(text: str, limit: int | None, per_job: int | None, **filters: str | None) -> None:
    """Print every log line that contains TEXT (ASCII case is ignored) as `ID name: line`, newest
    job and newest line first. Exits with 1 if there is none."""
    query = {**filters, "q": text, "per_job": per_job or ALL_LINES, "numbers": 0}
    count = 0
    try:
        for page in grep_pages(query, limit or sys.maxsize):
            print_hits(page)
            count += len(page["hits"])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0 if count else 1)


def grep_pages(query: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """The responses of GET /logs, until they have `limit` lines or all logs are searched."""
    before = None
    while limit > 0:
        now = {"limit": min(limit, PAGE_LINES), "before": before}
        page = client().json("GET", "/logs", query=query | now)
        yield page
        before = page["next"]
        if before is None:
            return
        limit -= len(page["hits"])


def print_hits(page: dict[str, Any]) -> None:
    for hit in page["hits"]:
        line = " ".join(hit["text"].splitlines())  # a progress bar, for example, contains \r
        click.echo(f"{hit['job']['id']} {printable(hit['job']['title'])}: {line}")
    for job_id in page["unreadable"]:
        echo_line(f"{job_id}: its log cannot be read", err=True)
