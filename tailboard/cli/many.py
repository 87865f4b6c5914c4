"""`flask cancel`, `flask rerun` and `flask delete`: change one job or many."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click
from werkzeug.exceptions import HTTPException

from tailboard.cli.completers import job_ids
from tailboard.cli.options import filter_options
from tailboard.cli.terminal import INTERRUPTED, AppCommands, describe_error, echo_line, find
from tailboard.cli.user import user_name
from tailboard.errors import JobNotFound, StoreUnreachable, WrongState
from tailboard.job import Job
from tailboard.titles import short_title
from tailboard.web.actions import run_again
from tailboard.web.bulk import BULK_DONE, bulk_key, check_status, choose
from tailboard.web.models import Bulk
from tailboard.web.state import state

SHOWN_JOBS = 10  # jobs that are listed before the question
PROGRESS_INTERVAL = 1.0  # seconds between messages about the progress
commands = AppCommands()


class Action(NamedTuple):
    """A command that changes jobs. Its functions return the new job, or None."""

    name: str
    one: Callable[[Job], Job | None]  # the job that the user has named
    of_many: Callable[[Job], Job | None]  # each of the jobs that options select


def add_action(action: Action) -> None:
    """Add an action's command to `commands`."""
    name = action.name.capitalize()
    help_text = f"{name} the job with this ID, or all jobs that the options select."

    @commands.command(action.name, help=help_text)
    @click.argument("job_id", metavar="[ID]", required=False, shell_complete=job_ids)
    @filter_options
    @click.option(
        "--q", metavar="TEXT", help="Only jobs whose name, command or ID contains this text."
    )
    @click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
    def act(job_id: str | None, yes: bool, **filters: str | None) -> None:
        is_filtered = any(filters.values())
        if job_id is not None and is_filtered:
            raise click.ClickException("give either an ID or options that select jobs, not both")
        if job_id is not None:
            job = state().store.get(find(job_id)["id"])
            echo_line((action.one(job) or job).id)
        elif is_filtered:
            act_on_many(action, Bulk.parse(filters | {"to": action.name}), yes)
        else:
            raise click.ClickException("give an ID, or options such as --status failed --since 1d")


def cancel_as_user(job: Job) -> Job:
    return state().store.cancel(job.id, f"cancelled by {user_name()}")


def delete_job(job: Job) -> None:
    state().store.delete(job.id)


def rerun_job(job: Job) -> Job:
    return run_again(job.id)


def rerun_once(job: Job) -> Job:
    """The rerun of one of many jobs. If it is repeated, it returns the same new job."""
    return run_again(job.id, bulk_key(job.id))


add_action(Action("cancel", cancel_as_user, cancel_as_user))
add_action(Action("rerun", rerun_job, rerun_once))
add_action(Action("delete", delete_job, delete_job))


def count_of(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def act_on_many(action: Action, query: Bulk, yes: bool) -> None:
    """Show the selected jobs, ask, change them, and report what could not be done."""
    check_status(query)
    chosen = choose(query, sys.maxsize, float("inf"))
    jobs = list(state().store.get_many(chosen.ids))
    show_chosen(jobs, chosen.left_out)
    if not jobs:
        return
    if not yes and not sys.stdin.isatty():
        raise click.ClickException("there is no terminal to ask on; --yes skips the question")
    if not yes and not click.confirm(f"{action.name.capitalize()} them?", err=True):
        return
    Progress(action, jobs).run()


def show_chosen(jobs: Sequence[Job], left_out: int) -> None:
    echo_line(f"{count_of(len(jobs))}:" if jobs else "no jobs", err=True)
    for job in jobs[:SHOWN_JOBS]:
        echo_line(f"  {job.id}  {job.status:9}  {short_title(job.name, job.command)}", err=True)
    if len(jobs) > SHOWN_JOBS:
        echo_line(f"  and {len(jobs) - SHOWN_JOBS} more", err=True)
    if left_out:
        echo_line(f"skipped: {count_of(left_out)} already rerun", err=True)


class Progress:
    """An action on many jobs. It prints the IDs of the changed jobs, one per line, on standard
    output, and everything else on standard error."""

    def __init__(self, action: Action, jobs: Sequence[Job]) -> None:
        self.action, self.jobs = action, jobs
        self.done = 0
        self.failures: list[str] = []
        self.shown_at = time.monotonic()

    def run(self) -> None:
        """Change the jobs and exit: with 1 if one of them could not be changed."""
        try:
            for number, job in enumerate(self.jobs, 1):
                self._act(job)
                self._show_progress(number)
        except KeyboardInterrupt:
            self._sum_up()
            sys.exit(INTERRUPTED)
        except StoreUnreachable as error:  # all other jobs would fail in the same way
            self.failures.append(f"interrupted: {error}")
        self._sum_up()
        sys.exit(1 if self.failures else 0)

    def _act(self, job: Job) -> None:
        try:
            result = self.action.of_many(job) or job
        except StoreUnreachable:
            raise
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            self.failures.append(f"{job.id}: {describe_error(error)}")
            return
        self.done += 1
        echo_line(result.id)

    def _show_progress(self, number: int) -> None:
        now = time.monotonic()
        if now - self.shown_at > PROGRESS_INTERVAL:
            echo_line(f"{number} of {len(self.jobs)}", err=True)
            self.shown_at = now

    def _sum_up(self) -> None:
        left = len(self.jobs) - self.done
        rest = f", {left} not" if left else ""
        are = "is" if self.done == 1 else "are"
        done = BULK_DONE[self.action.name]
        echo_line(f"{count_of(self.done)} {are} {done}{rest}", err=True)
        for failure in self.failures:
            echo_line(failure, err=True)
