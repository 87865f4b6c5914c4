"""The lines of a failed log that its earlier successes do not have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tailboard.error_lines import attempt_notice, is_error
from tailboard.explain.known_lines import KnownLines
from tailboard.explain.log_lines import Line, LineReader
from tailboard.explain.normal import has_words, line_key
from tailboard.explain.part import Part, Place, Subject
from tailboard.logs import Log
from tailboard.status import FAILURES
from tailboard.visible_text import visible_text

MOST_RANGES = 1_000  # that an answer contains
# Lines that report an error which a later line explains: of Python, of pytest -v, and headings.
ANNOUNCEMENT_RE = re.compile(
    r"Traceback \(most recent call last\)|.* FAILED +\[ *[0-9]+%\]$|[_=-]{3}.*[_=-]{3}$"
)
OUTPUT_BLOCK = 4_096  # bytes; a program that buffers its output writes a multiple of it at once
MOST_CHECKED = 10_000  # new lines among which the first error is looked for


class NewRange(NamedTuple):
    """New lines that follow each other, with the lines without words between them."""

    offset: int
    end: int  # the offset after its last line
    line: int | None  # the number of its first line, from 1
    lines: int


class NewLines:
    """The new lines of one attempt."""

    def __init__(self) -> None:
        self.ranges: list[NewRange] = []  # at most the first MOST_RANGES
        self.count = 0
        self._first: Place | None = None
        self._first_announcement: Place | None = None
        self._first_error: Place | None = None  # that is not an announcement
        self._last: NewRange | None = None  # the newest one, also beyond MOST_RANGES
        self._checked = 0
        self._wordless = 0  # lines since the newest one that is new

    def add(self, line: Line, end: int) -> None:
        """Add a new line that ends at this offset."""
        last = self._last
        if last is None:
            self._last = NewRange(line.offset, end, line.number, 1)
            self._add_range(self._last)
        else:
            lines = last.lines + self._wordless + 1
            self.count += self._wordless
            self._last = last._replace(end=end, lines=lines)
            if self.ranges[-1].offset == last.offset:
                self.ranges[-1] = self._last
        self.count += 1
        self._wordless = 0
        self._check(line)

    def _add_range(self, new: NewRange) -> None:
        if len(self.ranges) < MOST_RANGES:
            self.ranges.append(new)

    def _check(self, line: Line) -> None:
        """Note the line if it is the first of its kind."""
        self._first = self._first or Place.of(line)
        if self._first_error or self._checked == MOST_CHECKED:
            return
        self._checked += 1
        if not reports_error(line.raw):
            return
        if not ANNOUNCEMENT_RE.match(visible_text(line.raw.decode(errors="replace"))):
            self._first_error = Place.of(line)
        elif self._first_announcement is None:
            self._first_announcement = Place.of(line)

    @property
    def first(self) -> Place | None:
        """The first new line that reports an error, else the first new line."""
        return self._first_error or self._first_announcement or self._first

    def skip(self, line: Line) -> None:
        """A line is not new."""
        if self._last is None:
            return
        if has_words(line.raw):
            self._last = None
            self._wordless = 0
        else:
            self._wordless += 1


class NewLinesPart(Part):
    """The lines of a failed log that its earlier successes do not have, compared by their normal
    form. Only the last attempt counts. KnownLines explains which lines do not count as new although
    no success has them."""

    def __init__(self) -> None:
        self._runs: Sequence[str] = ()  # the IDs of the successes
        self._known: KnownLines | None = None  # None: the work is done
        self._reader = LineReader()
        self._found = NewLines()
        self._unavailable: str | None = None

    def work(self, subject: Subject, deadline: float) -> bool:
        if subject.job.status not in FAILURES or not subject.earlier:
            return True
        runs = [run.id for run in subject.earlier]
        if runs != self._runs:
            self._runs, self._known = runs, subject.profiles.known_lines(subject.earlier)
            self._reader, self._found = LineReader(), NewLines()
            self._unavailable = None
        if self._known is None:
            return True
        if not self._known.work(subject.store, deadline):
            return False
        self._unavailable = self._known.unavailable
        if self._unavailable is None:
            self._read(self._known, subject, deadline)
            if not self._reader.is_at_end(subject.log):
                return False
            if self._known.varies_everywhere and not self._found.count:
                self._unavailable = (
                    "Most lines differ from run to run, and none reports a new error."
                )
        self._known = None
        return True

    def _read(self, known: KnownLines, subject: Subject, deadline: float) -> None:
        attempt = subject.job.attempt
        notice = attempt_notice(attempt).encode() if attempt > 1 else None
        for line in self._reader.read(subject.log, True, deadline):
            if line.raw == notice:
                self._found = NewLines()
            elif self._is_new(line, known, subject.log):
                self._found.add(line, self._reader.at)
            else:
                self._found.skip(line)

    def _is_new(self, line: Line, known: KnownLines, log: Log) -> bool:
        key = line_key(line.raw)
        if known.has(key) or not has_words(line.raw):
            return False
        if known.varies(key) and not reports_error(line.raw):
            return False
        if 0 < line.offset == log.start:
            return False  # its beginning was deleted
        # A program that was killed has not written the rest of its buffer: half a line proves
        # nothing.
        is_unfinished = line.offset + len(line.raw) == log.size
        return not is_unfinished or log.size % OUTPUT_BLOCK != 0

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        if subject.job.status not in FAILURES:
            return None
        unavailable = self._unavailable
        if not subject.earlier:
            unavailable = "There is no earlier success to compare with."
        first = self._found.first
        return {
            "unavailable": unavailable,
            "count": self._found.count,
            "first": first and first._asdict(),
            "ranges": [each._asdict() for each in self._found.ranges],
        }


def reports_error(raw: bytes) -> bool:
    """Does a line report an error? See error_lines.is_error."""
    text = raw.decode(errors="replace")
    return is_error(text, visible_text(text))
