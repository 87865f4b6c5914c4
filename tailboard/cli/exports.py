"""`tailboard saved export` and `import`: saved commands as files, for example in git."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from typing import Any

import click
from werkzeug.exceptions import HTTPException

from tailboard.cli.terminal import AppCommands, echo_line
from tailboard.errors import WrongState
from tailboard.files import read_small, replace_file
from tailboard.saved_command import check_room, encode_command
from tailboard.web.actions import make_command, save_command
from tailboard.web.requests import parse_json
from tailboard.web.state import state

commands = AppCommands()


@commands.command("export")
@click.argument("folder", type=click.Path(file_okay=False))
def export_command(folder: str) -> None:
    """Write each saved command to FOLDER/NAME.json, for example to keep it in git. Only you can
    read the files: `env` can contain secrets."""
    os.makedirs(folder, exist_ok=True)
    commands = {
        os.path.join(folder, f"{command.saved}.json"): command
        for command in state().store.saved.list()
    }
    for path in commands:
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise click.ClickException(f"{path} is not a regular file: remove it first")
    for path, command in commands.items():
        replace_file(path, encode_command(command), private=True)
        echo_line(path)


@commands.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
def import_command(folder: str) -> None:
    """Save each FOLDER/NAME.json, as written by `export`. If one is invalid, none is saved."""
    store = state().store
    names = sorted(name for name in os.listdir(folder) if re.fullmatch(r"[^.].*\.json", name))
    commands = [read_exported(os.path.join(folder, name)) for name in names]
    before = store.saved.list()
    sizes = {each.saved: len(encode_command(each)) for each in before}
    for name, definition in commands:
        sizes[name] = check_import(name, definition, sizes)
    known = {each.saved: each.definition() for each in before}
    for name, definition in commands:
        if known.get(name) == definition:
            echo_line(f"unchanged {name}")
            continue
        is_new = save_command(name, definition)
        echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def check_import(name: str, definition: dict[str, Any], sizes: Mapping[str, int]) -> int:
    """The size of a definition in bytes. An error if there are too many saved commands or they are
    too large; `sizes` are those of all saved commands, by name."""
    size = len(encode_command(make_command(name, definition)))
    try:
        check_room(name, size, sizes)
    except (ValueError, WrongState) as error:
        raise click.ClickException(f"{name}: {error}") from None
    return size


def read_exported(path: str) -> tuple[str, dict[str, Any]]:
    """The name and the definition of the saved command in a file. An error names the file."""
    name = os.path.basename(path).removesuffix(".json")
    try:
        return name, make_command(name, parse_json(read_small(path))).definition()
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise click.ClickException(f"{path} cannot be read: {why}") from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    except HTTPException as error:
        raise click.ClickException(f"{path}: {error.description}") from None
