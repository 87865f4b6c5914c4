"""The reference pages list exactly what exists: docs/commands.md each command with its options,
docs/settings.md each setting. And the film in the README is small enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from conftest import ROOT
from PIL import Image

from tailboard.cli.main import tailboard
from tailboard.settings import SETTING_NAMES
from worker import main as worker_command

COMMANDS = ROOT / "docs" / "commands.md"
SETTINGS = ROOT / "docs" / "settings.md"
EVERYWHERE = {"--on", "--help", "--version"}  # described once, for all commands
OF_COMMANDS = {"TAILBOARD_CONTEXT"}  # no program reads it


def options_in(text: str) -> set[str]:
    """The options in a cell of a table, such as `--tail N`."""
    return set(re.findall(r"`(--?[a-z][a-z-]*)", text))


def rows(path: Path, section: str = "") -> Iterator[list[str]]:
    """The cells of the tables on a page, or below one of its headings; without the heads."""
    text = path.read_text()
    if section:
        text = re.split(r"^#+ ", text.partition(f"# {section}\n")[2], maxsplit=1, flags=re.M)[0]
    for line in re.findall(r"^\| (`.*) \|$", text, flags=re.M):
        yield re.split(r"\s*\|\s*", line)


def shared_options(cell: str) -> set[str]:
    """The options of the tables to which a cell refers."""
    found: set[str] = set()
    for section in ("Options of a job", "Options that select jobs"):
        if f"(#{section.lower().replace(' ', '-')})" in cell:
            found |= {option for row in rows(COMMANDS, section) for option in options_in(row[0])}
    return found


def documented_commands() -> dict[str, set[str]]:
    """The commands of docs/commands.md, such as "saved pause", with their options."""
    found = {}
    for command, *cells in rows(COMMANDS):
        words = re.match(r"`tailboard ((?:[a-z-]+ ?)+)", command)
        if words:
            found[words[1].strip()] = options_in(cells[0]) | shared_options(cells[0])
    return found


def options_of(command: click.Command) -> set[str]:
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {text for option in options for text in option.opts} - EVERYWHERE


def registered_commands(group: click.Group, path: str = "") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found[path + name] = options_of(command)
        if isinstance(command, click.Group):
            found |= registered_commands(command, f"{path}{name} ")
    return found


def test_the_page_of_the_commands_lists_each_command_with_its_options() -> None:
    assert documented_commands() == registered_commands(tailboard)


def test_it_lists_each_option_of_a_worker() -> None:
    documented = [options_in(row[0]) for row in rows(COMMANDS, "Start Tailboard")]
    assert set().union(*documented) == options_of(worker_command)


def test_the_page_of_the_settings_lists_each_setting() -> None:
    documented = {
        name for row in rows(SETTINGS) for name in re.findall("TAILBOARD_[A-Z_]+", row[0])
    }
    assert documented == {f"TAILBOARD_{name.upper()}" for name in SETTING_NAMES} | OF_COMMANDS


def test_the_film_is_short_small_and_readable() -> None:
    path = ROOT / ".github" / "demo.gif"
    assert path.stat().st_size <= 1_500_000
    with Image.open(path) as film:
        assert 830 <= film.width <= 1000
        seconds = 0.0
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            seconds += film.info["duration"] / 1000
    assert 8 <= seconds <= 15
