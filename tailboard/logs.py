"""Reading a job's log: from an offset, the last lines, the lines that match a text."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple, Self

from tailboard import values
from tailboard.files import NOT_A_FILE, open_regular
from tailboard.matching import Matcher
from tailboard.values import LAST_TIME, utc

TAIL_BYTES = 1 << 20  # limit of a tail: a progress bar that uses \r is one endless line
SAMPLE = struct.Struct("<dQ")  # in `times`: seconds since 1970, size of the log
LAST_SIZE = 1 << 62
SEARCH_BLOCK = 1 << 20  # bytes read at a time when searching
EXCERPT = 1_000  # bytes of a line that a search shows
LINE_RE = re.compile(rb"[^\n]*\n|[^\n]+")


class Found(NamedTuple):
    """A line that a search has found."""

    offset: int  # where it begins
    excerpt: bytes  # of the line, with the match


class Log(AbstractContextManager["Log"], ABC):
    """A job's log, open for reading. An offset counts raw bytes and always refers to the same
    place. The oldest part of a runaway log may have been freed; then the log begins at `start`.

    A backend implements the abstract methods, and `close` if it opens files. The others build on
    them. All read methods raise OSError if the storage fails."""

    read_size = 1 << 16  # bytes that downloads and followers read at a time
    # Can the job still write? If so, a MaskedLog does not show the beginning of a value at its end.
    holds_back = True

    @property
    @abstractmethod
    def size(self) -> int:
        """The offset after the last byte, as it is now."""

    @property
    @abstractmethod
    def start(self) -> int:
        """The offset of the oldest byte that still exists."""

    @property
    @abstractmethod
    def changed_at(self) -> float:
        """When the log was last written to, in seconds since 1970."""

    @abstractmethod
    def pread(self, limit: int, offset: int) -> bytes:
        """Up to `limit` bytes from `offset` on; empty if the log ends before it."""

    @abstractmethod
    def samples(self) -> SizeSamples:
        """The samples of its size over time, sorted. The caller closes them."""

    def close(self) -> None:
        """Close its files."""

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_truncated_below(self, offset: int) -> bool:
        """Is this offset past the end because the job has truncated its log? Always False for a
        copy, such as the one in Redis: it may simply be behind."""
        return False

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """(offset of the first byte, up to `limit` bytes) from `offset` on, or from `start` on if
        the bytes at `offset` have been freed."""
        while True:
            offset = max(offset, self.start)
            data = self.pread(limit, offset)
            passed = max(0, self.start - offset)  # read again: it may have moved meanwhile
            if not data:
                return offset, b""
            if passed < len(data):
                return offset + passed, data[passed:]

    def read_tail(self, lines: int, size: int, limit: int = TAIL_BYTES) -> tuple[int, bytes]:
        """(offset, bytes) of the last `lines` lines before `size`, at most `limit` bytes."""
        offset = self.tail(lines, size, limit)
        return self.read(offset, size - offset)

    def tail(self, lines: int, size: int, limit: int = TAIL_BYTES) -> int:
        """The offset where the last `lines` lines before `size` begin, at most `limit` bytes
        back. Reads backwards in blocks, so that the length of the log does not matter."""
        floor, end = max(self.start, size - limit), size
        wanted = lines + (self.pread(1, max(0, size - 1)) == b"\n")  # which ends the last line
        while lines > 0 and end > floor:
            begin = max(floor, end - values.BLOCK)
            block = self.pread(end - begin, begin)
            found = block.count(b"\n")
            if found >= wanted:
                at = len(block)
                for _ in range(wanted):
                    at = block.rindex(b"\n", 0, at)
                return begin + at + 1
            wanted -= found
            end = begin
        return floor if lines > 0 else size

    def line_at(self, offset: int, limit: int = TAIL_BYTES) -> int:
        """The offset where the line that contains `offset` begins, `limit` bytes before it at
        most."""
        if offset <= self.start or self.pread(1, offset - 1) == b"\n":
            return offset
        return self.tail(1, offset, limit)

    def next_line(self, offset: int, deadline: float) -> int:
        """The offset of the first line that begins at `offset` or later; the size of the log if
        there is none, or none was found by the `deadline` on the monotonic clock."""
        at = max(offset, self.start)
        if at == self.start or self.pread(1, at - 1) == b"\n":
            return at
        while time.monotonic() < deadline and (block := self.pread(SEARCH_BLOCK, at)):
            newline = block.find(b"\n")
            if newline >= 0:
                return at + newline + 1
            at += len(block)
        return self.size

    def search(
        self, matcher: Matcher, before: int, limit: int, deadline: float, floor: int = 0
    ) -> tuple[list[Found], int | None]:
        """(the lines, the `before` with which to continue, or None if the search has reached the
        beginning).

        Finds up to `limit` lines with a match that begins below the offset `before`, newest first.
        Stops at `deadline` on the monotonic clock, and at the offset `floor`."""
        found: list[Found] = []
        start, end = max(self.start, floor), before
        if matcher.needs_whole_lines and before < self.size:
            end = self.line_at(before)
        while end > start:
            if len(found) == limit or time.monotonic() > deadline:
                return found, end
            begin = max(start, end - matcher.step)
            if matcher.needs_whole_lines:
                begin = max(start, self.line_at(begin, matcher.step))
            find_last = matcher.last_finder(self.pread(end - begin + matcher.overlap, begin))
            while end > begin and len(found) < limit:
                at = find_last(end - begin)
                if at < 0:
                    end = begin
                    break
                end = self.line_at(begin + at)
                found.append(Found(end, self.excerpt(end, begin + at)))
        return found, min(end, start) if start > self.start else None

    def excerpt(self, line: int, match: int) -> bytes:
        """EXCERPT bytes of a line, with the match at the offset `match`."""
        shown = max(line, match - EXCERPT // 2)
        return self.pread(EXCERPT, shown).split(b"\n", 1)[0]

    def count_lines(self, begin: int, end: int, deadline: float) -> tuple[int, int]:
        """(the offset reached, how many lines end between `begin` and that offset). It reaches
        `end` unless the `deadline` on the monotonic clock comes first."""
        count = 0
        while begin < end and time.monotonic() < deadline:
            block = self.pread(min(SEARCH_BLOCK, end - begin), begin)
            count += block.count(b"\n")
            begin += len(block)
        return begin, count

    def skip_lines(self, begin: int, end: int, lines: int, deadline: float) -> tuple[int, int]:
        """(the offset reached, how many lines end between `begin` and that offset): the beginning
        of the next line once `lines` have ended, unless `end` or the `deadline` comes first."""
        skipped = 0
        while skipped < lines and begin < end and time.monotonic() < deadline:
            block = self.pread(min(SEARCH_BLOCK, end - begin), begin)
            found = block.count(b"\n")
            if skipped + found >= lines:
                return begin + place_after_lines(block, lines - skipped), lines
            skipped += found
            begin += len(block)
        return begin, skipped

    def offset_at_time(self, moment: float) -> int:
        """The offset where the lines written since `moment` (seconds since 1970) begin. No line is
        missed; a few older ones, by one sample at most, may come first."""
        if moment > self.changed_at:
            return self.size
        with self.samples() as samples:
            place = bisect_right(samples, moment, key=lambda sample: sample[0])
            begin = samples[place - 1][1] if place else 0
            return self.line_at(min(max(self.start, begin), self.size))

    def add_timestamps(self, offset: int, data: bytes) -> bytes:
        """`data`, which was read at `offset`, with a time before each line that begins in it: when
        the line was first seen, which is never before it was written. RFC 3339 in UTC, a space."""
        written = self.changed_at
        at, known, text, out = offset, -1, b"", []
        with self.samples() as samples:
            for line in LINE_RE.findall(data):
                if at > offset or self.line_at(at) == at:
                    if at >= known:
                        place = bisect_right(samples, at, key=lambda sample: sample[1])
                        seen, known = samples[place] if place < len(samples) else (written, 1 << 63)
                        text = utc(min(seen, written)).encode() + b" "
                    out.append(text)
                out.append(line)
                at += len(line)
        return b"".join(out)


class EmptyLog(Log):
    """The log of a job that has written nothing."""

    size = 0
    start = 0
    changed_at = 0.0

    def pread(self, limit: int, offset: int) -> bytes:
        return b""

    def samples(self) -> SizeSamples:
        return SizeSamples(-1)


class FileLog(Log):
    """A log in a file."""

    def __init__(self, path: str) -> None:
        """FileNotFoundError if there is no regular file; OSError if the disk prevents the check."""
        self.times = f"{os.path.dirname(path)}/times"
        try:
            self.fd = open_regular(path, os.O_RDONLY)
        except OSError as error:
            if error.errno not in NOT_A_FILE:
                raise
            raise FileNotFoundError(errno.ENOENT, "the log is not a file", path) from None
        with suppress(BlockingIOError):  # retention deletes the job or trims its log now
            # As long as this lock is held, retention does not delete the job.
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        os.close(self.fd)

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def is_truncated_below(self, offset: int) -> bool:
        return self.size < offset

    @property
    def start(self) -> int:
        return data_start(self.fd)

    @property
    def changed_at(self) -> float:
        return os.fstat(self.fd).st_mtime

    def pread(self, limit: int, offset: int) -> bytes:
        data = os.pread(self.fd, limit, offset)
        # Linux reduces the size before it clears the pages, so a read during a truncation may have
        # copied zeros from beyond the new end.
        return data[: max(0, self.size - offset)]

    def samples(self) -> SizeSamples:
        return SizeSamples.open(self.times)


class SizeSamples(Sequence[tuple[float, int]], AbstractContextManager["SizeSamples"]):
    """The (time, size) samples of a log: seconds since 1970, bytes. They are read one by one from
    the file `times`. Times and sizes only grow."""

    def __init__(self, fd: int) -> None:
        """`fd`: the open file; -1 if there is no file, and therefore no samples."""
        self.fd = fd
        self.length = os.fstat(fd).st_size // SAMPLE.size if fd >= 0 else 0

    @classmethod
    def open(cls, path: str) -> Self:
        """The samples in a file; empty if it cannot be read."""
        with suppress(OSError):
            return cls(open_regular(path, os.O_RDONLY))
        return cls(-1)

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: Any) -> Any:
        """An impossible time counts as 1970: the job may have written to the file."""
        if place >= self.length:
            raise IndexError(place)
        data = os.pread(self.fd, SAMPLE.size, place * SAMPLE.size)
        if len(data) < SAMPLE.size:  # removed since their number was read
            return LAST_TIME, LAST_SIZE
        time, size = SAMPLE.unpack(data)
        return (time if 0 <= time < LAST_TIME else 0.0), size

    def moments(self, most: int) -> list[float]:
        """The times of the newest samples, `most` of them, in seconds since 1970."""
        begin = max(0, self.length - most)
        return moments_in(self.read_data(begin)) if self.length else []

    def read_data(self, begin: int) -> bytes:
        """The samples from the number `begin` on, as they are stored."""
        return os.pread(self.fd, (self.length - begin) * SAMPLE.size, begin * SAMPLE.size)

    def append(self, time: float, size: int) -> None:
        # Not at the end of the file: a crash may have left half a sample there.
        os.pwrite(self.fd, SAMPLE.pack(time, size), self.length * SAMPLE.size)
        self.length += 1

    def keep(self, length: int) -> None:
        """Keep only the first `length` samples."""
        os.ftruncate(self.fd, length * SAMPLE.size)
        self.length = length


def moments_in(data: bytes) -> list[float]:
    """The times of the samples in `data`. Impossible ones, and a part of a sample, are left out."""
    whole = len(data) // SAMPLE.size * SAMPLE.size
    moments = (moment for moment, _ in SAMPLE.iter_unpack(data[:whole]))
    return [moment for moment in moments if 0 <= moment < LAST_TIME]


@contextmanager
def lock_log(path: str, flags: int) -> Iterator[int]:
    """The descriptor of a log, locked, so that no FileLog is reading it.
    BlockingIOError if one is."""
    fd = open_regular(path, flags)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def disk_usage(path: str) -> int:
    """Bytes that a file takes up on disk; 0 if it cannot be read."""
    with suppress(OSError):
        return os.lstat(path).st_blocks * 512
    return 0


def is_sparse(folder: str) -> bool:
    """Does a job's log have fewer blocks on the disk than bytes?"""
    with suppress(OSError):
        found = os.lstat(f"{folder}/output.log")
        return found.st_blocks * 512 < found.st_size
    return False


