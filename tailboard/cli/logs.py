"""`tailboard logs`: print a log, or follow it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from tailboard.cli.completers import job_ids
from tailboard.cli.target import client
from tailboard.cli.terminal import (
    INTERRUPTED,
    Commands,
    WrongUsage,
    describe_end,
    echo_line,
    find,
    program_name,
)
from tailboard.client import ApiError

commands = Commands()


def follow_to_end(job_id: str, **place: Any) -> None:
    """Print a job's log as the job writes it, then exit with the job's exit code, or 1 if it has
    none. If it ended otherwise than by itself, say why. Ctrl-C ends only the follow."""
    with leaving_job(job_id):
        write(client().stream(job_id, on_outage=report_outage, **place))
    job = client().job(job_id)
    if job["status"] not in ("succeeded", "failed") or job["exit_code"] is None:
        echo_line(f"{job_id} {describe_end(job)}", err=True)
    sys.exit(exit_code(job))


def wait_to_end(job_id: str, timeout: float | None = None) -> dict[str, Any]:
    """The job when it has ended, or after `timeout` seconds. Ctrl-C ends only the command."""
    with leaving_job(job_id):
        return client().wait(job_id, timeout, on_outage=report_outage)


@contextmanager
def leaving_job(job_id: str) -> Iterator[None]:
    """Ctrl-C ends the command. It does not affect the job, and the command says so."""
    try:
        yield
    except KeyboardInterrupt:
        echo_line("", err=True)  # after the ^C that the terminal shows
        echo_line(f"{job_id} keeps running; `{program_name()} cancel {job_id}` stops it", err=True)
        sys.exit(INTERRUPTED)


def exit_code(job: dict[str, Any]) -> int:
    """The exit code of a command that has waited for this job: the job's own, or 1 without one."""
    code: int | None = job["exit_code"]
    return 1 if code is None else code


def write(chunks: Iterable[bytes]) -> None:
    """Print the bytes of a log unchanged."""
    for data in chunks:
        click.echo(data, nl=False)


def report_outage(error: ApiError) -> None:
    echo_line(f"{error}; trying again (Ctrl-C ends the command)", err=True)


@commands.command("logs")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
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
    place: dict[str, Any] = {"since": since} if since else {"tail": tail or "1000"}
    if follow:
        follow_to_end(job["id"], **place)
    write(client().read_log(job["id"], **place))
