"""Compares the logs of two runs line by line."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from tailboard.explain.line_match import LineMatcher, Match
from tailboard.explain.log_lines import LineReader
from tailboard.explain.normal import line_key
from tailboard.explain.part import Place
from tailboard.job import Job
from tailboard.keep_rules import title_of
from tailboard.logs import Log
from tailboard.status import FINISHED

MOST_LINES = 50_000  # of each log that are compared; the common beginning does not count
READ_STEP = 2_000  # lines of a log that are read at a time
WORK_TIME = 1.0  # seconds for reading the logs in one request; matching them takes less
TEXT_TIME = 0.5  # seconds for reading the text of the lines in one answer
MOST_TEXTS = 2_000  # lines of text in one answer, unless a single hunk has more
MOST_IN_HUNK = 500  # lines of text on each side of a hunk
CONTEXT = 3  # equal lines that are shown at each end of a hunk
MOST_KEPT = 4  # comparisons; each takes up to 10 MB


class HunkKind(StrEnum):
    EQUAL = "equal"
    CHANGED = "changed"  # there are lines on both sides
    REMOVED = "removed"  # only on the left
    ADDED = "added"  # only on the right


class Hunk(NamedTuple):
    """Lines that follow each other: on both sides the same, or different."""

    kind: HunkKind
    left: int  # the index of the first line, from 0
    left_count: int
    right: int
    right_count: int


class Side:
    """The lines of one log, in the form in which they are compared."""

    def __init__(self) -> None:
        self.skipped = 0  # lines at the beginning that are the same on both sides
        self.keys = array("Q")  # of the other lines, see line_key
        self.offsets = array("Q")
        self.first_offsets: list[int] = []  # of the first CONTEXT lines
        self.is_read = False
        self.is_cut = False  # does the log have more lines than are compared?
        self.reader = LineReader()

    def read(self, log: Log, has_ended: bool, deadline: float) -> None:
        """Read the next READ_STEP lines."""
        most = min(len(self.keys) + READ_STEP, MOST_LINES)
        for line in self.reader.read(log, has_ended, deadline):
            self.keys.append(line_key(line.raw))
            self.offsets.append(line.offset)
            if len(self.first_offsets) < CONTEXT:
                self.first_offsets.append(line.offset)
            if len(self.keys) == most:
                break
        else:
            self.is_read = time.monotonic() < deadline
        if len(self.keys) == MOST_LINES:
            self.is_read, self.is_cut = True, not self.reader.is_at_end(log)

    def skip(self, count: int) -> None:
        del self.keys[:count], self.offsets[:count]
        self.skipped += count

    @property
    def lines(self) -> int:
        return self.skipped + len(self.keys)

    def offset_of(self, index: int) -> int:
        """Where a line begins. Of the lines that were skipped, only the first ones can be asked
        for."""
        if index < len(self.first_offsets):
            return self.first_offsets[index]
        place = index - self.skipped
        return self.offsets[place] if place < len(self.offsets) else self.reader.at

    def number_of(self, index: int) -> int | None:
        """The number of a line, from 1; None if the beginning of the log was deleted."""
        return None if self.reader.number is None else index + 1

    def texts(self, log: Log, index: int, count: int, deadline: float) -> list[str]:
        """The text of these lines; that of a line which no longer exists, or was not read before
        the deadline, is empty."""
        reader, found = LineReader(), list[str]()
        reader.at = self.offset_of(index)
        for line in reader.read(log, True, deadline):
            if len(found) == count or line.offset != self.offset_of(index + len(found)):
                break
            found.append(Place.of(line).text)
        missing = count - len(found)
        return found + [""] * missing


class Comparison:
    """The comparison of two logs. The work is done in steps, as for a Part."""

    def __init__(self) -> None:
        self.left, self.right = Side(), Side()
        self.hunks: Sequence[Hunk] | None = None  # None: the logs are still being read
        self.lock = threading.Lock()  # held while one of its methods works

    def work(self, left: OpenRun, right: OpenRun, deadline: float) -> None:
        """Continue until the `deadline` on the monotonic clock."""
        while self.hunks is None and time.monotonic() < deadline:
            for side, run in ((self.left, left), (self.right, right)):
                if not side.is_read:
                    side.read(run.log, run.has_ended, deadline)
            self._skip_common()
            if self.left.is_read and self.right.is_read:
                matches = LineMatcher(self.left.keys, self.right.keys).matches()
                self.hunks = list(find_hunks(matches, self.left, self.right))

    def _skip_common(self) -> None:
        """Drop the lines with which both sides begin, but for the last ones, which are shown before
        the first difference."""
        pairs = zip(self.left.keys, self.right.keys, strict=False)
        common = next((number for number, (a, b) in enumerate(pairs) if a != b), None)
        if common is None:
            common = min(len(self.left.keys), len(self.right.keys))
        if common > READ_STEP // 2:
            self.left.skip(common - CONTEXT)
            self.right.skip(common - CONTEXT)

    def covers(self, left: OpenRun, right: OpenRun) -> bool:
        """Was it made from the logs as they are now, as far as it was made?"""
        is_done = self.hunks is not None
        for side, log in ((self.left, left.log), (self.right, right.log)):
            has_grown = not side.is_cut and side.reader.at < log.size
            if side.reader.at > log.size or (is_done and has_grown):
                return False
        return True

    def answer(self, left: OpenRun, right: OpenRun, begin: int) -> dict[str, Any]:
        """The hunks from this number on, as JSON."""
        deadline = time.monotonic() + TEXT_TIME
        hunks = self.hunks or []
        shown: list[dict[str, Any]] = []
        room = MOST_TEXTS
        for hunk in hunks[begin:]:
            most = sum(shown_parts(hunk))
            room -= min(hunk.left_count, most) + min(hunk.right_count, most)
            if room < 0 and shown:
                break
            next_hunk = self._show(hunk, left.log, right.log, deadline)
            if time.monotonic() >= deadline and shown:
                break  # some of its text may be missing
            shown.append(next_hunk)
        return {
            "left": show_side(left.job, self.left),
            "right": show_side(right.job, self.right),
            "partial": self.hunks is None,
            "same": self.hunks is not None and all(h.kind is HunkKind.EQUAL for h in hunks),
            "hunks": shown,
            "more": begin + len(shown) < len(hunks),
        }

    def _show(self, hunk: Hunk, left: Log, right: Log, deadline: float) -> dict[str, Any]:
        begin, end = shown_parts(hunk)
        lines: dict[str, list[str] | list[int]] = {}
        for name, side, log, at, count in (
            ("left", self.left, left, hunk.left, hunk.left_count),
            ("right", self.right, right, hunk.right, hunk.right_count),
        ):
            last = at + count - end
            shown = [*range(at, at + min(count, begin)), *range(last, last + end)]
            lines[f"{name}_offsets"] = [side.offset_of(index) for index in shown]
            lines[f"{name}_lines"] = [
                *side.texts(log, at, min(count, begin), deadline),
                *(side.texts(log, last, end, deadline) if end else ()),
            ]
        return {
            "kind": hunk.kind,
            "left": show_place(self.left, hunk.left, hunk.left_count),
            "right": show_place(self.right, hunk.right, hunk.right_count),
            **lines,
            "folded": max(0, max(hunk.left_count, hunk.right_count) - begin - end),
        }


class OpenRun(NamedTuple):
    """A job and its log, which is open."""

    job: Job
    log: Log

    @property
    def has_ended(self) -> bool:
        return self.job.status in FINISHED


class Comparisons:
    """The comparisons that were used last. Several threads may use it; two requests for the same
    comparison take turns."""

    def __init__(self) -> None:
        self._kept: dict[object, Comparison] = {}  # the one used last comes last
        self._lock = threading.Lock()

    def compare(self, left: OpenRun, right: OpenRun, begin: int) -> dict[str, Any]:
        """The answer for the hunks from the number `begin` on. It works for WORK_TIME at most; if
        it then has `partial`, it continues in the next call."""
        comparison = self._comparison_of(left, right)
        with comparison.lock:
            comparison.work(left, right, time.monotonic() + WORK_TIME)
            return comparison.answer(left, right, begin)

    def _comparison_of(self, left: OpenRun, right: OpenRun) -> Comparison:
        key = tuple((job.id, job.attempt, log.start) for job, log in (left, right))
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None or not found.covers(left, right):
                found = Comparison()
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return found


def find_hunks(matches: Iterable[Match], left: Side, right: Side) -> Iterator[Hunk]:
    """The hunks, in order, from the lines that match on the sides without what was skipped."""
    at_left = at_right = 0
    for match in merge_skipped(matches, left, right):
        removed, added = match.left - at_left, match.right - at_right
        if removed or added:
            yield Hunk(kind_of(removed, added), at_left, removed, at_right, added)
        if match.lines:
            yield Hunk(HunkKind.EQUAL, match.left, match.lines, match.right, match.lines)
        at_left, at_right = match.left + match.lines, match.right + match.lines


def kind_of(removed: int, added: int) -> HunkKind:
    """The kind of a hunk with so many different lines on the left and on the right."""
    if removed and added:
        return HunkKind.CHANGED
    return HunkKind.REMOVED if removed else HunkKind.ADDED


def merge_skipped(matches: Iterable[Match], left: Side, right: Side) -> Iterator[Match]:
    """The matches on the whole sides, and an empty one at their ends."""
    skipped = left.skipped  # as many as on the right
    for match in matches:
        if skipped and match.left == 0:  # some common lines after them are never skipped
            yield Match(0, 0, skipped + match.lines)
        else:
            yield Match(skipped + match.left, skipped + match.right, match.lines)
    yield Match(left.lines, right.lines, 0)


def shown_parts(hunk: Hunk) -> tuple[int, int]:
    """How many lines of a hunk are shown at its beginning, and how many at its end."""
    if hunk.kind is not HunkKind.EQUAL:
        return MOST_IN_HUNK, 0
    if hunk.left_count <= 2 * CONTEXT:
        return hunk.left_count, 0
    return CONTEXT, CONTEXT


def show_side(job: Job, side: Side) -> dict[str, Any]:
    return {
        "id": job.id,
        "title": title_of(job),
        "status": job.status,
        "finished_at": job.finished_at,
        "lines": side.lines,
        "cut": side.is_cut,
    }


def show_place(side: Side, index: int, count: int) -> dict[str, Any]:
    return {"line": side.number_of(index), "offset": side.offset_of(index), "count": count}
