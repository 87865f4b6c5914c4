"""`flask logs` and `flask grep`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from tailboard.cli.options import filter_options
from tailboard.cli.terminal import INTERRUPTED, Commands, echo_line, find, printable
from tailboard.job import Job
from tailboard.web.grep import GrepPage
from tailboard.web.log_follow import follow_log, plain_text
from tailboard.web.log_read import begin_at, open_log
from tailboard.web.models import Grep, LogQuery
from tailboard.web.state import state

GREP_COMMAND_TIME = 0.5  # seconds until `flask grep` prints what it has found
GREP_COMMAND_LINES = 1_000  # and no more lines than this
commands = Commands()


def follow_to_end(job: Job) -> None:
    """Print a job's log as it is written; exit with its exit code."""
    for data in plain_text(follow_log(job.id, 0, False)):
        click.echo(data, nl=False)
    code = state().store.get(job.id).exit_code
    sys.exit(1 if code is None else code)


@commands.command("logs")
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", metavar="N", help="The last N lines (default: 1000).")
@click.option("--since", metavar="AGE", help="Like 30s, 5m, or a time.")
def logs_command(job_id: str, follow: bool, **place: str | None) -> None:
    """Print a job's log."""
    if all(place.values()):
        raise click.ClickException("--tail and --since exclude each other")
    job, query = find(job_id), LogQuery.parse(place)
    with open_log(job.id) as log:
        offset = begin_at(log, query, log.size)
    for data in plain_text(follow_log(job.id, offset, False, wait=follow)):
        click.echo(data, nl=False)


@commands.command("grep")
@click.argument("text")
@filter_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N lines.")
@click.option("--per-job", type=click.IntRange(1), metavar="N", help="At most N lines of a job.")
def grep_command(text: str, limit: int | None, per_job: int | None, **filters: str | None) -> None:
    """Print the lines of all logs that hold TEXT, in ASCII capitals or not, as `ID name: line`, the
    newest job and the newest line first. Exit code 1: there is none."""
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
    """A search of all logs to its end, or until so many lines are found."""
    while limit > 0:
        now = {"limit": min(limit, GREP_COMMAND_LINES), "per_job": per_job}
        page = GrepPage(query.model_copy(update=now), GREP_COMMAND_TIME, False).search()
        yield page
        if page.next is None:
            return
        limit -= len(page.hits)
        query = query.model_copy(update={"before": page.next})


def print_hits(page: GrepPage) -> None:
    for hit in page.hits:
        line = " ".join(hit["text"].splitlines())  # of a progress bar, say, which has \r
        click.echo(f"{hit['job']['id']} {printable(hit['job']['title'])}: {line}")
    for job_id in page.unreadable:
        echo_line(f"{job_id}: its log cannot be read", err=True)
