"""`tailboard submit`, `urgent`, `jobs`, `show` and `wait`: submit a job, let one start first, list
jobs, look at one, wait for one."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from tailboard.cli import terminal
from tailboard.cli.completers import job_ids
from tailboard.cli.logs import exit_code, follow_to_end, wait_to_end
from tailboard.cli.notify_text import notice_lines, rule_lines, usual_lines
from tailboard.cli.options import (
    LIMIT,
    filter_options,
    follow_options,
    job_options,
    parse_pairs,
    read_script,
    text_filter,
)
from tailboard.cli.results import progress_text, result_lines, with_whole_results
from tailboard.cli.target import client
from tailboard.cli.terminal import (
    Commands,
    WrongUsage,
    cut_to,
    echo_line,
    find,
    report_skip,
    submitter,
)
from tailboard.client import Unreachable, new_key
from tailboard.job import AfterStatus, JobOptions
from tailboard.job_option import options_of
from tailboard.sizes import show_size
from tailboard.status import Status
from tailboard.titles import short_title
from tailboard.values import parse_time
from tailboard.web.models import UNITS

commands = Commands()


# --- submit ---------------------------------------------------------------------------------------


@commands.command("submit", context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, required=True, metavar="COMMAND...", type=click.UNPROCESSED)
@click.option("--name", help="A name for the job (default: its command).")
@job_options
@click.option(
    "--not-before",
    metavar="TIME",
    help="Do not start before this time: +10m, +2h, or 2026-11-23T18:00:00Z.",
)
@click.option(
    "--after",
    metavar="ID",
    multiple=True,
    shell_complete=job_ids,
    help="Start once this job has succeeded. Can be given several times.",
)
@click.option(
    "--after-status",
    type=click.Choice([str(status) for status in AfterStatus]),
    help="What --after waits for: that the jobs have succeeded (default), or ended in any way.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Submit only one job for this key, however often the command is repeated.",
)
@follow_options
def submit_command(
    words: tuple[str, ...],
    env: tuple[str, ...],
    after: tuple[str, ...],
    idempotency_key: str | None,
    follow: bool,
    wait: bool,
    **given: Any,
) -> None:
    """Submit COMMAND, and print the job's ID. Options come first: everything after the first word
    that is not an option belongs to the command.

    A single word is a line for /bin/sh, such as 'make test | tee out'. If it is -, the command is a
    script that is read from standard input.

    The command runs in the worker's folder as the worker's user. If its first line begins with #!,
    that line names the interpreter, as in #!/usr/bin/env python3. docs/running-jobs.md describes
    the environment."""
    command = parse_command(words)
    given["env"] = parse_pairs("--env", env)
    given["after"] = [find(part)["id"] for part in after]
    given["submitted_by"] = submitter()
    print_submitted(submit(command, idempotency_key or new_key(), given), follow, wait)


def submit(command: str, key: str, options: dict[str, Any]) -> dict[str, Any]:
    """Submit a job. If the server may have submitted it before it stopped responding, the error
    says how to repeat the command."""
    try:
        return client(writes=True).submit(command, idempotency_key=key, **options)
    except Unreachable as error:
        if not error.is_sent:
            raise
        raise click.ClickException(
            f"{error}, and may have submitted the job: "
            f"with --idempotency-key {shlex.quote(key)}, the same command does not submit it twice"
        ) from None


def print_submitted(job: dict[str, Any], follow: bool, wait: bool) -> None:
    """Print the ID of a new job, or of the one that has its key if nothing was queued. With
    `follow` or `wait`, then exit with the job's exit code."""
    report_skip(job)
    echo_line(job["id"], err=follow)
    if follow or wait:
        warn_without_worker(job)
    if follow:
        follow_to_end(job["id"])
    if wait:
        sys.exit(exit_code(wait_to_end(job["id"])))


def warn_without_worker(job: dict[str, Any]) -> None:
    """Say so if the job waits and no worker runs: the command would show nothing, and not end."""
    if job["status"] == Status.QUEUED and not client().workers()["workers"]:
        echo_line(f"{job['id']} waits: no worker is running", err=True)


def parse_command(words: tuple[str, ...]) -> str:
    """The command line that these words are. A usage error if they are a line for the shell, and
    then options that the user has given too late."""
    if words == ("-",):
        return read_script()
    if len(words) == 1:
        return words[0]
    if " " in words[0].strip() and words[1].startswith("-"):
        raise WrongUsage(
            f"options such as {words[1]} come before the command: "
            f"submit {words[1]} … {shlex.quote(words[0])}"
        )
    return shlex.join(words)


# --- urgent ---------------------------------------------------------------------------------------


@commands.command("urgent")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.option("--off", is_flag=True, help="Let an urgent job start in its turn.")
def urgent_command(job_id: str, off: bool) -> None:
    """Let a queued job start before all jobs that are not urgent, whatever their queue."""
    echo_line(client().urgent(find(job_id)["id"], not off)["id"])


# --- jobs -----------------------------------------------------------------------------------------


