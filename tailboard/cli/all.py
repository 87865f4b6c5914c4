"""All commands by name. `tailboard` and `flask` both have them."""

from __future__ import annotations

import click

from tailboard.cli import (
    access,
    audit,
    completion,
    diff,
    files,
    grep,
    jobs,
    login,
    logs,
    many,
    notify,
    prune,
    queues,
    saved,
    start,
    top,
    workers,
)

GROUPS: tuple[click.Group, ...] = (
    jobs.commands,
    top.commands,
    logs.commands,
    files.commands,
    grep.commands,
    diff.commands,
    many.commands,
    prune.commands,
    saved.commands,
    queues.commands,
    notify.commands,
    audit.commands,
    workers.commands,
    workers.app_commands,
    access.commands,
    start.commands,
    login.commands,
    completion.commands,
)
COMMANDS: dict[str, click.Command] = {
    name: command for group in GROUPS for name, command in group.commands.items()
}
