"""The markers in one log, as far as it has been read."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tailboard.explain.line_scan import FoundLine, LineScan
from tailboard.explain.locks import acquire_until
from tailboard.explain.markers import (
    BEGINNING,
    Annotation,
    GroupEnd,
    Marker,
    OpenSection,
    Progress,
    Result,
    SectionStart,
    parse_marker,
)
from tailboard.explain.truncation import TruncationCheck
from tailboard.logs import Log

MOST_SECTIONS = 1_000  # that are kept
MOST_ANNOTATIONS = 200
MOST_RESULTS = 50
WEIGHT = 300  # bytes of what is kept, besides its text


@dataclass
class Section:
    """A section of a log."""

    name: str
    kind: str
    is_open: bool
    offset: int  # of its first line
    end: int | None = None  # the offset after its last line; None: of the last section so far
    ended_by: int | None = None  # the offset of the line with which it ended


@dataclass
class Found:
    """What was found in a log so far."""

    weight: int = 0  # bytes of memory, approximately
    section_count: int = 0
    sections: list[Section] = field(default_factory=list)  # the first ones, in order
    last_section: Section | None = None  # whether it is listed or not
    results: dict[str, str] = field(default_factory=dict)
    progress: tuple[int, Progress] | None = None  # its offset; the last one of the last attempt
    annotation_counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("error", "warning", "notice"), 0)
    )
    annotations: list[tuple[int, Annotation]] = field(default_factory=list)  # with their offsets

    def add(self, line: FoundLine, marker: Marker) -> None:
        match marker:
            case SectionStart():
                self._start_section(line, marker)
            case OpenSection():
                if self.last_section:
                    self.last_section.is_open = True
            case GroupEnd():
                last = self.last_section
                if last and last.end is None and last.kind == "group":
                    last.end, last.ended_by = line.following, line.offset
            case Progress():
                self.progress = line.offset, marker
            case Result():
                self._set_result(marker)
            case Annotation():
                self.annotation_counts[marker.level] += 1
                if len(self.annotations) < MOST_ANNOTATIONS:
                    self.annotations.append((line.offset, marker))
                    self.weight += WEIGHT + len(line.raw)

    def _start_section(self, line: FoundLine, start: SectionStart) -> None:
        """Sections are not nested: each ends the one before it."""
        last = self.last_section
        if last and last.end is None:
            last.end = last.ended_by = line.offset
        section = Section(start.name, start.kind, start.is_open, line.offset)
        self.last_section = section
        self.section_count += 1
        if len(self.sections) < MOST_SECTIONS:
            self.sections.append(section)
            self.weight += WEIGHT + len(line.raw)
        if start.attempt is not None:
            self.progress = None  # it was that of an earlier attempt

    def _set_result(self, result: Result) -> None:
        before = self.results.get(result.key)
        if before is None and len(self.results) == MOST_RESULTS:
            return
        self.weight += WEIGHT if before is None else -len(before)
        self.weight += len(result.value)
        self.results[result.key] = result.value


class LogMarks:
    """Searches one log for markers, in steps. Several threads may use it."""

    def __init__(self) -> None:
        self.found = Found()
        self.restarts = 0  # how often the job has truncated its log
        self._scan, self._truncation = LineScan(rf"\n{BEGINNING}"), TruncationCheck()
        self._lock = threading.Lock()

    def has_searched(self, end: int, has_ended: bool) -> bool:
        """Are all markers up to the offset `end` known? See `work`."""
        return self._scan.has_searched(end, has_ended)

    @property
    def at(self) -> int:
        """Up to which offset the markers are known."""
        return self._scan.at

    def work(self, log: Log, end: int, has_ended: bool, deadline: float) -> bool:
        """Search up to the offset `end`, until the `deadline` on the monotonic clock. Returns True
        if all markers up to there are known. `has_ended`: nothing is written after it."""
        with acquire_until(self._lock, deadline) as is_acquired:
            if not is_acquired:
                return False
            if self._truncation.is_found(log):
                self._restart()
            if not self.has_searched(end, has_ended):
                for line in self._scan.read(log, end, has_ended, deadline):
                    marker = parse_marker(line.raw)
                    if marker is not None:  # some are empty tuples
                        self.found.add(line, marker)
                self._truncation.remember(log, self.at)
            return self.has_searched(end, has_ended)

    def _restart(self) -> None:
        self.found = Found()
        self._scan, self._truncation = LineScan(rf"\n{BEGINNING}"), TruncationCheck()
        self.restarts += 1
