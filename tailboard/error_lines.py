"""Which lines of a log report an error, and which are notices of our own."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from functools import cache

from tailboard.roles import ROOT
from tailboard.visible_text import COLOUR_RE, LINE_LIMIT

log = logging.getLogger("tailboard")

ERROR_PATTERNS = ROOT / "static" / "error_patterns.json"  # the page uses it
# Copies of the expressions in static/log_text.js, with which the page decides whether a line is an
# error.
PALETTE_RE = re.compile(r"(?<![0-9])[34]8;(?:5;[0-9]*|2(?:;[0-9]*){3})")
RED_RE = re.compile(r"(?:^|;)(?:31|91)(?:;|$)")
# After one failure, pytest makes the percentages of all further lines red, also of passed tests.
ONLY_PERCENT_RE = re.compile(r" *\[ *[0-9]+%\](?:\x1b|\Z)")


def is_error(raw: str, text: str) -> bool:
    """Does a line report an error: is it red, or does one of the patterns match its text?"""
    return is_red(raw[-LINE_LIMIT:]) or any(pattern.search(text) for pattern in error_patterns())


def is_red(raw: str) -> bool:
    """Does a colour sequence make more red than a percentage?"""
    for sequence in COLOUR_RE.finditer(raw):
        sets_red = RED_RE.search(PALETTE_RE.sub("", sequence[0][2:-1]))
        if sets_red and not ONLY_PERCENT_RE.match(raw, sequence.end()):
            return True
    return False


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
