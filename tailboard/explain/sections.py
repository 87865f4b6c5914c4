"""The sections of a log."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from typing import Any

from tailboard.error_lines import error_patterns, is_error
from tailboard.explain.line_scan import LineScan, compile_once
from tailboard.explain.log_marks import Section
from tailboard.explain.markers import Annotation, SectionStart, parse_marker
from tailboard.explain.part import Part, Subject
from tailboard.explain.places import LineNumbers
from tailboard.logs import Log
from tailboard.values import parse_time, utc
from tailboard.visible_text import visible_text


class SectionsPart(Part):
    """The sections of a log, when they were written, and how many of their lines report an
    error."""

    def __init__(self) -> None:
        self._restarts = 0  # see LogMarks
        self._restart()

    def _restart(self) -> None:
        self._numbers = LineNumbers()
        self._times: dict[int, float] = {}  # when the line at an offset was written, since 1970
        self._errors: dict[int, int] = {}  # how many lines report one, by the offset of the section
        self._scan = LineScan(error_candidates())

    def work(self, subject: Subject, deadline: float) -> bool:
        end = subject.log.size
        are_known = subject.marks.work(subject.log, end, subject.has_ended, deadline)
        if subject.marks.restarts != self._restarts:
            self._restarts = subject.marks.restarts
            self._restart()
        sections = subject.marks.found.sections
        self._find_times(subject.log, sections)
        numbered = self._numbers.work(subject.log, [each.offset for each in sections], deadline)
        if not sections or not are_known:
            return are_known
        last_end = sections[-1].end
        limit, is_final = (end, subject.has_ended) if last_end is None else (last_end, True)
        self._count_errors(subject.log, limit, is_final, sections, deadline)
        return numbered and self._scan.has_searched(limit, is_final)

    def _find_times(self, log: Log, sections: list[Section]) -> None:
        """When the sections began and ended. A time that was found once does not change."""
        begins = {section.offset for section in sections}
        ends = {section.ended_by for section in sections if section.ended_by is not None}
        missing = (begins | ends) - self._times.keys()
        if not missing:
            return
        with log.samples() as samples:
            for offset in missing:
                place = bisect_right(samples, offset, key=lambda sample: sample[1])
                if place < len(samples):
                    self._times[offset] = min(samples[place][0], log.changed_at)

    def _count_errors(
        self, log: Log, end: int, is_final: bool, sections: list[Section], deadline: float
    ) -> None:
        """Read on up to the offset `end`, and count the lines that report an error. All sections
        before it are known."""
        offsets = [section.offset for section in sections]
        self._scan.at = max(self._scan.at, offsets[0])  # nothing before the first one counts
        for line in self._scan.read(log, end, is_final, deadline):
            section = sections[bisect_right(offsets, line.offset) - 1]
            if section.end is not None and line.offset >= section.end:
                continue
            if counts_as_error(line.raw):
                self._errors[section.offset] = self._errors.get(section.offset, 0) + 1

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        found = subject.marks.found
        return {
            "count": found.section_count,
            "sections": [self._shown(section, subject) for section in list(found.sections)],
        }

    def _shown(self, section: Section, subject: Subject) -> dict[str, Any]:
        end = section.end
        if end is None and subject.has_ended:
            end = subject.log.size
        begun, ended = self._time_at(section.offset, subject), self._end_of(section, subject)
        seconds = None if begun is None or ended is None else max(0.0, round(ended - begun, 3))
        return {
            "name": section.name,
            "kind": section.kind,
            "is_open": section.is_open,
            "offset": section.offset,
            "line": self._numbers.known.get(section.offset),
            "end": end,
            "started_at": None if begun is None else utc(begun),
            "seconds": seconds,
            "errors": self._errors.get(section.offset, 0),
        }

    def _time_at(self, offset: int, subject: Subject) -> float | None:
        """When the line at this offset was written, in seconds since 1970. If the size of the log
        was not measured since: when it was last written to."""
        return self._times.get(offset) or subject.log.changed_at or None

    def _end_of(self, section: Section, subject: Subject) -> float | None:
        """When a section ended, in seconds since 1970; None if the job may still write to it."""
        if section.ended_by is not None:
            return self._time_at(section.ended_by, subject)
        if subject.job.finished_at is None:
            return None
        return parse_time(subject.job.finished_at)


def counts_as_error(raw: bytes) -> bool:
    """Does a line report an error, or is it an annotation of one? The header of a section does not:
    it only names the section."""
    marker = parse_marker(raw)
    if isinstance(marker, Annotation):
        return marker.level == "error"
    if isinstance(marker, SectionStart):
        return False
    text = raw.decode(errors="replace")
    shown = visible_text(text)
    # `is_error` takes ten times as long as this, and most lines with colours report no error.
    may_be_red = b"31" in raw or b"91" in raw
    if not may_be_red and not compile_once(error_texts()).search(shown.encode()):
        return False
    return is_error(text, shown)


@cache
def error_texts() -> str:
    """A pattern for RE2 that finds all lines whose text can report an error: it matches whenever
    one of the patterns of error_lines.py does."""
    patterns = [pattern.pattern.replace(r"\s", "[ \\t]") for pattern in error_patterns()]
    patterns.append(r"::error\b")
    return "(?m)" + "|".join(f"(?:{pattern})" for pattern in patterns)


def error_candidates() -> str:
    """The same, for the bytes of a log. It also finds lines with control characters, because the
    text of such a line differs from its bytes."""
    return error_texts() + r"|[\x00-\x08\x0b-\x1f\x7f]"
