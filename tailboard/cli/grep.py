"""`tailboard grep`: search the logs of all jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from tailboard.cli.options import filter_options
from tailboard.cli.terminal import INTERRUPTED, AppCommands, echo_line, printable
from tailboard.web.grep import GrepPage
from tailboard.web.models import Grep

GREP_COMMAND_TIME = 0.5  # seconds after which `tailboard grep` prints what it has found so far
GREP_COMMAND_LINES = 1_000  # after which it prints them, too
commands = AppCommands()


@commands.command("grep")
@click.argument("text")
@filter_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N lines.")
@click.option("--per-job", type=click.IntRange(1), metavar="N", help="At most N lines per job.")
def grep_command(text: str, limit: int | None, per_job: int | None, **filters: str | None) -> None:
    """Print every log line that contains TEXT (ASCII case is ignored) as `ID name: line`, newest
    job and newest line first. Exits with 1 if there is none."""
    query = Grep.parse(filters | {"q": text})
    count = 0
    try:
        for page in grep_pages(query, limit or sys.maxsize, per_job or sys.maxsize):
            print_hits(page)
            count += len(page.hits)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0 if count else 1)


def grep_pages(query: Grep, limit: int, per_job: int) -> Iterator[GrepPage]:
    """The parts of a search of all logs, until it has found `limit` lines or reached its end."""
    while limit > 0:
        now = {
            "limit": min(limit, GREP_COMMAND_LINES),
            "per_job": per_job,
            "numbers": False,
        }
        page = GrepPage(query.model_copy(update=now), GREP_COMMAND_TIME).search()
        yield page
        if page.next is None:
            return
        limit -= len(page.hits)
        query = query.model_copy(update={"before": page.next})


def print_hits(page: GrepPage) -> None:
    for hit in page.hits:
        line = " ".join(hit["text"].splitlines())  # a progress bar, for example, contains \r
        click.echo(f"{hit['job']['id']} {printable(hit['job']['title'])}: {line}")
    for job_id in page.unreadable:
        echo_line(f"{job_id}: its log cannot be read", err=True)
