"""The rules of saved commands by which their jobs are kept, as they are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from tailboard.errors import CommandNotFound
from tailboard.keep_rules import Rules, rules_in
from tailboard.saved_command import SavedCommand


class SavedReader(Protocol):
    """Reads the saved commands of a storage, see `storage.SavedCommands`."""

    def names(self) -> Sequence[str]: ...

    def list(self) -> Sequence[SavedCommand]: ...

    def load(self, name: str) -> SavedCommand: ...


class SavedRules:
    """The rules of the saved commands of a storage."""

    def __init__(self, saved: SavedReader) -> None:
        self._saved = saved

    def all(self) -> Mapping[str, Rules | None]:
        """Those of the commands that exist; None for each that is damaged."""
        rules: dict[str, Rules | None] = dict.fromkeys(self._saved.names())
        return rules | {command.saved: rules_in(command) for command in self._saved.list()}

    def of(self, name: str) -> Rules | None:
        """Those of one command; None if it was deleted or is damaged."""
        with suppress(CommandNotFound):
            return rules_in(self._saved.load(name))
        return None
