"""`tailboard cancel`, `rerun` and `delete`: change one job or many."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from tailboard.cli.completers import job_ids
from tailboard.cli.options import filter_options, text_filter
from tailboard.cli.target import client, explain
from tailboard.cli.terminal import (
    INTERRUPTED,
    Commands,
    WrongUsage,
    echo_line,
    find,
    printable,
    report_skip,
)
from tailboard.client import ApiError
from tailboard.titles import short_title
from tailboard.web.bulk import BULK_DONE

SHOWN_JOBS = 10  # jobs that are listed before the question
PROGRESS_INTERVAL = 1.0  # seconds between messages about the progress
commands = Commands()


class Action(NamedTuple):
    """A command that changes jobs. Its functions take the ID of a job, and return the ID to print:
    that of the new job if there is one."""

    name: str
    one: Callable[[str], str]  # the job that the user has named
    of_many: Callable[[str, str | None], str]  # each of those that options select; the bulk's name


def selecting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the ID of a job, the options that select jobs instead, and --yes."""
    job = click.argument("job_id", metavar="[ID]", required=False, shell_complete=job_ids)
    yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
    return job(filter_options(text_filter(yes(command))))


@commands.command("cancel")
@selecting_options
def cancel_command(**selected: Any) -> None:
    """Cancel the job with this ID, or all jobs that the options select."""
    act(Action("cancel", cancel_job, cancel_job), **selected)


@commands.command("rerun")
@selecting_options
@click.option(
    "--with-after",
    is_flag=True,
    help="Also rerun the jobs that were cancelled because of this one.",
)
def rerun_command(job_id: str | None, with_after: bool, **selected: Any) -> None:
    """Rerun the job with this ID, or all jobs that the options select."""
    if not with_after:
        act(Action("rerun", rerun_job, rerun_once), job_id, **selected)
    elif job_id is None or any(selected.values()):
        raise WrongUsage("--with-after needs an ID, and no options that select jobs")
    else:
        rerun_with_after(find(job_id)["id"])


@commands.command("delete")
@selecting_options
def delete_command(**selected: Any) -> None:
    """Delete the job with this ID, or all jobs that the options select."""
    act(Action("delete", delete_job, delete_job), **selected)


def act(action: Action, job_id: str | None, yes: bool, **filters: str | None) -> None:
    """Change the job with this ID or the selected jobs; a usage error unless it is one of them."""
    is_filtered = any(filters.values())
    if job_id is not None and is_filtered:
        raise WrongUsage("give either an ID or options that select jobs, not both")
    if job_id is not None:
        echo_line(action.one(find(job_id)["id"]))
    elif is_filtered:
        act_on_many(action, filters, yes)
    else:
        raise WrongUsage("give an ID, or options such as --status failed --since 1d")


def cancel_job(job_id: str, bulk: str | None = None) -> str:
    client().cancel(job_id, bulk=bulk)
    return job_id


def delete_job(job_id: str, bulk: str | None = None) -> str:
    client().delete(job_id, bulk=bulk)
    return job_id


def rerun_job(job_id: str) -> str:
    try:
        return rerun_with_key(job_id, None)
    except ApiError as error:
        if error.status == 409:
            refuse_without_secrets(client().job(job_id))
        raise


def refuse_without_secrets(job: Mapping[str, Any]) -> None:
    """An error that shows how to start the job instead, if it had secret values."""
    if not job.get("secret_params"):
        return
    values = [f"{name}={value}" for name, value in job["values"].items()]
    line = shlex.join(["tailboard", "start", job["saved"], *values])
    names = ", ".join(job["secret_params"])
    message = f"the value of {names} is not kept, so {job['id']} cannot be rerun; start it with: "
    raise click.ClickException(printable(message + line)) from None


def rerun_once(job_id: str, bulk: str | None) -> str:
    """The rerun of one of many jobs. If it is repeated, even by someone else, it returns the same
    new job."""
    return rerun_with_key(job_id, f"rerun {job_id}", bulk)


