"""Masks the values of secrets in logs: each byte of a value becomes a `*`, so no offset changes."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import re2

from tailboard.files import NOT_A_FILE, open_regular
from tailboard.logs import Log, SizeSamples
from tailboard.secret_forms import LEAST, forms_of

MASKED_RANGES = "*ranges"  # among the values of a job: see `pack_ranges`
RANGE = struct.Struct("<QQ")
MOST_SEALED = 64 << 20  # bytes of a file `secrets`; larger ones are damaged
MASKS_KEPT = 16
MASKED_BLOCK = 1 << 17  # bytes that are best read at a time, since each read has costs of its own
# Of a search for needles, see `NeedleSearch`:
MOST_FORMS = 1_000  # with more, only their beginnings are searched
SHORT_NEEDLE = 8  # bytes of such a beginning
MOST_PATTERN_BYTES = 100_000
MOST_STRIDE = 8
LEAST_SAMPLES = 4
MEMORY = 64 << 20  # bytes for the compiled needles


class Mask:
    """Masks values. A byte is masked if it is part of any occurrence of a value, or of one of its
    encoded forms; so what is masked does not depend on where a read begins."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self.forms = sorted({form for value in values for form in forms_of(value)})
        self.longest = max(map(len, self.forms), default=0)  # 0: nothing is masked
        self._shorter = shorter_forms(self.forms)
        self._beginnings = frozenset(form[:LEAST] for form in self.forms)
        self._search = NeedleSearch.make(self.forms)

    def apply(self, data: bytes, start: int | None = None) -> bytes:
        """The data with each value replaced by as many `*` as it has bytes. `start`: where in the
        data the log begins, if what was before was removed. The end of a value there is masked,
        too."""
        found = self._find(data) if self.forms else iter(())
        if start is not None:
            found = iter([*found, (start, start + self._end_of_value(data[start:]))])
        return with_stars(data, found)

    def _find(self, data: bytes) -> Iterator[tuple[int, int]]:
        """The longest form that begins at each place, as (begin, end)."""
        for begin, end in self._regions(data):
            for at in range(begin, end):
                if data[at : at + LEAST] in self._beginnings:
                    length = self._length_at(data, at)
                    if length:
                        yield at, at + length

    def _regions(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where forms can begin: (begin, end), in order."""
        if self._search is None:
            yield 0, len(data)
            return
        searched = 0
        for at in self._search.places(data):
            begin = max(searched, at - self.longest + 1)
            begin = max(begin, data.rfind(b"\n", begin, at) + 1)  # which no form contains
            searched = at + 1
            yield begin, searched

    def _length_at(self, data: bytes, at: int) -> int:
        """The length of the longest form that begins at `at`; 0 if there is none."""
        window = data[at : at + self.longest]
        place = bisect_right(self.forms, window) - 1
        while place >= 0 and not window.startswith(self.forms[place]):
            place = self._shorter[place]
        return len(self.forms[place]) if place >= 0 else 0

    def _end_of_value(self, head: bytes) -> int:
        """How many bytes at the beginning of `head` are the end of a form, or 0."""
        first, longest = head[:LEAST], 0
        for form in self.forms if len(first) == LEAST else ():
            at = form.find(first, 1)
            while at >= 0 and not head.startswith(form[at:]):
                at = form.find(first, at + 1)
            longest = max(longest, len(form) - at if at >= 0 else 0)
        return longest

    def held_back(self, end: bytes) -> int:
        """How many bytes at the end of a growing log could be the beginning of a value. `end`: the
        last `longest` - 1 bytes of the log, or all of it."""
        begin = max(end.rfind(b"\n") + 1, len(end) - self.longest + 1, 0)
        for at in range(begin, len(end)):
            is_short = len(end) - at < LEAST
            if (is_short or end[at : at + LEAST] in self._beginnings) and self._begins(end[at:]):
                return len(end) - at
        return 0

    def _begins(self, part: bytes) -> bool:
        """Does a form begin with this part, and is it longer?"""
        place = bisect_right(self.forms, part)
        return place < len(self.forms) and self.forms[place].startswith(part)


make_mask = lru_cache(MASKS_KEPT)(Mask)  # of a frozenset: its search takes time to compile


def shorter_forms(forms: Sequence[bytes]) -> list[int]:
    """For each of the sorted forms, the place of the longest other one that it begins with, or
    -1."""
    shorter: list[int] = []
    for place, form in enumerate(forms):
        before = place - 1
        while before >= 0 and not form.startswith(forms[before]):
            before = shorter[before]
        shorter.append(before)
    return shorter


def with_stars(data: bytes, ranges: Iterable[tuple[int, int]]) -> bytes:
    """The data with `*` in these ranges."""
    masked: bytearray | None = None
    for begin, end in ranges:
        masked = bytearray(data) if masked is None else masked
        begin, end = max(begin, 0), min(end, len(data))
        masked[begin:end] = b"*" * (end - begin)
    return data if masked is None else bytes(masked)


class NeedleSearch:
    """Finds places where a form can be, about three times as fast as RE2 could search all bytes:
    it looks only at every Nth byte. Each form contains a needle, so the log must contain every Nth
    byte of one."""

    def __init__(self, needles: Sequence[bytes], stride: int) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # a value can contain any bytes
        options.max_mem = MEMORY
        options.log_errors = False
        sampled = {needle[phase::stride] for needle in needles for phase in range(stride)}
        pattern = b"|".join(re2.escape(text) for text in sorted(sampled))
        self.stride, self.regex = stride, re2.compile(pattern, options)

    @classmethod
    def make(cls, forms: Sequence[bytes]) -> NeedleSearch | None:
        """The search for these forms; None if there are none, or too many to compile."""
        if not forms:
            return None
        needles = shared_needles(forms) if len(forms) <= MOST_FORMS else []
        if not needles or sum(map(len, needles)) > MOST_PATTERN_BYTES:
            needles = sorted({form[:SHORT_NEEDLE] for form in forms}, key=len)
        if sum(map(len, needles)) > MOST_PATTERN_BYTES:
            return None
        return cls(needles, max(1, min(MOST_STRIDE, len(needles[0]) // LEAST_SAMPLES)))

    def places(self, data: bytes) -> Iterator[int]:
        """Places in the data, in order. Each form in the data has one of them in it."""
        samples, at = data[:: self.stride], 0
        while found := self.regex.search(samples, at):
            at = found.start()
            yield at * self.stride
            at += 1


def shared_needles(forms: Sequence[bytes]) -> list[bytes]:
    """The shortest forms, the shortest first, of which each form contains one."""
    needles: list[bytes] = []
    for form in sorted(forms, key=len):
        if not any(needle in form for needle in needles):
            needles.append(form)
    return needles


# --- The log --------------------------------------------------------------------------------------


class SecretsDamaged(OSError):
    """The values that a job's log must not show cannot be read, so neither can its log."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EIO, "its secrets cannot be read, so its log cannot be masked", path)


def pack_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Ranges of a log, (begin, end), as the worker stores them among the values of a job before it
    overwrites them with `*`. An overwrite that is cut in two leaves half a value, which no search
    finds any more; so readers and the next worker mask these ranges in any case."""
    return zlib.compress(b"".join(RANGE.pack(*each) for each in ranges))


def unpack_ranges(packed: bytes) -> list[tuple[int, int]]:
    """ValueError if they are damaged."""
    try:
        return sorted(RANGE.iter_unpack(zlib.decompress(packed)))
    except (zlib.error, struct.error) as error:
        raise ValueError(str(error)) from None


class KnownSecrets(NamedTuple):
    """What the file `secrets` of a job contained when it was last read."""

    stamp: tuple[int, ...] = ()  # differs if the file has changed
    mask: Mask = make_mask(frozenset())
    ranges: Sequence[tuple[int, int]] = ()  # which are masked in any case
    is_removed: bool = False  # since the log is masked on the disk


class MaskedLog(Log):
    """The log of a job that has secrets, until its log is masked on the disk. A log that was opened
    before then is still masked with the values that were known."""

    read_size = MASKED_BLOCK

    def __init__(
        self, log: Log, folder: int, unseal: Callable[[bytes], Mapping[str, bytes]]
    ) -> None:
        """`folder`: a descriptor of the job's folder, which this object closes. SecretsDamaged if
        the values cannot be read."""
        self.log, self.folder, self.unseal = log, folder, unseal
        self._secrets = KnownSecrets()
        try:
            self._refresh()
        except BaseException:
            os.close(folder)
            raise

    @property
    def mask(self) -> Mask:
        return self._secrets.mask

    def _refresh(self) -> None:
        """Read the values again if they have changed: each attempt of the job can add some."""
        known = self._secrets
        if known.is_removed:
            return
        try:
            found = os.stat("secrets", dir_fd=self.folder, follow_symlinks=False)
            stamp = found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
            if stamp != known.stamp:
                self._secrets = self._read_secrets(stamp)
        except FileNotFoundError:
            self._secrets = known._replace(is_removed=True)

    def _read_secrets(self, stamp: tuple[int, ...]) -> KnownSecrets:
        """FileNotFoundError if the file was removed meanwhile."""
        sealed = self._read_sealed()
        try:
            values = dict(self.unseal(sealed))
            ranges = unpack_ranges(values.pop(MASKED_RANGES, pack_ranges(())))
        except (ValueError, FileNotFoundError):  # of the key, which says nothing about the file
            raise SecretsDamaged("secrets") from None
        return KnownSecrets(stamp, make_mask(frozenset(values.values())), ranges)

    def _read_sealed(self) -> bytes:
        """The file `secrets`. A job can replace it, for example by a FIFO."""
        try:
            fd = open_regular("secrets", os.O_RDONLY, self.folder)
        except OSError as error:
            if error.errno in NOT_A_FILE:
                raise SecretsDamaged("secrets") from None
            raise
        try:
            size = os.fstat(fd).st_size
            if size > MOST_SEALED:
                raise SecretsDamaged("secrets")
            return os.pread(fd, size, 0)
        finally:
            os.close(fd)

    @property
    def size(self) -> int:
        """Of a growing log, without the bytes at its end that could be the beginning of a value."""
        while True:
            known = self._secrets
            size = self.log.size
            begin = max(0, size - max(0, known.mask.longest - 1))
            end = self.log.pread(size - begin, begin)
            self._refresh()  # afterwards: the bytes may be older than the values
            if self._secrets is known:
                return size - self._held_back(end)

    def _held_back(self, end: bytes) -> int:
        if self._secrets.is_removed or not self.holds_back:
            return 0
        return self.mask.held_back(end)

    @property
    def start(self) -> int:
        return self.log.start

    @property
    def changed_at(self) -> float:
        return self.log.changed_at

    def is_truncated_below(self, offset: int) -> bool:
        return self.log.is_truncated_below(offset)

    def pread(self, limit: int, offset: int) -> bytes:
        while True:
            known = self._secrets
            around = max(0, known.mask.longest - 1)
            begin = max(0, offset - around)
            wanted = offset - begin + limit + around
            data = self.log.pread(wanted, begin)
            start = self.log.start - begin  # afterwards: it may have moved
            # The values of an attempt are stored before its first byte is written, and ranges
            # before they are overwritten. So what is read here afterwards is new enough.
            self._refresh()
            if self._secrets is known:
                break
        end = len(data) - (self._held_back(data) if len(data) < wanted else 0)
        masked = known.mask.apply(data, start if 0 <= start and begin + start > 0 else None)
        masked = with_stars(masked, self._ranges_in(begin, begin + len(data)))
        return masked[offset - begin : max(offset - begin, min(offset - begin + limit, end))]

    def _ranges_in(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges that are masked in any case, relative to `begin`, if they overlap the bytes
        from `begin` to `end`."""
        ranges = self._secrets.ranges
        place = bisect_right(ranges, begin, key=lambda each: each[1])
        while place < len(ranges) and ranges[place][0] < end:
            yield ranges[place][0] - begin, ranges[place][1] - begin
            place += 1

    def samples(self) -> SizeSamples:
        return self.log.samples()

    def close(self) -> None:
        self.log.close()
        with suppress(OSError):
            os.close(self.folder)
