"""The titles under which jobs are shown. The API and the page use them."""

from __future__ import annotations

import shlex

SHORT_TITLE = 80  # characters
LONG_TITLE = 200  # characters


def command_text(command: str | list[str] | None) -> str:
    """A command as a user would type it into a shell; empty for None."""
    if isinstance(command, list):
        return shlex.join(map(str, command))
    return command or ""


def short_title(name: str | None, command: str | list[str]) -> str:
    """The title that the API and the commands show: the name, or else the beginning of the whole
    command, on one line. docs/http-api.md describes it."""
    return " ".join((name or str(command)).split())[:SHORT_TITLE]


def long_title(name: str | None, command: str | list[str] | None) -> str:
    """The title that the page shows: the name, or else the first line of the command; empty if
    there is neither. It is a part of the command with all its spaces, because the page searches for
    it to find earlier runs."""
    return name or command_text(command).strip().partition("\n")[0][:LONG_TITLE]