@commands.command("jobs")
@filter_options
@text_filter
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="How many jobs.")
@click.option("--results", is_flag=True, help="Also print what the jobs report with ::result.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def jobs_command(limit: int, results: bool, as_json: bool, **filters: Any) -> None:
    """List jobs, newest first: ID, status, exit code, age, duration, name. On a terminal, a second
    line says why a job failed or waits. With --results, a line follows for each result of a job,
    KEY=VALUE; if the output is not a terminal, results are at the end of the job's line."""
    columns = terminal.terminal_columns()
    jobs = client().jobs(limit=limit, results=int(results) or None, **filters)
    for job in with_whole_results(jobs) if results else jobs:
        for line in [json.dumps(job)] if as_json else job_lines(job, columns):
            echo_line(line)


def job_lines(job: dict[str, Any], columns: int | None) -> list[str]:
    """A job as text. Without `columns`, for programs, it is always one line."""
    code = "" if job["exit_code"] is None else job["exit_code"]
    title = short_title(job["name"], job["command"])
    times = f"{age_of(job):>4} {duration_of(job):>6}"
    line = f"{job['id']}  {job['status']:9}  {code!s:>3}  {times}  {title}"
    results = result_lines(job.get("results", {}))
    if columns is None:
        return ["  ".join([line, *results])]
    lines = [line]
    if explanation := what_happened(job):
        lines.append(f"    {explanation}")
    lines += [f"    {result}" for result in results]
    return [cut_to(line, columns) for line in lines]


def age_of(job: dict[str, Any]) -> str:
    """How long ago the job was submitted, like 5m."""
    return format_seconds(time.time() - parse_time(job["submitted_at"]))


def duration_of(job: dict[str, Any]) -> str:
    """How long the job ran, or has been running, like 5m; empty if it has not started."""
    if job["started_at"] is None:
        return ""
    end = parse_time(job["finished_at"]) if job["finished_at"] else time.time()
    return format_seconds(end - parse_time(job["started_at"]))


def format_seconds(seconds: float) -> str:
    """A duration in its largest unit, rounded down: 45s, 5m, 3h, 2d."""
    seconds = max(0.0, seconds)
    unit = next(unit for unit in "dhms" if seconds >= UNITS[unit] or unit == "s")
    return f"{int(seconds / UNITS[unit])}{unit}"


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


# --- show and wait --------------------------------------------------------------------------------


@commands.command("show")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.option("--json", "as_json", is_flag=True, help="Print the job as one JSON object.")
def show_command(job_id: str, as_json: bool) -> None:
    """Show a job with all of its fields that are set."""
    [job] = with_whole_results([find(job_id)])
    if as_json:
        echo_line(json.dumps(job))
        return
    texts = {name: field_text(name, value) for name, value in job.items()}
    shown = {name: text for name, text in texts.items() if text}
    width = max(map(len, shown))
    for name, text in shown.items():
        for line in terminal.hanging_lines(f"{name:{width}}  ", text):
            echo_line(line)


def field_text(name: str, value: Any) -> str:
    """The value of a field of a job as text; empty if it is not set."""
    if name == "notify" and value is not None:
        return "\n".join(rule_lines(value))
    if value in (None, "", [], {}) or name == "results_partial":
        return ""
    if name in FIELD_TEXTS:
        return FIELD_TEXTS[name](value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def retention_text(retention: dict[str, Any]) -> str:
    """When and why a job is deleted, or why it is kept."""
    return ": ".join(filter(None, (retention["delete_at"], retention["reason"])))


def usage_text(usage: dict[str, Any]) -> str:
    """What the processes of a running job use: "0.97 cores, 1.2 GiB"."""
    memory = show_size(usage["memory_bytes"])
    return memory if usage["cpu"] is None else f"{usage['cpu']:.2f} cores, {memory}"


FIELD_TEXTS: dict[str, Callable[[Any], str]] = {
    "notifications": lambda notices: "\n".join(notice_lines(notices)),
    "progress": progress_text,
    "results": lambda results: "\n".join(result_lines(results)),
    "retention": retention_text,
    "usage": usage_text,
    "usual": lambda usual: "\n".join(usual_lines(usual)),
    **{name: show_size for name, each in options_of(JobOptions).items() if each.kind == "bytes"},
}


@commands.command("wait")
@click.argument("job_id", metavar="ID", shell_complete=job_ids)
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Wait at most S seconds.")
def wait_command(job_id: str, timeout: float | None) -> None:
    """Wait silently until a job has ended, and exit with its exit code: 1 if it has none, and 124
    if it has not ended after --timeout."""
    job = wait_to_end(find(job_id)["id"], timeout)
    if job["finished_at"] is None:
        echo_line(f"{job['id']} is still {job['status']} after {timeout:g} s", err=True)
        sys.exit(TIMED_OUT)
    if job["status"] != Status.SUCCEEDED:
        echo_line(f"{job['id']} {terminal.describe_end(job)}", err=True)
    sys.exit(exit_code(job))


TIMED_OUT = 124  # as timeout(1) reports it
