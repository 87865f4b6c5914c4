"""The options that several commands share, and how their values are read."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import click

from tailboard.status import Status

Option = Callable[[Callable[..., None]], Callable[..., None]]


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how a job runs, for `flask submit` and `flask save`."""
    folder = click.Path(resolve_path=True)
    pause = "Seconds, doubled with each retry."
    options: list[Option] = [
        click.option("--queue"),
        click.option("--cwd", type=folder, help="The folder to run in."),
        click.option("--env", multiple=True, metavar="K=V", help="Can be given several times."),
        click.option("--timeout", type=float, help="Seconds."),
        click.option("--retries", type=int),
        click.option("--retry-delay", type=float, metavar="S", help=pause),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_script() -> str:
    """The text on standard input, as UTF-8 in any locale."""
    content = io.BytesIO(sys.stdin.buffer.read())
    try:
        return io.TextIOWrapper(content, "utf-8").read()
    except UnicodeDecodeError as error:
        message = f"the script must be UTF-8 text, and its byte {error.start} is not"
        raise click.ClickException(message) from None


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select jobs, which GET /jobs has, too."""
    status = click.Choice([str(status) for status in Status])
    options: list[Option] = [
        click.option("--status", type=status),
        click.option("--since", metavar="AGE", help="Submitted since then: 30s, 1d, or a time."),
        click.option("--queue"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def parse_pairs(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    """Texts such as NAME=VALUE as a mapping. An error message begins with `option`."""
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise click.ClickException(f"{option} must be NAME=VALUE, not {bad[0][:80]!r}")
    values: dict[str, str] = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        if name in values:
            raise click.ClickException(f"{name[:80]!r} is given twice")
        values[name] = value
    return values
