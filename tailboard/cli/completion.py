"""`tailboard completion`: the script with which a shell completes the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tailboard.cli.terminal import Commands, echo_line

PROGRAM = "tailboard"
VARIABLE = "_TAILBOARD_COMPLETE"  # the script sets it, and click then completes
SHELLS = ("bash", "zsh", "fish")
commands = Commands()


@commands.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that lets a shell complete commands, job IDs, saved commands and queues. For
    bash, add this line to ~/.bashrc: eval "$(tailboard completion bash)"."""
    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    group = click.get_current_context().find_root().command
    for line in completion(group, {}, PROGRAM, VARIABLE).source().splitlines():
        echo_line(line)
