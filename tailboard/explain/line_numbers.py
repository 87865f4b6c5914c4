"""The numbers of some lines of a log, counted in steps."""

from __future__ import annotations

from collections.abc import Sequence

from tailboard.logs import Log


class LineNumbers:
    """Counts the lines before certain lines, in order."""

    def __init__(self) -> None:
        self._at, self._lines = 0, 0  # so many lines end before this offset
        self._numbers: dict[int, int] = {}  # by the offset of the line
        self._is_cut = False  # the beginning of the log was deleted before it was counted

    def work(self, log: Log, offsets: Sequence[int], deadline: float) -> bool:
        """Count on to the lines at these offsets, which are sorted, until the `deadline` on the
        monotonic clock. Returns True once all are numbered that can be."""
        for offset in offsets:
            if offset < self._at or offset in self._numbers:
                continue
            if self._is_cut or log.start > self._at:
                self._is_cut = True
                return True
            self._at, more = log.count_lines(self._at, offset, deadline)
            self._lines += more
            if self._at < offset:
                return False
            self._numbers[offset] = self._lines + 1
        return True

    def of(self, offset: int) -> int | None:
        """The number of the line at this offset, from 1; None if it is not known."""
        return self._numbers.get(offset)
