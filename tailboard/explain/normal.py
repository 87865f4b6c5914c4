"""Compares lines of different runs: what differs between any two runs is replaced."""

from __future__ import annotations

import re

DIGITS_RE = re.compile(rb"[0-9]+")


def normal_line(raw: bytes) -> bytes:
    """A line without its colours, with its numbers, times, hashes and paths in /tmp replaced. Two
    lines say the same if their normal forms are equal."""
    return DIGITS_RE.sub(b"0", raw)


def line_key(raw: bytes) -> int:
    """A hash of the normal form: 64 bits, not negative, the same within one process."""
    return hash(normal_line(raw)) & 0xFFFF_FFFF_FFFF_FFFF
