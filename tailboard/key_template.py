"""The key of a saved command, which can contain the values of its params, such as "deploy-$ENV"."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

MAX_KEY = 64  # characters
# $$, $NAME, ${NAME}, or anything else after a dollar sign, which is a mistake:
REFERENCE_RE = re.compile(r"\$(?:(\$)|([A-Za-z0-9_]+)|\{([^{}]*)\}|.?)", re.DOTALL)


def names_in(template: str) -> set[str]:
    """The names after the dollar signs of a template. One that cannot be a name, for example "" of
    a dollar sign at the end, is among them."""
    found = REFERENCE_RE.finditer(template)
    return {_name_of(reference) for reference in found if not reference[1]}


def _name_of(reference: re.Match[str]) -> str:
    return reference[2] or reference[3] or ""


def check_template(template: str, params: Collection[str]) -> None:
    """ValueError if the template uses anything else than these params."""
    for reference in REFERENCE_RE.finditer(template):
        if not reference[1] and _name_of(reference) not in params:
            known = ", ".join(params) or "none"
            raise ValueError(
                f"key may use only its own params: {known}; not {reference[0][:80]}"
                f"{_advice(reference)}"
            )


def _advice(reference: re.Match[str]) -> str:
    return "" if _name_of(reference) else " (write $$ for a dollar sign)"


def fill_key(template: str, values: Mapping[str, str]) -> str:
    """The key of a run with these values. ValueError if no job can have it."""
    key = REFERENCE_RE.sub(lambda found: found[1] or values[_name_of(found)], template)
    if not key.strip() or len(key) > MAX_KEY or not key.isprintable():
        raise ValueError(f"key must be 1 to {MAX_KEY} characters of one line, not {key!r:.100}")
    return key


def plain_template(key: str) -> str:
    """The template whose runs have exactly this key."""
    return key.replace("$", "$$")
