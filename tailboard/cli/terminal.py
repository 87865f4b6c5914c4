"""Helpers for every command: error messages, output lines, the width of the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from getpass import getuser
from typing import Any

import click
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException

from tailboard.errors import JobNotFound, WrongState
from tailboard.job import Job
from tailboard.values import CONTROL_RE
from tailboard.web.state import state

SHOWN_IDS = 5  # of the jobs that match an ambiguous ID
INTERRUPTED = 130  # the exit code after Ctrl-C, as shells report it


class Command(click.Command):
    """A command that prints an error as one sentence and exits with 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # `flask jobs | head`: click handles it
            raise
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            raise click.ClickException(printable(describe_error(error))) from None


class Commands(AppGroup):
    """The commands of one module. `create_app` adds them to `flask`. They work directly on the
    storage, so the API need not be running."""

    command_class = Command


def printable(text: str) -> str:
    """The text without control characters. Names, reasons and other texts come from clients. On a
    terminal, control characters could write to the clipboard (OSC 52) or overwrite other lines."""
    return CONTROL_RE.sub("\ufffd", text)


def echo_line(text: str, err: bool = False) -> None:
    """Print a line that is not the content of a log."""
    click.echo(printable(text), err=err)


def describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(getattr(error, "description", error))


def find(part: str) -> Job:
    """The job whose ID starts or ends with this text. An error if there is not exactly one."""
    found = state().store.find(part)
    if len(found) == 1:
        return state().store.get(found[0])
    message = f"{len(found) or 'no'} jobs have an ID that starts or ends with {part!r}"
    if found:
        message += f": {', '.join(found[:SHOWN_IDS])}"
    if len(found) > SHOWN_IDS:
        message += f" and {len(found) - SHOWN_IDS} more"
    raise click.ClickException(message)


def user_name() -> str:
    """The name of the person who runs this command. With sudo, `getuser` returns the name of the
    user to which sudo has switched, which several people may share. A user who is not in the
    system's list of users has the number of that user as a name."""
    try:
        return os.environ.get("SUDO_USER") or getuser()
    except (KeyError, OSError):  # Python 3.13 raises OSError
        return str(os.getuid())


def terminal_columns() -> int | None:
    """The width of the terminal; None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def cut_to(text: str, columns: int) -> str:
    """The part of a text that fits into one line of a terminal. CJK characters are two columns
    wide."""
    for place, character in enumerate(text):
        columns -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns < 0:
            return text[: max(0, place - 1)] + "…"
    return text
