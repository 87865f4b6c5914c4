"""The file `.env` in the current folder: variables for the programs and the commands.

Variables that are already set take precedence over the file. If honcho, which also reads the file,
starts a program, the file takes precedence."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from tailboard.file_access import check_access

NAME = ".env"
SKIP = "FLASK_SKIP_DOTENV"  # Flask's variable: `flask` does not read the file either if it is set
HONCHO = "HONCHO_PROCESS_NAME"  # set in the programs that honcho starts


def load_env_file() -> Path | None:
    """Set the variables that the file defines and that are not yet set. Returns the path of the
    file; None if there is no file. ValueError, with a one-sentence message, if the file cannot be
    used."""
    values = _read_values()
    if values is None:
        return None
    # honcho has set all of them, but it parses quotes and comments in another way.
    wins = HONCHO in os.environ
    for name, value in values.items():
        if wins or name not in os.environ:
            os.environ[name] = value
    return Path(NAME).absolute()


def env_file_names(env: Mapping[str, str] = os.environ) -> set[str]:
    """The variables that have their value in this environment from the file. ValueError as for
    `load_env_file`."""
    values = _read_values() or {}
    return {name for name, value in values.items() if env.get(name) == value}


def _read_values() -> dict[str, str] | None:
    """The variables in the file; None if there is no file, or if it is not to be read."""
    if os.environ.get(SKIP, "").lower() not in ("", "0", "false", "no"):
        return None
    text = _read_text()
    return None if text is None else _parse(text)


def _read_text() -> str | None:
    try:
        data = Path(NAME).read_bytes()
        path = os.path.abspath(NAME)
    except IsADirectoryError:  # some people give their virtual environment this name
        return None
    except OSError as error:
        # A link that leads nowhere is an error: the file might have contained the tokens.
        if isinstance(error, FileNotFoundError) and not os.path.islink(NAME):
            return None
        raise ValueError(f"cannot read {NAME}: {error.strerror}") from None
    check_access(NAME, path)  # other users must not choose what this program trusts
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be UTF-8 text") from None


def _parse(text: str) -> dict[str, str]:
    from dotenv import dotenv_values  # imported here: few folders have the file
    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text)):
        is_comment = binding.key is None and not binding.error
        if not is_comment and (binding.value is None or "\0" in binding.value):
            # The text of a binding begins with the empty lines before it.
            source = binding.original.string
            empty_lines = source[: len(source) - len(source.lstrip())].count("\n")
            line = binding.original.line + empty_lines
            raise ValueError(f"{os.path.abspath(NAME)}, line {line}: must be NAME=VALUE")
    values = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in values.items() if value is not None}
