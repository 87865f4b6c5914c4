"""`flask pause` and `flask resume`: the queues."""

from __future__ import annotations

import click

from tailboard.cli.terminal import Commands, user_name
from tailboard.web.actions import valid_queue
from tailboard.web.models import PauseRequest
from tailboard.web.state import state

commands = Commands()


@commands.command("pause")
@click.argument("queue")
@click.option(
    "--why", metavar="TEXT", help="The reason, shown with the jobs that wait in the queue."
)
def pause_command(queue: str, why: str | None) -> None:
    """Start no more jobs from QUEUE until it is resumed; running jobs continue."""
    request = PauseRequest.parse({"why": why, "by": user_name()})
    state().store.pauses.pause(valid_queue(queue), request.why, request.by)


@commands.command("resume")
@click.argument("queue")
def resume_command(queue: str) -> None:
    """Start jobs from QUEUE again."""
    state().store.pauses.resume(valid_queue(queue))
