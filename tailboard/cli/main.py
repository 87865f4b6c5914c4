"""The group of commands `tailboard`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from tailboard import __version__
from tailboard.cli.all import COMMANDS
from tailboard.cli.terminal import ON, SuggestingGroup


def make_app() -> Flask:
    """The application on this machine's folder. It is imported only if a command needs it."""
    app: Flask = import_module("api").create_app()
    return app


class Program(SuggestingGroup):
    """The group `tailboard`. Its commands find out by themselves whether they need the
    application."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        # Here, because a shell that completes a word makes a context, but calls no command.
        return super().make_context(*args, **{"obj": ScriptInfo(create_app=make_app)} | extra)


@click.group(
    "tailboard",
    cls=Program,
    commands=COMMANDS,
    params=[ON],
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, message="tailboard %(version)s")
def tailboard() -> None:
    """Run a team's scripts as jobs, and show their logs while they run."""
