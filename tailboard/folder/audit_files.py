"""The audit log of a jobs folder: audit/DAY.jsonl, one file for each day in UTC."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from tailboard.audit import (
    MAX_LINE,
    AuditFilter,
    AuditPage,
    Entry,
    encode_entry,
    parse_place,
)
from tailboard.files import is_damage, open_regular
from tailboard.values import is_day, utc

SUFFIX = ".jsonl"
PLACE_RE = re.compile("([0-9]{8})[.]([0-9]{1,18})")  # a day, and an offset in its file
SCAN_BYTES = 2 << 20  # bytes that one read looks at, at most
LAST_DAY = 99_999_999
BLOCK = 64 << 10  # bytes read at a time


class AuditFiles:
    """The audit log of a jobs folder.

    A line is one write, with a newline before and after it, to a file that is open for appending.
    So the lines of many processes do not mix, and a torn line spoils only itself. The lines are not
    fsynced: a power cut can lose those of the last seconds, and submitting must not become
    slower."""

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/audit"

    def make_folder(self) -> None:
        os.makedirs(self.home, mode=0o700, exist_ok=True)

    def append(self, entry: Entry) -> None:
        line = b"\n" + encode_entry(entry) + b"\n"
        fd = self._open_day(entry["at"][:10].replace("-", ""))
        try:
            if os.write(fd, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

    def _open_day(self, day: str) -> int:
        """The file of a day, for appending. It is made if it is missing; so is its folder, but not
        the jobs folder."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            fd = open_regular(f"{self.home}/{day}{SUFFIX}", flags)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(self.home, 0o700)
            self._give_to_owner(self.home)
            fd = open_regular(f"{self.home}/{day}{SUFFIX}", flags)
        if os.fstat(fd).st_size == 0:
            self._give_to_owner(fd)
        return fd

    def _give_to_owner(self, made: str | int) -> None:
        """If root has made a file, give it to the owner of the jobs folder, whose processes could
        otherwise not append to it."""
        if os.geteuid() == 0:
            owner = os.stat(self.root)
            os.chown(made, owner.st_uid, owner.st_gid)

    def read(self, wanted: AuditFilter, limit: int, before: str | None = None) -> AuditPage:
        last, end = parse_place(before, PLACE_RE) if before is not None else (LAST_DAY, 0)
        first = 0 if wanted.since is None else day_of(wanted.since)
        page, left = AuditPage(), SCAN_BYTES
        for day in self._days():
            if not first <= int(day) <= last:
                continue
            for line_end, line in self._lines(page, day, end if int(day) == last else None):
                if len(page.entries) == limit or left < 0:
                    page.next = f"{day}.{line_end}"
                    return page
                page.add(line, wanted)
                left -= len(line) + 2
        return page

    def _lines(self, page: AuditPage, day: str, end: int | None) -> Iterator[tuple[int, bytes]]:
        """(the offset at which it ends, line) for the lines of a day, or those before an offset,
        the last one first. A file that a process has damaged counts as one damaged line."""
        try:
            fd = open_regular(f"{self.home}/{day}{SUFFIX}", os.O_RDONLY)
        except OSError as error:
            if not is_damage(error):
                raise
            page.damaged += error.errno != errno.ENOENT  # retention has deleted it
            return
        try:
            size = os.fstat(fd).st_size
            yield from lines_backwards(fd, size if end is None else min(end, size))
        finally:
            os.close(fd)

    def _days(self) -> Sequence[str]:
        """The days that have a file, newest first."""
        try:
            names = os.listdir(self.home)
        except FileNotFoundError:
            return []
        days = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
        return sorted(filter(is_day, days), reverse=True)

    def prune(self, days: int, now: float) -> Iterator[None]:
        oldest = day_of(now - days * 86_400) if days else 0
        for day in self._days()[::-1]:
            if int(day) >= oldest:
                return
            with suppress(OSError):  # a folder in its place, for example
                os.unlink(f"{self.home}/{day}{SUFFIX}")
            yield


def lines_backwards(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(the offset at which it ends, line) for the lines before an offset, the last one first,
    without empty ones. Of a line that is much too long only the beginning is returned."""
    rest, line_end = b"", end  # the end of the line whose beginning comes next
    while end > 0:
        begin = max(0, end - BLOCK)
        first, *others = os.pread(fd, end - begin, begin).split(b"\n")
        for part in reversed(others):
            if line := part + rest:
                yield line_end, line
            rest, end = b"", end - len(part) - 1
            line_end = end
        rest, end = (first + rest)[: MAX_LINE + 1], begin
    if rest:
        yield line_end, rest


def day_of(timestamp: float) -> int:
    """The day of a time (seconds since 1970) in UTC, as a number like 20261129."""
    return int(utc(timestamp)[:10].replace("-", ""))
