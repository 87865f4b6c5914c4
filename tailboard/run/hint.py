"""The hint: the log line that explains why a job failed."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from functools import cache

from tailboard.journal import shorten_hint
from tailboard.roles import ROOT

log = logging.getLogger("worker")

ERROR_PATTERNS = ROOT / "static" / "error_patterns.json"  # the page uses it
HINT_BYTES = 1 << 16  # of the end of a log that are searched for the hint
HINT_TIME = 0.05  # seconds for the search: a job can write a log that takes long
LINE_LIMIT = 1_000  # characters of a line that are searched; some patterns take quadratic time
# Copies of the expressions in static/log_text.js, with which the page extracts the text of a line
# and decides whether it reports an error.
ESCAPE_RE = re.compile(
    r"\x1b(?!\[[0-9;]*m)(\[[0-?]*[ -/]*([@-~]|$)|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-Z\\^-~])?"
)
COLOUR_RE = re.compile(r"\x1b\[[0-9;]*m")
PALETTE_RE = re.compile(r"(?<![0-9])[34]8;(?:5;[0-9]*|2(?:;[0-9]*){3})")
RED_RE = re.compile(r"(?:^|;)(?:31|91)(?:;|$)")
UNSEEN_RE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def find_hint(data: bytes, attempt: int) -> str | None:
    """The last line of this attempt that looks like an error, or else its last line that is not
    empty; None if there is none. `data`: the last HINT_BYTES of the log, or all of it."""
    lines = data.split(b"\n")
    if len(data) >= HINT_BYTES and len(lines) > 1:
        del lines[0]  # drop a line whose beginning is cut off
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
    """Does a line report an error: is it red, or does one of the patterns match its text?"""
    sequences = (match[0][2:-1] for match in COLOUR_RE.finditer(raw[-LINE_LIMIT:]))
    if any(RED_RE.search(PALETTE_RE.sub("", sequence)) for sequence in sequences):
        return True
    return any(pattern.search(text) for pattern in error_patterns())


def attempt_notice(number: int) -> str:
    """The line in a job's log before the output of its second or a later attempt."""
    return f"--- attempt {number} ---"


def visible_text(raw: str) -> str:
    """A line as a terminal would show it: the text after the last carriage return, without escape
    sequences and control characters."""
    shown = raw.rstrip("\r").rpartition("\r")[2][:LINE_LIMIT]
    return UNSEEN_RE.sub("", COLOUR_RE.sub("", ESCAPE_RE.sub("", shown)))


@cache
def error_patterns() -> Sequence[re.Pattern[str]]:
    """The patterns of lines that report an error; none if their file cannot be read."""
    try:
        texts = json.loads(ERROR_PATTERNS.read_bytes())
        if not isinstance(texts, list):
            raise ValueError("it is not a list")
        return [re.compile(text, re.ASCII) for text in texts]
    except (OSError, ValueError, TypeError, RecursionError, OverflowError, re.error) as error:
        log.warning("error patterns not read path=%s error=%r", ERROR_PATTERNS, str(error))
        return []
