"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from tailboard.cli.completers import queue_names
from tailboard.cli.target import remote
from tailboard.job import JobOptions
from tailboard.job_option import options_of
from tailboard.notify_rules import Rule, parse_rules
from tailboard.status import Status

SIZE_RE = re.compile("([0-9]{1,15})([KMGT]?)(?:I?B)?", re.IGNORECASE)
SIZE_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


class FolderType(click.ParamType[str]):
    """The path of a folder. On this machine it may be relative to the current one; on a server it
    is sent as it is."""

    name = "folder"

    def convert(
        self, value: str, param: click.Parameter | None, context: click.Context | None
    ) -> str:
        return value if remote() else os.path.realpath(value)


class SizeType(click.ParamType[int]):
    """A number of bytes: 1048576, 1024K, 512M, 2G or 1T, also as 512MiB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        found = SIZE_RE.fullmatch(value)
        if found is None:
            self.fail(f"{value[:80]!r} is not a size such as 1048576, 512M or 2G", param, context)
        return int(found[1]) << SIZE_SHIFTS[found[2].upper()]


class RulesType(click.ParamType[list[Rule]]):
    """Who is notified of what: EVENT,EVENT=TO, several with spaces between them, or JSON; `none`
    for nobody."""

    name = "rules"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> list[Rule]:
        if not isinstance(value, str):
            return list(value)
        try:
            return [] if value == "none" else parse_rules(value)
        except ValueError as error:
            raise click.ClickException(f"--notify {error}") from None


def list_or_none(
    context: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> list[str] | None:
    """The names that were given; None if the command is to keep what it has."""
    return list(given) or None


Decorator = Callable[[Callable[..., None]], Callable[..., None]]
# How a command reads each kind of job option. `command` is an argument and has no entry.
OPTION_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": str},
    "folder": {"type": FolderType()},
    "variables": {"multiple": True},
    "count": {"type": int},
    "seconds": {"type": float},
    "bytes": {"type": SizeType()},
    "choice": {},  # and a type with the option's choices
    "flag": {"is_flag": True, "default": None},
    "rules": {"type": RulesType()},
    "names": {"multiple": True, "default": None, "callback": list_or_none},
}
OPTION_COMPLETERS = {"queue": queue_names}
LIMIT = click.IntRange(1)


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how a job runs, for `tailboard submit` and `save`."""
    for name, declared in reversed(options_of(JobOptions).items()):
        line = declared.command_line
        if line is None:
            continue
        flag = line.flag or f"--{name.replace('_', '-')}"
        reading = OPTION_TYPES[declared.kind] | {"shell_complete": OPTION_COMPLETERS.get(name)}
        if declared.choices:
            reading["type"] = click.Choice([str(choice) for choice in declared.choices])
        command = click.option(flag, name, metavar=line.metavar, help=line.help, **reading)(command)
    return command


def read_script() -> str:
    """The text on standard input, as UTF-8 in any locale."""
    content = io.BytesIO(sys.stdin.buffer.read())
    try:
        return io.TextIOWrapper(content, "utf-8").read()
    except UnicodeDecodeError as error:
        message = f"the script must be UTF-8 text, but byte {error.start} is not"
        raise click.ClickException(message) from None


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select jobs, the same as those of GET /jobs."""
    status = click.Choice([str(status) for status in Status])
    options: list[Decorator] = [
        click.option("--status", type=status, help="Only jobs with this status."),
        click.option(
            "--since",
            metavar="AGE",
            help="Only jobs submitted since then: 30s, 1d, or a timestamp.",
        ),
        click.option("--queue", shell_complete=queue_names, help="Only jobs of this queue."),
        click.option("--by", metavar="NAME", help="Only jobs that NAME submitted."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def text_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --q."""
    return click.option(
        "--q", metavar="TEXT", help="Only jobs whose name, command or ID contains this text."
    )(command)


def follow_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --follow and --wait, for the commands that submit a job."""
    wait = click.option(
        "--wait", is_flag=True, help="Wait silently; exit with the job's exit code."
    )
    follow = click.option(
        "--follow", is_flag=True, help="Print the log; exit with the job's exit code."
    )
    return follow(wait(command))


def parse_pairs(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    """Strings such as NAME=VALUE as a mapping. An error message begins with `option`."""
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise click.ClickException(f"{option} must be NAME=VALUE, not {bad[0][:80]!r}")
    values: dict[str, str] = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        if name in values:
            raise click.ClickException(f"{name[:80]!r} is set twice")
        values[name] = value
    return values
