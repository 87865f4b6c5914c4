"""What a user probably meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_NAME = 200  # characters that are compared, because comparing takes time


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to this one; None if no name is similar."""
    close = get_close_matches(name[:LONGEST_NAME], known, n=1)
    return close[0] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence: "; did you mean jobs?". Empty if no known name is similar."""
    meant = nearest(name, known)
    return f"; did you mean {meant}?" if meant else ""
