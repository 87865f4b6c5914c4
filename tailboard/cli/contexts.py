"""The servers that a user has logged in to, with their tokens: a file that only the user can read.

A context is a name for a server, such as `work`. `tailboard login` stores it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import platformdirs

from tailboard.files import replace_file
from tailboard.values import known_fields


@dataclass(frozen=True)
class Context:
    """A server, and the token for it (empty if it needs none)."""

    name: str
    url: str
    token: str = ""


class Contexts:
    """The stored contexts by name, and the name of the current one: the last login."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or platformdirs.user_config_path("tailboard") / "contexts.json"
        self.by_name: dict[str, Context] = {}
        self.current: str | None = None
        self._load()

    def _load(self) -> None:
        try:
            stored: dict[str, Any] = json.loads(self.path.read_bytes())
            for record in stored["contexts"]:
                context = Context(**known_fields(Context, record))
                self.by_name[context.name] = context
            self.current = stored["current"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = getattr(error, "strerror", None) or "it is not as `tailboard login` writes it"
            raise click.ClickException(f"{self.path} cannot be read: {why}") from None

    def save(self) -> None:
        """Replace the file. Only the user can read it, since it contains tokens."""
        os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
        stored = {
            "current": self.current,
            "contexts": [asdict(context) for context in self.by_name.values()],
        }
        content = json.dumps(stored, indent=2).encode() + b"\n"
        replace_file(str(self.path), content, private=True)
