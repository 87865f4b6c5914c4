"""Helpers for every command: error messages, output lines, the width of the terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from typing import Any

import click
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException

from tailboard.cli.completers import context_names
from tailboard.cli.suggestions import did_you_mean, nearest
from tailboard.cli.target import CHOSEN, Remote, client, explain, remote
from tailboard.cli.user import user_name
from tailboard.client import ApiError
from tailboard.errors import JobNotFound, WrongState
from tailboard.values import CONTROL_RE, ID_RE

PART_RE = re.compile("[0-9a-z-]{1,24}")  # what a part of a job's ID can be
SHOWN_IDS = 5  # of the jobs that match an ambiguous ID
NAMED_JOBS = 200  # the newest jobs, whose names are compared with an unknown ID
INTERRUPTED = 130  # the exit code after Ctrl-C, as shells report it


def choose_context(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    """Remember the value of `--on`."""
    if name is None:
        return
    context.meta[CHOSEN] = name
    if url := os.environ.get("TAILBOARD_API"):
        echo_line(f"Note: TAILBOARD_API={url} takes precedence over --on {name}", err=True)


ON = click.Option(
    ["--on"],
    metavar="CONTEXT",
    expose_value=False,
    is_eager=True,  # other options are read differently for a server
    callback=choose_context,
    shell_complete=context_names,
    help="The server to work on, as named by `tailboard login --as`; local: the jobs folder.",
)


class WrongUsage(click.ClickException):
    """The user has combined arguments that exclude each other. The message is one sentence."""

    exit_code = 2


class ReportsErrors:
    """Makes a click command print an error as one sentence and exit with 1; with 130 on Ctrl-C."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)  # type: ignore[misc]
        except BrokenPipeError:  # `tailboard jobs | head`: click handles it
            raise
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except ApiError as error:
            raise click.ClickException(printable(explain(error))) from None
        except (HTTPException, JobNotFound, WrongState, OSError) as error:
            raise click.ClickException(printable(describe_error(error))) from None


class Command(ReportsErrors, click.Command):
    """A command that works on a server or on the jobs folder. It calls `target.client()`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(ON)


class LocalCommand(ReportsErrors, click.Command):
    """A command that works on this machine by its nature. If a server is set, it says so."""

    def is_elsewhere(self, _server: Remote) -> bool:
        """Is the user to be reminded of this server?"""
        return True

    def invoke(self, context: click.Context) -> Any:
        server = remote()
        if server is not None and self.is_elsewhere(server):
            name = context.command_path
            echo_line(f"Note: `{name}` works on this machine, not on {server.url}", err=True)
        return super().invoke(context)


class SuggestingGroup(click.Group):
    """A command with subcommands. If there is none with a name, it suggests the nearest."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_option = name.startswith("-")
        if is_option or context.resilient_parsing or self.get_command(context, name) is not None:
            return super().resolve_command(context, args)
        meant = did_you_mean(name, self.list_commands(context))
        help_line = f"; `{context.command_path} --help` lists the commands"
        raise WrongUsage(printable(f"no such command {name[:80]!r}{meant or help_line}"))


class Group(ReportsErrors, SuggestingGroup):
    """A command with subcommands, such as `tailboard saved`."""

    command_class = Command

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(ON)


class Commands(click.Group):
    """The commands of one module. tailboard/cli/all.py collects them."""

    command_class = Command
    group_class = Group


class AppCommands(AppGroup):
    """Commands that need the application's state, and so work only on this machine."""

    command_class = LocalCommand


def printable(text: str) -> str:
    """The text without control characters. Names, reasons and other texts come from clients. On a
    terminal, control characters could write to the clipboard (OSC 52) or overwrite other lines."""
    return CONTROL_RE.sub("\ufffd", text)


def echo_line(text: str, err: bool = False, colour: str | None = None) -> None:
    """Print a line that is not the content of a log."""
    line = printable(text)
    click.echo(line if colour is None else click.style(line, fg=colour), err=err)


def describe_error(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(getattr(error, "description", error))


def find(part: str) -> dict[str, Any]:
    """The job whose ID starts or ends with this text. An error if there is not exactly one."""
    if ID_RE.fullmatch(part):
        return client().job(part)
    found: list[dict[str, Any]] = []
    if PART_RE.fullmatch(part):
        found = client().json("GET", "/jobs", query={"id": part, "limit": 500})["jobs"]
    if len(found) == 1:
        return client().job(found[0]["id"])
    if not found:
        raise click.ClickException(printable(describe_unknown_job(part)))
    message = f"{len(found)} jobs have an ID that starts or ends with {part!r}"
    message += f": {', '.join(job['id'] for job in found[:SHOWN_IDS])}"
    if len(found) > SHOWN_IDS:
        message += f" and {len(found) - SHOWN_IDS} more"
    raise click.ClickException(message)


def describe_unknown_job(part: str) -> str:
    """A sentence for a text that is part of no job's ID. If it is the name of a job, or nearly, the
    sentence says which ID the newest such job has."""
    message = f"no job has an ID that starts or ends with {part[:80]!r}"
    newest: dict[str, str] = {}  # the ID of the newest job with each name
    for job in client().jobs(limit=NAMED_JOBS):
        if job["name"]:
            newest.setdefault(job["name"], job["id"])
    name = part if part in newest else nearest(part, newest)
    return f"{message}; the newest job named {name} is {newest[name]}" if name else message


def program_name() -> str:
    """The name under which the user has started the command: tailboard or flask."""
    name = click.get_current_context().find_root().info_name
    return "flask" if name == "flask" else "tailboard"


def report_skip(job: dict[str, Any]) -> None:
    """Say so if a request queued nothing, because this job has the key."""
    if job["skipped"]:
        echo_line(f"nothing was queued: {job['id']} has the key {job['key']!r}", err=True)


def submitter() -> str | None:
    """The name to send as the submitter of a job; None if the server knows who sends the
    request."""
    return user_name() if remote() and client().me()["name"] is None else None


def describe_end(job: dict[str, Any]) -> str:
    """How a job ended, as the predicate of a sentence: "timed out: …"."""
    reason = job["reason"] or ""
    if reason.startswith("cancelled"):
        return f"was {reason}"
    words = {"timed_out": "timed out", "lost": "was lost", "cancelled": "was cancelled"}
    ended = words.get(job["status"], str(job["status"]))
    return f"{ended}: {reason}" if reason else ended


def hanging_lines(label: str, text: str) -> list[str]:
    """The lines of a text, the first after the label and the others below it."""
    first, *others = text.splitlines() or [""]
    indent = "".ljust(len(label))
    return [label + first, *(indent + line for line in others)]


def terminal_columns() -> int | None:
    """The width of the terminal; None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def cut_to(text: str, columns: int) -> str:
    """The part of a text that fits into one line of a terminal."""
    for place, character in enumerate(text):
        columns -= columns_of(character)
        if columns < 0:
            return text[: max(0, place - 1)] + "…"
    return text


def pad_to(text: str, columns: int) -> str:
    """The text with spaces up to this column of a terminal."""
    missing = columns - sum(map(columns_of, text))
    return text + " " * missing


def columns_of(character: str) -> int:
    """How many columns of a terminal a character takes: CJK characters take two."""
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
