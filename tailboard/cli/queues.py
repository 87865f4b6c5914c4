"""`tailboard queues`, `limit`, `pause` and `resume`: the queues."""

from __future__ import annotations

import click

from tailboard.cli.completers import describe_queue, queue_names
from tailboard.cli.target import client
from tailboard.cli.terminal import Commands, WrongUsage, echo_line, submitter
from tailboard.order import MAX_LIMIT

commands = Commands()


@commands.command("queues")
def queues_command() -> None:
    """List the queues that have jobs, a limit or a pause, or are named by a worker."""
    queues = client().queues()
    if not queues:
        echo_line("no queue has a job, a limit, a pause, or a worker of its own", err=True)
    width = max((len(queue["queue"]) for queue in queues), default=0)
    for queue in queues:
        pause = f"  paused {describe_pause(queue['paused'])}" if queue["paused"] else ""
        echo_line(f"{queue['queue']:{width}}  {describe_queue(queue)}{pause}")


def describe_pause(pause: dict[str, str | None]) -> str:
    """Since when a queue is paused, by whom, and why."""
    by = f" by {pause['by']}" if pause["by"] else ""
    why = f": {pause['why']}" if pause["why"] else ""
    return f"since {pause['since']}{by}{why}"


@commands.command("limit")
@click.argument("queue", shell_complete=queue_names)
@click.argument("limit", metavar="[N]", type=click.IntRange(1, MAX_LIMIT), required=False)
@click.option("--none", "unlimited", is_flag=True, help="Remove the limit.")
def limit_command(queue: str, limit: int | None, unlimited: bool) -> None:
    """Let at most N jobs of QUEUE run at a time, whichever workers run them. Running jobs continue,
    even if there are more."""
    if (limit is None) is not unlimited:
        raise WrongUsage("give either a number of jobs or --none")
    client(writes=True).limit(queue, limit)


@commands.command("pause")
@click.argument("queue", shell_complete=queue_names)
@click.option(
    "--why", metavar="TEXT", help="The reason, shown with the jobs that wait in the queue."
)
def pause_command(queue: str, why: str | None) -> None:
    """Start no more jobs from QUEUE until it is resumed; running jobs continue."""
    client(writes=True).pause(queue, why, submitter())


@commands.command("resume")
@click.argument("queue", shell_complete=queue_names)
def resume_command(queue: str) -> None:
    """Start jobs from QUEUE again."""
    client(writes=True).resume(queue)
