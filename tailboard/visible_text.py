"""The visible text of a line in a log."""

from __future__ import annotations

import re

LINE_LIMIT = 1_000  # characters of a line that are looked at; some patterns take quadratic time
# Copies of the expressions in static/log_text.js, with which the page extracts the text of a line.
ESCAPE_RE = re.compile(
    r"\x1b(?!\[[0-9;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?"
)
COLOUR_RE = re.compile(r"\x1b\[[0-9;]*m")
UNSEEN_RE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def visible_text(raw: str, limit: int = LINE_LIMIT) -> str:
    """A line as a terminal would show it: the text after the last carriage return, without escape
    sequences and control characters. `limit`: characters of that text that are looked at."""
    shown = raw.rstrip("\r").rpartition("\r")[2][:limit]
    return UNSEEN_RE.sub("", COLOUR_RE.sub("", ESCAPE_RE.sub("", shown)))
