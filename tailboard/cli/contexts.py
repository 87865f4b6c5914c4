"""The servers that a user has logged in to, with their tokens: a file that only the user can read.

A context is a name for a server, such as `work`. `tailboard login` stores it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import platformdirs

from tailboard.files import read_small, replace_file
from tailboard.settings import API_URL_RE
from tailboard.values import is_text, known_fields
from tailboard.web.tokens import locked_folder

LOCAL = "local"  # the name for --on that selects the folder, so no context has it
NAME_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAMES = f"1 to 64 letters, digits and . _ -, with a letter or digit first, and not {LOCAL!r}"


@dataclass(frozen=True)
class Context:
    """A server, and the token for it (empty if it needs none)."""

    name: str
    url: str
    token: str = ""

    def __post_init__(self) -> None:
        """ValueError if a value is invalid: somebody may have edited the file."""
        texts = (self.name, self.url, self.token)
        is_valid = all(isinstance(text, str) for text in texts)
        if not is_valid or not is_name(self.name) or not API_URL_RE.fullmatch(self.url):
            raise ValueError("it is not a context")


class Contexts:
    """The stored contexts by name, and the name of the current one: that of the last login."""

    def __init__(self) -> None:
        """Raises ClickException, with one sentence, if the file cannot be read."""
        path = platformdirs.user_config_path("tailboard") / "contexts.json"
        self.path = Path(os.path.realpath(path))  # a link to a folder with settings, perhaps
        self.by_name: dict[str, Context] = {}
        self.current: str | None = None
        try:
            self._load()
        except FileNotFoundError:
            return
        except OSError as error:
            raise click.ClickException(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            why = "it is not as `tailboard login` writes it; delete it, and log in again"
            raise click.ClickException(f"{self.path} cannot be used: {why}") from None

    def _load(self) -> None:
        stored = json.loads(read_small(str(self.path)))
        for record in stored["contexts"]:
            context = Context(**known_fields(Context, record))
            self.by_name[context.name] = context
        if not is_text(stored["current"]):
            raise ValueError("current is not a name")
        if stored["current"] in self.by_name:
            self.current = stored["current"]

    def save(self) -> None:
        """Replace the file. Only the user can read it, since it contains tokens."""
        stored = {
            "current": self.current,
            "contexts": [asdict(context) for context in self.by_name.values()],
        }
        content = json.dumps(stored, indent=2).encode() + b"\n"
        replace_file(str(self.path), content, private=True)


@contextmanager
def change_contexts() -> Iterator[Contexts]:
    """The contexts, which are saved at the end unless there was an error. Another command that
    changes them at the same time waits until then."""
    folder = Contexts().path.parent
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with locked_folder(str(folder)):
        contexts = Contexts()
        yield contexts
        contexts.save()


def is_name(name: str) -> bool:
    """Is this a valid name for a context?"""
    return NAME_RE.fullmatch(name) is not None and name != LOCAL


def find_context(contexts: Contexts, name: str) -> Context:
    """The stored context; an error, with the names that exist, if there is none."""
    if name in contexts.by_name:
        return contexts.by_name[name]
    known = ", ".join(contexts.by_name) or "none"
    raise click.ClickException(
        f"there is no context {name!r} (contexts: {known}); "
        f"`tailboard login URL --as {name}` makes one"
    )
