"""The titles under which jobs are shown. The API and the page use them."""

from __future__ import annotations

import re
import shlex

SHORT_TITLE = 80  # characters
LONG_TITLE = 200  # characters
# A line of a script that does something: no comment, option of the shell, or import of Python.
SCRIPT_LINE_RE = re.compile(r"^[ \t]*(?!#|//|set [-+]|import |from .* import )\S", re.MULTILINE)


def command_text(command: str | list[str] | None) -> str:
    """A command as a user would type it into a shell; empty for None."""
    if isinstance(command, list):
        return shlex.join(map(str, command))
    return command or ""


def short_title(name: str | None, command: str | list[str]) -> str:
    """The title that the API and the commands show: the name, or else the beginning of the whole
    command, on one line. docs/http-api.md describes it."""
    text = str(command)
    return " ".join((name or text[title_offset(text) :]).split())[:SHORT_TITLE]


def long_title(name: str | None, command: str | list[str] | None) -> str:
    """The title that the page shows: the name, or else the first line of the command; empty if
    there is neither. It is a part of the command with all its spaces, because the page searches for
    it to find earlier runs."""
    text = command_text(command)
    return name or text[title_offset(text) :].strip().partition("\n")[0][:LONG_TITLE]


def title_offset(text: str) -> int:
    """Where the title of a command begins. A script, which begins with `#!`, has the title of its
    first line that does something: many scripts begin with the same lines."""
    if not text.startswith("#!"):
        return 0
    found = SCRIPT_LINE_RE.search(text)
    return found.start() if found else 0
