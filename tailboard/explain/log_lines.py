"""Reads a log line by line, in steps, however long its lines are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from tailboard.logs import Log

BLOCK = 1 << 16  # bytes that are read at a time; a line that fills one is read in parts
KEPT_BYTES = 4_000  # of a line that are kept


class Line(NamedTuple):
    """A line of a log."""

    offset: int
    number: int | None  # from 1; None if the beginning of the log was deleted
    # Its bytes without the newline. Of a long line, only the part that matters: what follows the
    # last carriage return near its end, else its beginning.
    raw: bytes


class LineReader:
    """Reads the lines of a log in order. It continues where it stopped, also after the log has
    grown. An unfinished last line is read only once it has ended, or once the job has."""

    def __init__(self) -> None:
        self.at = 0  # the offset of the next line
        self.number: int | None = 1
        self._long_at = 0  # how far a line without an end has been read; 0: not at all
        self._head, self._tail = b"", b""  # the beginning and the end of what was read of it
        self._is_final = False  # is an unfinished line read, too?

    def read(self, log: Log, has_ended: bool, deadline: float) -> Iterator[Line]:
        """The next lines, until the `deadline` on the monotonic clock. `has_ended`: the
        log is complete."""
        self._is_final = has_ended
        while time.monotonic() < deadline:
            begin, data = log.read(max(self.at, self._long_at), BLOCK)
            if begin > max(self.at, self._long_at):
                self._skip_deleted(begin)
            if not data:
                if self._long_at and has_ended:
                    yield self._end_long(b"", self._long_at)
                return
            is_end = has_ended and begin + len(data) >= log.size
            *lines, rest = data.split(b"\n")
            is_inside = not lines  # of one line
            if lines and self._long_at:
                first = lines.pop(0)
                yield self._end_long(first, self._long_at + len(first) + 1)
            for raw in lines:
                if time.monotonic() > deadline:
                    return
                yield self._pass(shorten_line(raw), self.at + len(raw) + 1)
            if rest and is_end and not self._long_at:
                yield self._pass(shorten_line(rest), self.at + len(rest))
            elif is_inside and not self._step_over(rest, begin, is_end):
                return

    def is_at_end(self, log: Log) -> bool:
        """Were all lines read that the log has now? An unfinished last one counts once the job has
        ended."""
        return max(self.at, 0 if self._is_final else self._long_at) >= log.size

    def _pass(self, raw: bytes, following: int) -> Line:
        line = Line(self.at, self.number, raw)
        self.at = following
        self.number = None if self.number is None else self.number + 1
        return line

    def _skip_deleted(self, begin: int) -> None:
        """The log was trimmed, so the next line begins inside of one that was cut."""
        self.at, self.number, self._long_at = begin, None, 0

    def _step_over(self, data: bytes, begin: int, is_end: bool) -> bool:
        """Read on in a line that is longer than a block. Returns False if its rest is still to be
        written."""
        if len(data) < BLOCK and not is_end:
            return False
        if not self._long_at:
            self._head = data[:KEPT_BYTES]
        self._tail = data[-KEPT_BYTES:]
        self._long_at = begin + len(data)
        return True

    def _end_long(self, last: bytes, following: int) -> Line:
        raw = last_overwrite((self._tail + last)[-KEPT_BYTES:]) or self._head
        self._long_at, self._head, self._tail = 0, b"", b""
        return self._pass(raw, following)


def shorten_line(raw: bytes) -> bytes:
    """At most KEPT_BYTES of a line: what follows its last carriage return, else its beginning."""
    if len(raw) <= KEPT_BYTES:
        return raw
    return last_overwrite(raw[-KEPT_BYTES:]) or raw[:KEPT_BYTES]


def last_overwrite(end: bytes) -> bytes:
    """What follows the last carriage return in the end of a line; b"" if it has none."""
    _, found, shown = end.rstrip(b"\r").rpartition(b"\r")
    return shown if found else b""
