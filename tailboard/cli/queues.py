"""`flask pause` and `flask resume`: the queues."""

from __future__ import annotations

from getpass import getuser

import click

from tailboard.cli.terminal import Commands
from tailboard.web.actions import valid_queue
from tailboard.web.models import PauseRequest
from tailboard.web.state import state

commands = Commands()


@commands.command("pause")
@click.argument("queue")
@click.option("--why", metavar="TEXT", help="Shown to who waits for it.")
def pause_command(queue: str, why: str | None) -> None:
    """Claim nothing from QUEUE until it is resumed; what runs goes on."""
    request = PauseRequest.parse({"why": why, "by": getuser()})
    state().store.pauses.pause(valid_queue(queue), request.why, request.by)


@commands.command("resume")
@click.argument("queue")
def resume_command(queue: str) -> None:
    """End the pause of QUEUE."""
    state().store.pauses.resume(valid_queue(queue))
