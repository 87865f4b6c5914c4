"""What the commands say about unknown names, and about the place that they work on; their help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_site import Tailboard
from web import token_line

from tailboard.cli.main import tailboard as group
from tailboard.web.operations import OPERATIONS


def all_commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """A command and its subcommands, each with what a user types for it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from all_commands(each, f"{path} {name}")


COMMANDS = dict(all_commands(group, "tailboard"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_a_help_text(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


# --- Unknown commands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("jbos", "no such command 'jbos'; did you mean jobs?"),
        ("summit true", "no such command 'summit'; did you mean submit?"),
        ("xyzzy", "no such command 'xyzzy'; `tailboard --help` lists the commands"),
        ("saved psue", "no such command 'psue'; did you mean pause?"),
        ("saved x", "no such command 'x'; `tailboard saved --help` lists the commands"),
        ("jo\x1bs", "no such command 'jo\\x1bs'; did you mean jobs?"),
    ],
)
def test_an_unknown_command_suggests_the_nearest(
    on_folder: Tailboard, words: str, sentence: str
) -> None:
    done = on_folder(*words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"Error: {sentence}\n"


# --- Unknown IDs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "name"),
    [("nightly", "nightly"), ("nihgtly", "nightly"), ("back up", "backup"), ("xyzzy", None)],
)
@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_an_unknown_id_suggests_the_newest_job_with_such_a_name(
    tailboard: Tailboard, command: str, part: str, name: str | None
) -> None:
    tailboard.job_maker.ended(name="nightly")
    newest = {each: tailboard.job_maker.ended(name=each) for each in ("nightly", "backup")}
    tailboard.job_maker.ended(command="echo unnamed")
    done = tailboard(command, part)
    suggestion = f"; the newest job named {name} is {newest[name]}" if name else ""
    sentence = f"Error: no job has an ID that starts or ends with {part!r}{suggestion}\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", sentence)


@pytest.mark.parametrize("part", ["", "x" * 999, "20200101-000000-00000000", "\udcff", "a/../b"])
def test_an_impossible_id_is_reported_in_one_sentence(tailboard: Tailboard, part: str) -> None:
    done = tailboard("logs", part)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 200 and "no job" in done.stderr


# --- Commands that always work on this machine ----------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "reported"),
    [
        ("access", 0, ""),
        ("token anna --revoke", 0, "anna's token has been revoked\n"),
        (
            "mark-lost m",
            1,
            "Error: only machines that share their jobs through Redis can be given ",
        ),
    ],
)
def test_a_local_command_says_so_if_a_server_is_set(
    on_folder: Tailboard, tmp_path: Path, words: str, code: int, reported: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("anna", "a-token-of-anna"))
    settings = {"TAILBOARD_TOKENS": str(tokens)}
    done = on_folder(*words.split(), **settings)
    assert (done.exit_code, done.stderr.startswith(reported)) == (code, True), done.stderr
    tokens.write_text(token_line("anna", "a-token-of-anna"))
    done = on_folder(*words.split(), **settings, TAILBOARD_API="http://127.0.0.1:9")
    note, _, rest = done.stderr.partition("\n")
    command = words.split()[0]
    assert note == f"Note: `tailboard {command}` works on this machine, not on http://127.0.0.1:9"
    assert (done.exit_code, rest.startswith(reported)) == (code, True), done.stderr
    if command == "access":
        assert len(done.stdout.splitlines()) == len(OPERATIONS)
