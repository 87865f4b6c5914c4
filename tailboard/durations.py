"""Durations in words, as the page shows them (static/format.js)."""

from __future__ import annotations

SHORTEST = 0.05  # seconds: what is shorter would be rounded to 0.0 s
TENTHS_BELOW = 10  # seconds; longer durations are rounded down
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def format_duration(seconds: float) -> str:
    """A duration with two units at most: "1.5 s", "13 s", "2 min 5 s", "3 h 20 min"."""
    time = max(0.0, seconds)
    if time < SHORTEST:
        return "< 0.1 s"
    if time < TENTHS_BELOW:
        return f"{time:.1f} s"
    whole = int(time)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


def format_roughly(seconds: float) -> str:
    """A duration in its largest unit: "36 s", "2 min", "3 h", "4 d"."""
    whole = int(max(0.0, seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h"
    return f"{whole // DAY} d"


def format_usual(seconds: float) -> str:
    """The same, with tenths of a second below TENTHS_BELOW: "0.5 s", "36 s", "2 min"."""
    return format_duration(seconds) if seconds < TENTHS_BELOW else format_roughly(seconds)
