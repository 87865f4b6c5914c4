"""The Lua scripts that Redis runs, each with the functions and constants that it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from tailboard.files import SMALL_FILE
from tailboard.folder.saved_files import RUNS_KEPT
from tailboard.order import DAMAGED_LIMIT, FAILURE_WORDS, MAX_LIMIT

DEFINITION_RE = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)


@cache
def load_scripts() -> Mapping[str, str]:
    """The scripts by name. The files are read at the first call."""
    from pathlib import Path  # imported here: it takes time, and a folder needs no scripts

    folder = Path(__file__).parent / "lua"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.lua")}
    shared = [*_constants(), *texts.pop("begin").split("\n\n")]
    return {name: _with_shared(text, shared) for name, text in texts.items()}


def _constants() -> Sequence[str]:
    """The constants that the scripts share with Python, as Lua."""
    words = ", ".join(f"{status} = '{word}'" for status, word in FAILURE_WORDS.items())
    return (
        f"local RUNS_KEPT, SMALL_FILE = {RUNS_KEPT}, {SMALL_FILE}",
        f"local MAX_LIMIT, DAMAGED_LIMIT = {MAX_LIMIT}, {DAMAGED_LIMIT}",
        f"local FAILURE_WORDS = {{{words}}}",
    )


def _with_shared(script: str, shared: Sequence[str]) -> str:
    """The script after the shared parts that it uses. Redis defines all functions anew at each
    call, so others would only take time. A part uses only the parts before it."""
    parts, used = [script], _words(script)
    for part in reversed(shared):
        defined = ", ".join(DEFINITION_RE.findall(part)).split(", ")
        if used.intersection(defined):
            parts.insert(0, part)
            used |= _words(part)
    return "\n\n".join(parts)


def _words(lua: str) -> set[str]:
    """The names and other words in a script, without those of its comments."""
    return set(re.findall(r"\w+", re.sub("--.*", "", lua)))
