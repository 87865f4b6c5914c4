"""`tailboard saved export` and `import`: saved commands as files, for example in git."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Container, Mapping
from typing import Any

import click

from tailboard.chains import chain_from, check_chain
from tailboard.cli.target import client
from tailboard.cli.terminal import Command, echo_line, printable
from tailboard.client import ApiError
from tailboard.errors import WrongState
from tailboard.files import read_small, replace_file
from tailboard.saved_command import DEFINITION, SAVED_RE, check_room, encode_definition
from tailboard.web.requests import parse_json

Definition = dict[str, Any]


@click.command("export", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False))
def export_command(folder: str) -> None:
    """Write each saved command to FOLDER/NAME.json, for example to keep it in git. Only you can
    read the files: `env` can contain secrets. Of URLs in `notify` and `ping` they contain only the
    beginning."""
    definitions = load_definitions()
    os.makedirs(folder, exist_ok=True)
    files = {os.path.join(folder, f"{name}.json"): each for name, each in definitions.items()}
    for path in files:
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            raise click.ClickException(f"{path} is not a regular file: remove it first")
    for path, definition in files.items():
        replace_file(path, encode_definition(definition), private=True)
        echo_line(path)


@click.command("import", cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
def import_command(folder: str) -> None:
    """Save each FOLDER/NAME.json, as written by `export`. If one is invalid, none is saved."""
    server = client(writes=True)
    files = sorted(name for name in os.listdir(folder) if re.fullmatch(r"[^.].*\.json", name))
    known = load_definitions()
    read = {name.removesuffix(".json"): read_json(os.path.join(folder, name)) for name in files}
    given = {
        name: check_definition(name, body, os.path.join(folder, f"{name}.json"), read)
        for name, body in read.items()
    }
    check_sizes(given, known)
    for name in in_order(given, known, folder):
        definition = given[name]
        if known.get(name) == definition:
            echo_line(f"unchanged {name}")
            continue
        is_new = server.save(name, definition)
        echo_line(f"{'saved' if is_new else 'replaced'} {name}")


def load_definitions() -> dict[str, Definition]:
    """The definitions of all saved commands, by name. An error if a name is not one: it becomes the
    name of a file."""
    found = {command["saved"]: definition_of(command) for command in client().saved(env=True)}
    for name in found:
        if not SAVED_RE.fullmatch(name):
            raise click.ClickException(printable(f"{name[:80]!r} cannot be the name of a file"))
    return found


def definition_of(command: Mapping[str, Any]) -> Definition:
    """What a file contains: a saved command as the API shows it, without its name and state."""
    return {field: command[field] for field in DEFINITION if field in command}


def read_json(path: str) -> Any:
    """The JSON in a file. An error names the file."""
    try:
        return parse_json(read_small(path))
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise click.ClickException(printable(f"{path} cannot be read: {why}")) from None
    except RecursionError:
        raise click.ClickException(printable(f"{path}: it is nested too deeply")) from None
    except ValueError as error:
        raise click.ClickException(printable(f"{path}: {error}")) from None


def check_definition(name: str, body: Any, path: str, names: Container[str]) -> Definition:
    """The definition that the content of a file would be saved as. An error names the file.
    `names`: those of all files; `then` may be one of them, although it is not saved yet."""
    then = body.get("then") if isinstance(body, dict) else None
    is_later = isinstance(then, str) and then in names
    try:
        checked = client().check_saved(name, body | {"then": None} if is_later else body)
        # The response hides the ends of URLs.
        urls = {field: body[field] for field in ("notify", "ping") if body.get(field)}
        return definition_of(checked) | urls | ({"then": then} if is_later else {})
    except ApiError as error:
        if error.may_pass:
            raise
        raise click.ClickException(printable(f"{path}: {error}")) from None


def in_order(
    given: Mapping[str, Definition], known: Mapping[str, Definition], folder: str
) -> list[str]:
    """The names of the commands to save, each after the one that it starts (`then`). An error if
    one would start itself again, through others, too."""
    after = {**known, **given}

    def then_of(name: str) -> str | None:
        return after.get(name, {}).get("then")

    for name, definition in given.items():
        then = definition.get("then")
        if then is None or then == known.get(name, {}).get("then"):
            continue
        try:
            check_chain(name, then, then_of)
        except ValueError as error:
            path = os.path.join(folder, f"{name}.json")
            raise click.ClickException(printable(f"{path}: then: {error}")) from None
    return sorted(given, key=lambda name: len(chain_from(name, then_of)))


def check_sizes(given: Mapping[str, Definition], known: Mapping[str, Definition]) -> None:
    """An error if there would be too many saved commands, or if they would be too large."""
    sizes = {name: len(encode_definition(definition)) for name, definition in known.items()}
    for name, definition in given.items():
        size = len(encode_definition(definition))
        try:
            check_room(name, size, sizes)
        except (ValueError, WrongState) as error:
            raise click.ClickException(f"{name}: {error}") from None
        sizes[name] = size
