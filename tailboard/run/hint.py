"""The hint: the log line that explains why a job failed."""

from __future__ import annotations

import time

from tailboard.error_lines import attempt_notice, is_error
from tailboard.explain.markers import (
    Annotation,
    GroupEnd,
    OpenSection,
    Progress,
    Result,
    parse_marker,
)
from tailboard.journal import shorten_hint
from tailboard.visible_text import visible_text

HINT_BYTES = 1 << 16  # of the end of a log that are searched for the hint
SILENT_MARKERS = (GroupEnd, OpenSection, Progress, Result)  # they do not say what the job does
HINT_TIME = 0.05  # seconds for the search: a job can write a log that takes long


def find_hint(data: bytes, attempt: int) -> str | None:
    """The last line of this attempt that looks like an error, or else its last line that is neither
    empty nor a marker such as ::endgroup::; None if there is none. `data`: the last HINT_BYTES of
    the log, or all of it."""
    lines = data.split(b"\n")
    if len(data) >= HINT_BYTES and len(lines) > 1:
        del lines[0]  # drop a line whose beginning is cut off
    deadline = time.monotonic() + HINT_TIME
    last = None
    for line in filter(None, reversed(lines)):
        raw = line.decode(errors="replace")
        if raw == attempt_notice(attempt) or time.monotonic() > deadline:
            break
        text, marker = visible_text(raw), parse_marker(line)
        hint = shorten_hint(describe(marker) if isinstance(marker, Annotation) else text)
        if hint and is_error(raw, text):
            return hint
        if last is None and not isinstance(marker, SILENT_MARKERS):
            last = hint
    return last


def describe(annotation: Annotation) -> str:
    """An annotation as a sentence: "error: no such column (migrate.py:42)"."""
    place = [str(part) for part in (annotation.file, annotation.file_line) if part is not None]
    where = f" ({':'.join(place)})" if annotation.file else ""
    return f"{annotation.level}: {annotation.text.partition(chr(10))[0]}{where}"
