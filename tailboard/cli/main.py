"""The group of commands `tailboard`."""

from __future__ import annotations

from importlib import import_module

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


@click.group(
    "tailboard",
    cls=SuggestingGroup,
    commands=COMMANDS,
    params=[ON],
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, message="tailboard %(version)s")
@click.pass_context
def tailboard(context: click.Context) -> None:
    """Run a team's scripts as jobs, and show their logs while they run."""
    context.obj = ScriptInfo(create_app=make_app)
