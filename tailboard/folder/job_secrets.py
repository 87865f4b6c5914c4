"""The file `secrets` of a job: the values that readers mask in its log, encrypted; and masking the
log on the disk.

The file is older than the first byte of the log, and is removed only once the log is masked on the
disk. SIGKILL or a power cut can cut an overwrite in two, and half a value would never be found
again. So the worker first stores in the file which bytes it is going to overwrite. Readers, and the
worker that repeats this after a crash, mask these bytes in any case."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tailboard import masking
from tailboard.files import DAMAGE_ERRNOS, open_regular, replace_whole
from tailboard.logs import data_start
from tailboard.masking import (
    MASKED_RANGES,
    MOST_SEALED,
    Mask,
    SecretsDamaged,
    make_mask,
    pack_ranges,
    unpack_ranges,
)
from tailboard.sealed import KEY_FILE, Sealer
from tailboard.secret_forms import LEAST
from tailboard.values import FULL_ERRNOS

log = logging.getLogger("storage")

BATCH = 100_000  # ranges that are overwritten at a time
STARS = b"*" * (1 << 20)  # written at a time
STARS_RE = re.compile(rb"\*+")

Range = tuple[int, int]  # of a log: where it begins and ends


class JobSecrets:
    """The file `secrets` in a job's folder. Only the process that holds the job's lock changes
    it."""

    def __init__(self, root: str, folder: str) -> None:
        self.root, self.folder, self.path = root, folder, f"{folder}/secrets"
        self.sealer = Sealer(root)

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    def add(self, values: Iterable[bytes]) -> None:
        """Add the values of an attempt, durably, before its log is opened. ValueError if those of
        earlier attempts are damaged."""
        known, ranges = self._read() if self.exists() else ([], [])
        wanted = list(dict.fromkeys([*known, *values]))
        # The next attempt may truncate the log: what is then at these places is not a value.
        if wanted != known or ranges:
            self._write(wanted, [])

    def mask_log(self) -> None:
        """Mask the log on the disk, durably and without changing its size, its holes and its time.
        SecretsDamaged if the values cannot be read; OSError if the disk prevents it. Then the log
        is as before, or partly masked: readers mask the rest, and the next call repeats this."""
        if not self.exists():
            return
        try:
            fd = open_regular(f"{self.folder}/output.log", os.O_RDWR)
        except OSError as error:
            if error.errno not in DAMAGE_ERRNOS:
                raise
            return  # the job has no log, or has replaced it by something that nobody reads
        try:
            self._mask_open_log(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Mask the log on the disk and remove the values. If that fails, they stay, and the error
        is logged. For a job that no process works on, such as one that is set aside."""
        try:
            self.mask_log()
        except OSError as error:
            log.error("its log contains secrets path=%s reason=%r", self.folder, str(error))
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the values, once the log is masked. An error is logged: a job must end even if it
        has replaced the file."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.error("secrets remain path=%s reason=%r", self.path, error.strerror)

    def _mask_open_log(self, fd: int) -> None:
        try:
            values, interrupted = self._read()
        except ValueError:
            raise SecretsDamaged(self.path) from None
        changed_at = os.fstat(fd)
        if interrupted:
            overwrite(fd, interrupted, changed_at)
        mask = make_mask(frozenset(values))
        begin, size = 0, changed_at.st_size if mask.longest else 0
        while begin < size:
            ranges = list(islice(find_ranges(fd, mask, begin, size), BATCH + 1))
            # The next batch begins between two ranges, so none is split.
            begin = ranges.pop()[0] if len(ranges) > BATCH else size
            if begin == size:
                ranges += find_cut_value(fd, mask, size)
            if ranges:
                self._announce(values, ranges)
                overwrite(fd, ranges, changed_at)

    def _announce(self, values: Sequence[bytes], ranges: Sequence[Range]) -> None:
        """Store which bytes are about to be overwritten. A full disk has no room for that, but for
        the `*`: values that stay on the disk would be worse than a crash at just this moment."""
        try:
            self._write(values, ranges)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    def _read(self) -> tuple[list[bytes], list[Range]]:
        """The values, and the ranges that are being overwritten. ValueError if they are damaged."""
        try:
            fd = open_regular(self.path, os.O_RDONLY)
        except OSError as error:
            if error.errno in (*DAMAGE_ERRNOS, errno.EACCES):
                raise ValueError(f"{self.path} is damaged: {error.strerror}") from None
            raise
        with open(fd, "rb") as file:
            sealed = file.read(MOST_SEALED)
        try:
            values = self.sealer.unseal(sealed)
        except OSError as error:
            if error.errno not in DAMAGE_ERRNOS:
                raise
            raise ValueError(f"{error.filename} is damaged: {error.strerror}") from None
        ranges = values.pop(MASKED_RANGES, None)
        return list(values.values()), [] if ranges is None else unpack_ranges(ranges)

    def _write(self, values: Sequence[bytes], ranges: Sequence[Range]) -> None:
        named = {str(number): value for number, value in enumerate(values)}
        if ranges:
            named[MASKED_RANGES] = pack_ranges(ranges)
        try:
            sealed = self.sealer.seal(named)
        except ValueError:
            raise ValueError(f"the key in {self.root}/{KEY_FILE} is damaged") from None
        replace_whole(self.path, sealed, f"{self.root}/tmp")