def log_size(folder: str) -> int:
    """Size of a job's log in bytes, including freed ones; 0 if there is no log."""
    return log_size_and_time(folder)[0]


def log_size_and_time(folder: str) -> tuple[int, float | None]:
    """The same, and when the log was last written to, in seconds since 1970."""
    with suppress(OSError):
        found = os.lstat(f"{folder}/output.log")
        return found.st_size, found.st_mtime
    return 0, None


def log_start(folder: str) -> int:
    """The offset of the oldest byte of a job's log that still exists; 0 if there is no log."""
    with suppress(OSError):
        fd = open_regular(f"{folder}/output.log", os.O_RDONLY)
        try:
            return data_start(fd)
        finally:
            os.close(fd)
    return 0


def data_start(fd: int) -> int:
    """The offset of the first byte of an open file that is not in a hole (lseek(2), SEEK_DATA)."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:  # ENXIO: there is no data, since it is empty or one hole
        return os.fstat(fd).st_size


def place_after_lines(block: bytes, lines: int) -> int:
    """Where the first `lines` lines of a block end. Halves the block, since it can have a million
    lines."""
    low, high, before = 0, len(block), 0  # `before` lines end before `low`
    while high - low > 1:
        middle = (low + high) // 2
        more = block.count(b"\n", low, middle)
        if before + more < lines:
            low, before = middle, before + more
        else:
            high = middle
    return high
