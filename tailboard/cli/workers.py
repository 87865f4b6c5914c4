"""`tailboard workers` and `tailboard mark-lost`: the workers and their machines."""

from __future__ import annotations

from contextlib import closing

import click

from tailboard.audit import Action, job_range, new_entry
from tailboard.cli.queues import describe_pause
from tailboard.cli.target import client
from tailboard.cli.terminal import AppCommands, Commands, echo_line
from tailboard.cli.user import user_name
from tailboard.settings import is_redis
from tailboard.web.audit import command_actor, store_line
from tailboard.web.state import state
from tailboard.workers import REACHABLE

commands = Commands()
app_commands = AppCommands()


@commands.command("workers")
def workers_command() -> None:
    """List the running workers, the paused queues and the machines."""
    found = client().workers()
    if not found["workers"]:
        echo_line("no worker is running: `tailboard up` or `tailboard worker` starts one", err=True)
    for info in found["workers"]:
        queues = ", ".join(info["queues"]) or "all queues"
        seen = f"  does not respond, last seen at {info['seen_at']}"
        silent = "" if info["responds"] else seen
        busy = f"{info['running']} of {info['slots']} slots busy"
        echo_line(f"{info['name']}  {busy}  {queues}{silent}")
    for pause in found["paused"]:
        echo_line(f"queue {pause['queue']} has been paused {describe_pause(pause)}")
    for machine in found["machines"]:
        reach = "reachable" if machine["state"] == REACHABLE else "unreachable"
        seen = f"last seen at {machine['heard_at']}"
        echo_line(f"machine {machine['spool']}  {machine['running']} running  {reach}, {seen}")


@app_commands.command("mark-lost")
@click.argument("spool")
def mark_lost_command(spool: str) -> None:
    """Give up on a machine. SPOOL is its name, as `tailboard workers` shows it. Its running jobs
    become lost; they are queued again if they have retries left, or cancelled if a cancel was
    accepted. Prints the IDs of the jobs that have ended."""
    url = state().settings.storage
    if not is_redis(url):
        raise click.ClickException(
            "only machines that share their jobs through Redis can be given up"
        )
    # Imported here: a folder needs no Redis.
    from tailboard.machines.redis_machines import RedisMachines

    reason = f"its machine {spool} was given up by {user_name()}"
    with closing(RedisMachines(url)) as machines:
        try:
            lost = machines.mark_lost(spool, reason)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    subject = {"machine": spool, **job_range([job.id for job in lost])}
    store_line(new_entry(Action.MARK_LOST, command_actor(user_name()), subject))
    for job in lost:
        echo_line(job.id)
