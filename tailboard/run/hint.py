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
from tailboard.visible_text import COLOUR_RE, LINE_LIMIT, visible_text

log = logging.getLogger("worker")

ERROR_PATTERNS = ROOT / "static" / "error_patterns.json"  # the page uses it
HINT_BYTES = 1 << 16  # of the end of a log that are searched for the hint
HINT_TIME = 0.05  # seconds for the search: a job can write a log that takes long
# Copies of the expressions in static/log_text.js, with which the page decides whether a line is an
# error.
PALETTE_RE = re.compile(r"(?<![0-9])[34]8;(?:5;[0-9]*|2(?:;[0-9]*){3})")
RED_RE = re.compile(r"(?:^|;)(?:31|91)(?:;|$)")


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
