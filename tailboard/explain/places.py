"""Finds lines of a log by their offsets, and their numbers."""

from __future__ import annotations

from collections.abc import Iterable

from tailboard.explain import log_lines
from tailboard.explain.anchors import BLANK
from tailboard.explain.log_lines import Line, shorten_line
from tailboard.explain.normal import line_key
from tailboard.logs import Log

MOST_BLANK = 5  # blank lines that are skipped to find one with text
MOST_COUNTED = 1 << 30  # bytes whose lines are counted; about a second


def read_line(log: Log, inside: int) -> Line | None:
    """The line that contains the byte at the offset `inside`, as LineReader yields it, without its
    number; a part of a very long line. None if the byte was deleted or not written yet."""
    at = log.line_at(inside)
    begin, data = log.read(at, log_lines.BLOCK)
    if begin != at or inside >= log.size:
        return None
    return Line(at, None, shorten_line(data.split(b"\n", 1)[0]))


def line_before(log: Log, offset: int) -> Line | None:
    """The last line that begins before an offset; before up to MOST_BLANK blank lines, if it has
    text. None if there is no line, or if it was deleted."""
    first = None
    for _ in range(MOST_BLANK):
        line = read_line(log, offset - 1) if offset > log.start else None
        if line is None:
            break
        if line_key(line.raw) not in BLANK:
            return line
        first, offset = first or line, line.offset
    return first


def line_after(log: Log, offset: int) -> Line | None:
    """The line that contains an offset; after up to MOST_BLANK blank lines, if it has text. None if
    the log ends there."""
    first = None
    for _ in range(MOST_BLANK):
        line = read_line(log, offset)
        if line is None:
            break
        if line_key(line.raw) not in BLANK:
            return line
        first, offset = first or line, line.offset + len(line.raw) + 1
    return first


class LineNumbers:
    """The numbers of some lines, counted in steps."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}  # by the offset where the line begins
        self._at, self._ended = 0, 0  # so many lines end before this offset

    def work(self, log: Log, offsets: Iterable[int], deadline: float) -> bool:
        """Count on until the `deadline` on the monotonic clock. Returns True if the number of each
        line that begins at one of the `offsets` is known, or can never be."""
        if log.start > 0:  # it is unknown how many lines were deleted
            self.known.clear()
            return True
        for offset in sorted(set(offsets) - self.known.keys()):
            if self._at <= offset <= MOST_COUNTED:
                self._at, ended = log.count_lines(self._at, offset, deadline)
                self._ended += ended
                if self._at < offset:
                    return False
                self.known[offset] = self._ended + 1
        return True
