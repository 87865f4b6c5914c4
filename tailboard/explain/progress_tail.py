"""The progress of a running job, from the end of its log: quick enough for the list of jobs."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from tailboard.explain.line_scan import FoundLine, LineScan
from tailboard.explain.markers import BEFORE, Progress, SectionStart, clean, parse_marker
from tailboard.explain.truncation import TruncationCheck
from tailboard.logs import Log
from tailboard.visible_text import visible_text

TAIL_BYTES = 1 << 20  # that are read at most
MOST_PARSED = 1_000  # lines: others of a log that consists of nothing else are not looked at
BAR_BYTES = 4_096  # of the last line, for a progress bar
BAR_TEXT = 100  # characters
PATTERN = rf"\n{BEFORE}(?:::progress\b|--- attempt )"
# "40%", "40.5 %", but not a part of another number or word.
PERCENT_RE = re.compile(r"(?<![\w.,-])(100|[0-9]{1,2})(?:[.,]([0-9]{1,6}))? ?%(?![\w%])( ?[|\[▕])?")


class OwnProgress(NamedTuple):
    """The progress that a job itself has reported."""

    progress: Progress
    source: str  # "marker" or "bar"


class ProgressTail:
    """Follows the progress of one attempt of a job. It reads only what was written since, and of
    that only the end."""

    def __init__(self) -> None:
        self.shown: OwnProgress | None = None
        self._marked: Progress | None = None  # by the newest marker
        self._truncation = TruncationCheck()
        self._at = 0  # up to where the log was read: the beginning of a line, if that is short

    def read(self, log: Log, deadline: float) -> bool:
        """Read what was written since the last call, until the `deadline` on the monotonic clock.
        Returns True if it was read to its end."""
        size = log.size
        if self._truncation.is_found(log):
            self._at, self._marked = 0, None
        scan = LineScan(PATTERN)
        scan.at = max(self._at, size - TAIL_BYTES)
        self._look_at(list(scan.read(log, size, False, deadline)))
        self._at, is_complete = scan.at, scan.has_searched(size, False)
        self._truncation.remember(log, self._at)
        if self._marked:
            self.shown = OwnProgress(self._marked, "marker")
        elif is_complete:
            bar = bar_at_end(log, size)
            self.shown = OwnProgress(bar[1], "bar") if bar else None
        return is_complete

    def _look_at(self, lines: list[FoundLine]) -> None:
        for line in islice(reversed(lines), MOST_PARSED):
            marker = parse_marker(line.raw)
            if isinstance(marker, Progress):
                self._marked = marker
                return
            if isinstance(marker, SectionStart) and marker.attempt is not None:
                self._marked = None  # what is before it is of an earlier attempt
                return


def bar_at_end(log: Log, size: int) -> tuple[int, Progress] | None:
    """The progress bar in the last line of a log, with the offset of its newest text; None if there
    is none. The line of a bar that is still drawn has no end."""
    begin, data = log.read(max(0, size - BAR_BYTES), min(size, BAR_BYTES))
    line = data.rfind(b"\n") + 1
    if b"\r" not in data[line:].rstrip(b"\r"):  # on a terminal, each line ends with \r\n
        return None
    place = len(data)
    for part in reversed(data[line:].split(b"\r")):
        place -= len(part)
        if part:
            progress = parse_bar(part)
            return (begin + place, progress) if progress else None
        place -= 1
    return None


def parse_bar(raw: bytes) -> Progress | None:
    """The progress that a bar shows. None if it has no percentage, or several and it is not clear
    which of them counts."""
    text = visible_text(raw.decode(errors="replace")).strip()
    found = list(islice(PERCENT_RE.finditer(text), 10))
    bars = [match for match in found if match[3]] or found
    if len({match[0] for match in bars}) != 1:
        return None
    percent = float(f"{bars[0][1]}.{bars[0][2] or 0}")
    return Progress(percent, clean(text, BAR_TEXT)) if percent <= 100 else None