def find_ranges(fd: int, mask: Mask, begin: int, size: int) -> Iterator[Range]:
    """The ranges of a log, from `begin` to `size`, that must be overwritten: in order, with a byte
    between each two. A value that begins before `begin` is not found."""
    known: Range | None = None
    for part in iter_parts(fd, begin, size):
        for found in find_in_part(fd, mask, part):
            if known is not None and found[0] <= known[1]:
                known = known[0], found[1]
                continue
            if known is not None:
                yield known
            known = found
    if known is not None:
        yield known


def find_cut_value(fd: int, mask: Mask, size: int) -> list[Range]:
    """The beginning of a value at the end of a log, as an empty or a single range. A program that
    is killed has often written only a part of its last line, since it writes blocks."""
    begin = max(0, size - max(0, mask.longest - 1))
    length = mask.held_back(os.pread(fd, size - begin, begin))
    return [(size - length, size)] if length >= LEAST else []


def iter_parts(fd: int, begin: int, size: int) -> Iterator[Range]:
    """The parts of a file to read, each MASKED_BLOCK bytes at most, without its holes. No value
    contains a NUL, so none is next to a hole's bytes."""
    while begin < size:
        try:
            begin = os.lseek(fd, begin, os.SEEK_DATA)
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left, or the file was truncated
                return
            if error.errno != errno.EINVAL:  # this file system does not say where its holes are
                raise
            end = size
        for at in range(begin, end, masking.MASKED_BLOCK):
            yield at, min(at + masking.MASKED_BLOCK, end)
        begin = end


def find_in_part(fd: int, mask: Mask, part: Range) -> Iterator[Range]:
    """The ranges in this part of a log that must be overwritten. Reads around it, so that a value
    is found that is only partly in it."""
    begin, end = part
    around = max(0, mask.longest - 1)
    low = max(0, begin - around)
    data = os.pread(fd, end + around - low, low)
    start = data_start(fd)
    masked = mask.apply(data, start - low if 0 < start and low <= start < end else None)
    if masked is data:
        return
    for stars in STARS_RE.finditer(masked, begin - low, end - low):
        if data[stars.start() : stars.end()] != stars[0]:
            yield low + stars.start(), low + stars.end()


def overwrite(fd: int, ranges: Sequence[Range], before: os.stat_result) -> None:
    """Overwrite ranges of a log with `*`, durably. Its time of change stays as it was `before`, as
    it dates the last lines."""
    size = os.fstat(fd).st_size  # a process that the job has left behind may have truncated it
    for begin, end in ranges:
        for at in range(begin, min(end, size), len(STARS)):
            write_all(fd, STARS[: min(end, size) - at], at)
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.fsync(fd)


def write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
