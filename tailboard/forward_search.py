"""Searching a log from an offset on, in order. Log.search goes backwards."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tailboard.logs import Log
from tailboard.matching import Matcher


class ForwardSearch:
    """The lines of a log that match, from an offset on, in order."""

    def __init__(self, log: Log, matcher: Matcher, begin: int, end: int, deadline: float) -> None:
        """`begin`: where a line begins. The search stops at `deadline` on the monotonic clock."""
        self.log, self.matcher = log, matcher
        self.end, self.deadline = end, deadline
        self.reached = begin  # all lines that begin before this offset are searched

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs: where the line begins, and where its first match begins."""
        found, line = -1, self.reached
        while self.reached < self.end and time.monotonic() < self.deadline:
            begin = self.reached
            block = self.log.pread(min(self.matcher.step, self.end - begin), begin)
            if not block:  # the log was truncated
                self.reached = self.end
                return
            lines = block.rfind(b"\n") + 1
            part = block[:lines] if lines else block  # a piece of a very long line
            for at in self.matcher.first_in_lines(part):
                newline = part.rfind(b"\n", 0, at)
                of_match = line if newline < 0 else begin + newline + 1
                if of_match != found:
                    yield of_match, begin + at
                found = of_match
            if lines:
                line = begin + lines
            self.reached = self._behind(begin, part, lines > 0)

    def _behind(self, begin: int, part: bytes, is_whole: bool) -> int:
        """Where the next block begins."""
        end = begin + len(part)
        return end if is_whole or end >= self.end else max(begin + 1, end - self.matcher.overlap)
