"""The line of a log that explains why a job ended badly."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tailboard.journal import shorten_hint

log = logging.getLogger("worker")

ERROR_PATTERNS = Path(__file__).parents[2] / "static" / "error_patterns.json"  # the page's, too
HINT_BYTES = 1 << 16  # of a log's end, in which the line is looked for that tells why a job failed
HINT_TIME = 0.05  # seconds for looking: a log may be made to take long
#
# What is a line's text, and whether that tells of an error, is for the page to say: the expressions
# are those of static/log_text.js.

LINE_LIMIT = 1_000  # characters of a line that are looked at; some patterns take the square of it
ESCAPE_RE = re.compile(
    r"\x1b(?!\[[0-9;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?"
)
COLOUR_RE = re.compile(r"\x1b\[[0-9;]*m")
RED_RE = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:31|91)(?:;[0-9;]*)?m")
UNSEEN_RE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def find_hint(data: bytes, attempt: int) -> str | None:
    """Of the end of a log, the last line of this attempt that looks like an error, or else its last
    line that is not empty; None where there is none."""
    lines = data.split(b"\n")
    if len(data) >= HINT_BYTES and len(lines) > 1:
        del lines[0]  # only its end is here
    deadline = time.monotonic() + HINT_TIME
    last = None
    for line in filter(None, reversed(lines)):
        raw = line.decode(errors="replace")
        if raw == attempt_notice(attempt) or time.monotonic() > deadline:
            break
        text = visible_text(raw)
        hint = shorten_hint(text)
        if hint and is_error(raw, text):
            return hint
        last = last or hint
    return last


def is_error(raw: str, text: str) -> bool:
    """Does a line tell of an error: has its program made it red, or does a pattern fit its text?"""
    if RED_RE.search(raw[-LINE_LIMIT:]):
        return True
    return any(pattern.search(text) for pattern in error_patterns())


def attempt_notice(number: int) -> str:
    """The line in a job's log before what a further attempt writes."""
    return f"--- attempt {number} ---"


def visible_text(raw: str) -> str:
    """What a terminal would show of a line: what was written last over the rest, with neither
    escape sequences nor control characters."""
    shown = raw.rstrip("\r").rpartition("\r")[2][:LINE_LIMIT]
    return UNSEEN_RE.sub("", COLOUR_RE.sub("", ESCAPE_RE.sub("", shown)))


@cache
def error_patterns() -> Sequence[re.Pattern[str]]:
    """The patterns of lines that tell of an error; none where their file cannot be read."""
    try:
        texts = json.loads(ERROR_PATTERNS.read_bytes())
        if not isinstance(texts, list):
            raise ValueError("it is not a list")
        return [re.compile(text, re.ASCII) for text in texts]
    except (OSError, ValueError, TypeError, RecursionError, OverflowError, re.error) as error:
        log.warning("no patterns of errors path=%s error=%r", ERROR_PATTERNS, str(error))
        return []
