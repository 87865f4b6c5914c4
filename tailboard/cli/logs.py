"""`flask logs` and `flask grep`: print one log, search all logs."""

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

GREP_COMMAND_TIME = 0.5  # seconds after which `flask grep` prints what it has found so far
GREP_COMMAND_LINES = 1_000  # after which it prints them, too
commands = Commands()


def follow_to_end(job: Job) -> None:
    """Print a job's log as the job writes it; exit with the job's exit code, or 1."""
    for data in plain_text(follow_log(job.id, 0, False)):
        click.echo(data, nl=False)
    code = state().store.get(job.id).exit_code
    sys.exit(1 if code is None else code)


@commands.command("logs")
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the job ends.")
@click.option("--tail", metavar="N", help="Only the last N lines (default: 1000).")
@click.option(
    "--since", metavar="AGE", help="Only lines written since then: 30s, 5m, or a timestamp."
)
def logs_command(job_id: str, follow: bool, **place: str | None) -> None:
    """Print a job's log."""
    if all(place.values()):
        raise click.ClickException("give either --tail or --since, not both")
    job, query = find(job_id), LogQuery.parse(place)
    with open_log(job.id) as log:
        offset = begin_at(log, query, log.size)
    for data in plain_text(follow_log(job.id, offset, False, wait=follow)):
        click.echo(data, nl=False)


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
        now = {"limit": min(limit, GREP_COMMAND_LINES), "per_job": per_job}
        page = GrepPage(query.model_copy(update=now), GREP_COMMAND_TIME, False).search()
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
