"""The commands about workers, queues, machines and tokens."""

from __future__ import annotations

import secrets
from contextlib import closing
from getpass import getuser

import click

from tailboard.cli.terminal import Commands, echo_line
from tailboard.settings import is_redis
from tailboard.web.actions import valid_queue
from tailboard.web.models import PauseRequest
from tailboard.web.operations import OPERATIONS
from tailboard.web.state import state
from tailboard.web.tokens import TOKEN_NAME, TOKEN_NAMES, change_token

TOKEN_BYTES = 32
commands = Commands()


@commands.command("workers")
def workers_command() -> None:
    """List the living workers."""
    alive = state().store.workers()
    if not alive:
        echo_line("no worker is running: `python worker.py` starts one", err=True)
    for info in alive:
        queues = ", ".join(info.queues) or "all queues"
        silent = "" if info.responds else f"  does not respond, last seen at {info.seen_at}"
        echo_line(f"{info.name}  {info.running} of {info.slots} slots busy  {queues}{silent}")
    for pause in state().store.pauses.list():
        echo_line(f"queue {pause.queue} is paused since {pause.since}{pause.words}")
    for machine in state().store.machines():
        heard = f"heard of at {machine.heard_at}"
        echo_line(f"machine {machine.spool}  {machine.running} running  {machine.state}, {heard}")


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


@commands.command("access")
def access_command() -> None:
    """List the routes of the API: method, path, and what a request must present. Without
    TAILBOARD_TOKEN and TAILBOARD_TOKENS the API asks for neither token nor ticket; it then serves
    only programs of its own machine."""
    width = max(len(path) for _, path in OPERATIONS)
    for (method, path), operation in OPERATIONS.items():
        echo_line(f"{method.upper():6}  {path:{width}}  {operation.access}")


@commands.command("token")
@click.argument("name")
@click.option("--replace", is_flag=True, help="NAME's token until now is good no more.")
@click.option("--revoke", is_flag=True, help="NAME's token is good no more; no other is made.")
def token_command(name: str, replace: bool, revoke: bool) -> None:
    """Make a token for NAME, in the file that TAILBOARD_TOKENS names, and print it this once."""
    tokens = state().tokens
    if not tokens.path:
        raise click.ClickException("TAILBOARD_TOKENS must name the file of the tokens")
    if not TOKEN_NAME.fullmatch(name):
        raise click.ClickException(f"NAME must be {TOKEN_NAMES}")
    if replace and revoke:
        raise click.ClickException("--replace and --revoke exclude each other")
    token = None if revoke else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        change_token(tokens, name, token, replace or revoke)
    except OSError as error:
        message = f"TAILBOARD_TOKENS: {tokens.path} cannot be used: {error.strerror}"
        raise click.ClickException(message) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if token is None:
        echo_line(f"{name}'s token is good no more", err=True)
        return
    echo_line(token)
    echo_line(f"{tokens.path} holds its SHA-256 only: it is shown this once", err=True)


@commands.command("mark-lost")
@click.argument("spool")
def mark_lost_command(spool: str) -> None:
    """Give up a machine, by the name of its SPOOL that `workers` shows: its running jobs are lost,
    or queued again if they have retries left, or cancelled if a cancel was accepted. Prints the IDs
    of those that have ended."""
    url = state().settings.storage
    if not is_redis(url):
        raise click.ClickException("only machines that share their jobs by Redis can be given up")
    from tailboard.machines.redis_machines import RedisMachines  # here: a folder needs no Redis

    reason = f"its machine {spool} was given up by {getuser()}"
    with closing(RedisMachines(url)) as machines:
        try:
            lost = machines.mark_lost(spool, reason)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    for job in lost:
        echo_line(job.id)