def rerun_with_key(job_id: str, key: str | None, bulk: str | None = None) -> str:
    job = client().rerun(job_id, idempotency_key=key, bulk=bulk)
    report_skip(job)
    return str(job["id"])


def rerun_with_after(job_id: str) -> None:
    """Print the ID of the new job, and those of the jobs that wait for it."""
    job = client().rerun(job_id, with_after=True)
    report_skip(job)
    for new_id in (job["id"], *job.get("reruns", ())):
        echo_line(new_id)


def count_of(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def act_on_many(action: Action, filters: dict[str, str | None], yes: bool) -> None:
    """Show the selected jobs, ask, change them, and report what could not be done."""
    found = client().bulk(action.name, **filters)
    ids: list[str] = found["ids"]
    show_chosen(ids, found["left_out"])
    if not ids:
        return
    if not yes and not sys.stdin.isatty():
        raise click.ClickException("there is no terminal to ask on; --yes skips the question")
    if not yes and not click.confirm(f"{action.name.capitalize()} them?", err=True):
        return
    Progress(action, ids, found.get("bulk")).run()


def show_chosen(ids: Sequence[str], left_out: int) -> None:
    echo_line(f"{count_of(len(ids))}:" if ids else "no jobs", err=True)
    for job_id in ids[:SHOWN_JOBS]:
        echo_line(f"  {describe_job(job_id)}", err=True)
    if len(ids) > SHOWN_JOBS:
        echo_line(f"  and {len(ids) - SHOWN_JOBS} more", err=True)
    if left_out:
        echo_line(f"skipped: {count_of(left_out)} already rerun", err=True)


def describe_job(job_id: str) -> str:
    """A job's ID, status and title; only the ID if the job was deleted in the meantime."""
    try:
        job: dict[str, Any] = client().job(job_id)
    except ApiError as error:
        if error.status != 404:
            raise
        return job_id
    return f"{job_id}  {job['status']:9}  {short_title(job['name'], job['command'])}"


def concerns_all_jobs(error: ApiError) -> bool:
    """Would other jobs fail in the same way? Yes, if there was no response, if the server or its
    storage is unavailable, or if it refuses the token or the role. (With the role `run`, only jobs
    that it may change are chosen.)"""
    return error.may_pass or error.status in (0, 401, 403)


class Progress:
    """An action on many jobs. It prints the IDs of the changed jobs, one per line, on standard
    output, and everything else on standard error."""

    def __init__(self, action: Action, ids: Sequence[str], bulk: str | None) -> None:
        """`bulk`: the name of the action for the audit log, if the server has given it one."""
        self.action, self.ids, self.bulk = action, ids, bulk
        self.done = 0
        self.failures: list[str] = []
        self.shown_at = time.monotonic()

    def run(self) -> None:
        """Change the jobs and exit: with 1 if one of them could not be changed."""
        try:
            for number, job_id in enumerate(self.ids, 1):
                self._act(job_id)
                self._show_progress(number)
        except KeyboardInterrupt:
            self._sum_up()
            sys.exit(INTERRUPTED)
        except ApiError as error:
            self.failures.append(f"interrupted: {explain(error)}")
        self._sum_up()
        sys.exit(1 if self.failures else 0)

    def _act(self, job_id: str) -> None:
        """Change a job. ApiError if the others cannot be changed, either."""
        try:
            result = self.action.of_many(job_id, self.bulk)
        except ApiError as error:
            if concerns_all_jobs(error):
                raise
            self.failures.append(f"{job_id}: {error}")
            return
        self.done += 1
        echo_line(result)

    def _show_progress(self, number: int) -> None:
        now = time.monotonic()
        if now - self.shown_at > PROGRESS_INTERVAL:
            echo_line(f"{number} of {len(self.ids)}", err=True)
            self.shown_at = now

    def _sum_up(self) -> None:
        left = len(self.ids) - self.done
        rest = f", {left} not" if left else ""
        are = "is" if self.done == 1 else "are"
        done = BULK_DONE[self.action.name]
        echo_line(f"{count_of(self.done)} {are} {done}{rest}", err=True)
        for failure in self.failures:
            echo_line(failure, err=True)
