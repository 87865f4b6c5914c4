"""The line numbers of logs.

Counting the lines of a large log takes too long for one request. So each request counts for a short
time, and the next one continues from there."""

from __future__ import annotations

import time

from tailboard.logs import Log

COUNT_TIME = 0.02  # seconds of a request for counting all lines
LINE_NUMBER_TIME = 0.1  # seconds of a request for counting the lines before its first one
FIND_LINE_TIME = 1.0  # seconds of a request for finding the line that it asks for
COUNT_LIMIT = 256 << 20  # bytes whose lines are counted
LINE_COUNT_CACHE_SIZE = 1_000  # logs whose counts are remembered


class LineCounts:
    """Counts the lines of logs, and remembers the progress for the most recently requested logs."""

    def __init__(self) -> None:
        # Job ID -> (offset, lines that end before it). The log that was used last comes last.
        self.counts: dict[str, tuple[int, int]] = {}

    def total(self, job_id: str, log: Log, size: int) -> int | None:
        """How many lines the log has in its first `size` bytes. None if the beginning of the log
        was removed, if the log is too large, or if it is not counted to its end yet."""
        if log.start > 0 or size > COUNT_LIMIT:
            return None
        at, lines = self.counts.get(job_id, (0, 0))
        at, more = log.count_lines(at, size, time.monotonic() + COUNT_TIME)
        self._remember(job_id, at, lines + more)
        if at != size:
            return None
        is_last_unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
        return lines + more + is_last_unfinished

    def number_at(self, job_id: str, log: Log, offset: int) -> int | None:
        """The number, from 1, of the line that the byte at an offset is part of. None if the
        beginning of the log was removed, if counting up to there would take too long, or if it is
        not counted so far yet."""
        if log.start > 0:
            return None
        known, lines = self.counts.get(job_id, (0, 0))
        counted = known
        if offset < counted - offset:  # the beginning of the log is nearer
            counted, lines = 0, 0
        if abs(offset - counted) > COUNT_LIMIT:  # no request would get to the end
            return None
        deadline = time.monotonic() + LINE_NUMBER_TIME
        at, more = log.count_lines(min(counted, offset), max(counted, offset), deadline)
        if at > known:
            self._remember(job_id, at, lines + more)
        if at < max(counted, offset):
            return None
        return 1 + (lines + more if offset >= counted else lines - more)

    def offset_of(self, job_id: str, log: Log, number: int, size: int) -> tuple[int, int] | None:
        """(offset where a line begins, its number). If the log has fewer lines, the end of the log
        and the number of lines. None if counting up to there takes too long; a repeated request
        gets further."""
        known, lines = self.counts.get(job_id, (0, 0))
        begin = known if lines < number - 1 and known <= size else 0
        before = lines if begin else 0
        deadline = time.monotonic() + FIND_LINE_TIME
        at, more = log.skip_lines(begin, size, number - 1 - before, deadline)
        if at > known:
            self._remember(job_id, at, before + more)
        if at < size or number == 1:
            return (at, number) if before + more == number - 1 else None
        is_last_unfinished = size > 0 and log.read(size - 1, 1)[1] != b"\n"
        return size, before + more + is_last_unfinished

    def _remember(self, job_id: str, at: int, lines: int) -> None:
        self.counts.pop(job_id, None)
        self.counts[job_id] = at, lines
        while len(self.counts) > LINE_COUNT_CACHE_SIZE:
            self.counts.pop(next(iter(self.counts)), None)
