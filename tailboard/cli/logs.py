"""`tailboard logs` and `tailboard grep`: print one log, search all logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from tailboard.cli.options import filter_options
from tailboard.cli.target import client
from tailboard.cli.terminal import (
    INTERRUPTED,
    AppCommands,
    Commands,
    WrongUsage,
    describe_end,
    echo_line,
    find,
    printable,
    program_name,
)
from tailboard.client import ApiError
from tailboard.web.grep import GrepPage
from tailboard.web.models import Grep

GREP_COMMAND_TIME = 0.5  # seconds after which `tailboard grep` prints what it has found so far
GREP_COMMAND_LINES = 1_000  # after which it prints them, too
commands = Commands()
app_commands = AppCommands()


# --- Following ------------------------------------------------------------------------------------


def follow_to_end(job_id: str, **place: Any) -> None:
    """Print a job's log as the job writes it, then exit with the job's exit code, or 1 if it has
    none. If it ended otherwise than by itself, say why. Ctrl-C ends only the follow."""
    try:
        write(client().stream(job_id, on_outage=report_outage, **place))
    except KeyboardInterrupt:
        echo_line("", err=True)  # after the ^C that the terminal shows
        echo_line(f"{job_id} keeps running; `{program_name()} cancel {job_id}` stops it", err=True)
        sys.exit(INTERRUPTED)
    job = client().job(job_id)
    if job["status"] not in ("succeeded", "failed") or job["exit_code"] is None:
        echo_line(f"{job_id} {describe_end(job)}", err=True)
    code = job["exit_code"]
    sys.exit(1 if code is None else code)


def write(chunks: Iterable[bytes]) -> None:
    """Print the bytes of a log unchanged."""
    for data in chunks:
        click.echo(data, nl=False)


def report_outage(error: ApiError) -> None:
    echo_line(f"{error}; trying again (Ctrl-C ends the follow)", err=True)


@commands.command("logs")
@click.argument("job_id", metavar="ID")
@click.option(
    "-f", "--follow", is_flag=True, help="Print new output until the job ends; exit with its code."
)
@click.option("--tail", metavar="N", help="Only the last N lines (default: 1000).")
@click.option(
    "--since", metavar="AGE", help="Only lines written since then: 30s, 5m, or a timestamp."
)
def logs_command(job_id: str, follow: bool, tail: str | None, since: str | None) -> None:
    """Print a job's log."""
    if tail and since:
        raise WrongUsage("give either --tail or --since, not both")
    job = find(job_id)
    place = {"since": since} if since else {"tail": tail or "1000"}
    if follow:
        follow_to_end(job["id"], **place)
    write(client().read_log(job["id"], **place))


# --- Searching ------------------------------------------------------------------------------------


@app_commands.command("grep")
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
