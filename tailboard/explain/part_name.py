"""The names of the parts of an explanation."""

from __future__ import annotations

from enum import StrEnum


class PartName(StrEnum):
    """In the order of the answer."""

    SECTIONS = "sections"
    PROGRESS = "progress"
    RESULTS = "results"
    ANNOTATIONS = "annotations"
    NEW_LINES = "new_lines"
    PAUSES = "pauses"
    FORECAST = "forecast"
    SILENCE = "silence"
    SEEN_BEFORE = "seen_before"
