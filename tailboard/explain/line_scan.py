"""Searches a log for the lines that contain a pattern, at the speed of memory, in steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import re2

from tailboard import logs
from tailboard.explain import markers
from tailboard.logs import Log


class FoundLine(NamedTuple):
    """A line that contains the pattern."""

    offset: int
    raw: bytes  # its first markers.LINE_BYTES, without the newline
    following: int  # the offset of the next line, or the end of `raw` if that is not known


class LineScan:
    """Searches the lines of a log in order. It continues where it stopped, also after the log has
    grown. An unfinished last line is searched only once it has ended, or once the job has.

    A line of more than LINE_BYTES is found only by what is in the block of its beginning."""

    def __init__(self, pattern: str) -> None:
        """The pattern may begin with \\n, which also matches before the first line; RE2 then skips
        from line to line, and is several times as fast."""
        self.regex = compile_once(pattern)
        self.at = 0  # where to continue: the beginning of a line, or inside of a long one
        self._searched = (-1, False)  # up to which `end`, and was that final?

    def read(self, log: Log, end: int, is_final: bool, deadline: float) -> Iterator[FoundLine]:
        """The lines below the offset `end` that contain the pattern, until the `deadline` on the
        monotonic clock. `is_final`: nothing will be written after `end`."""
        while time.monotonic() < deadline:
            begin, data = self._read_block(log, end) if self.at < end else (end, b"")
            is_last = begin + len(data) >= end
            for line in self._search(begin, data, is_last and is_final):
                if time.monotonic() > deadline:
                    self.at = line.offset
                    return
                self.at = line.following
                yield line
            self.at = max(self.at, next_place(begin, data))
            if is_last or not data:
                self._searched = end, is_final
                return

    def has_searched(self, end: int, is_final: bool) -> bool:
        """Has a call of `read` with these arguments come to the end?"""
        return self._searched == (end, is_final)

    def _read_block(self, log: Log, end: int) -> tuple[int, bytes]:
        """(offset of the first byte, the bytes): they begin with what is before the next line."""
        if self.at == 0:
            begin, data = log.read(0, min(logs.SEARCH_BLOCK, end))
            return (-1, b"\n" + data) if begin == 0 and data else (begin, data)
        return log.read(self.at - 1, min(logs.SEARCH_BLOCK, end - self.at + 1))

    def _search(self, begin: int, data: bytes, is_final: bool) -> Iterator[FoundLine]:
        place = 0
        while match := self.regex.search(data, place):
            line = data.rfind(b"\n", 0, match.end()) + 1
            end = data.find(b"\n", match.end())
            if line > 0:
                available = (end if end >= 0 else len(data)) - line
                if end < 0 and available < markers.LINE_BYTES and not is_final:
                    return  # it continues in the next block, or is still being written
                raw = data[line : line + min(available, markers.LINE_BYTES)]
                following = end + 1 if end >= 0 else line + len(raw)
                yield FoundLine(begin + line, raw, begin + following)
            if end < 0:
                return
            place = end


@cache
def compile_once(pattern: str) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # the log may contain anything
    options.never_capture = True
    return re2.compile(pattern.encode(), options)


def next_place(begin: int, data: bytes) -> int:
    """Where to continue after a block: at its last line, unless that is long."""
    line = data.rfind(b"\n") + 1
    return begin + (line if 0 < line and len(data) - line < markers.LINE_BYTES else len(data))
