"""The files `usage` in the folders of jobs. A job can replace its own by anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from tailboard.files import is_damage, open_folder, open_regular
from tailboard.usage import (
    MOST_RECORDS,
    USAGE_RECORD,
    UsageSample,
    halve,
    parse_usage,
    typical_gap,
)

NAME = "usage"
DRAFT = "usage.new"  # the thinned samples, before they replace the file


def read_usage_in(folder: str) -> Sequence[UsageSample]:
    """All samples of the job in this folder, oldest first. FileNotFoundError if there is no such
    folder."""
    return read_last_in(folder, MOST_RECORDS)


def read_latest_in(folder: str) -> Sequence[UsageSample]:
    """Its last two samples."""
    return read_last_in(folder, 2)


def read_last_in(folder: str, most: int) -> Sequence[UsageSample]:
    """Its last samples, `most` at most."""
    try:
        fd = open_regular(f"{folder}/{NAME}", os.O_RDONLY)
    except OSError as error:
        if not is_damage(error):
            raise
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, "it has moved", folder) from None
        return []
    try:
        return read_last(fd, most)
    finally:
        os.close(fd)


def read_last(fd: int, most: int) -> Sequence[UsageSample]:
    """The last samples in an open file, `most` at most."""
    records = os.fstat(fd).st_size // USAGE_RECORD.size
    first = max(0, records - most)
    size = (records - first) * USAGE_RECORD.size
    return parse_usage(os.pread(fd, size, first * USAGE_RECORD.size))


class UsageFile:
    """The samples of a running job, to which its worker adds new ones.

    A file that is full is thinned, and new samples are then added as rarely as its samples are. A
    sample that is not added lends its memory, if that was more, to the next one. The file is not
    fsynced: a power cut costs some samples."""

    def __init__(self, folder: str) -> None:
        """OSError if the disk prevents that the earlier samples are read."""
        self.folder = folder
        earlier = read_usage_in(folder)
        self.latest = earlier[-1] if earlier else None
        # Only a file that was thinned has so many samples a time; else this is the usual interval.
        self.gap = typical_gap(earlier) if len(earlier) >= MOST_RECORDS // 2 else 0.0
        self.most_memory = 0  # of the samples that were not added

    def add(self, sample: UsageSample) -> None:
        """Add a sample, unless the last one is too recent."""
        if self.latest is not None and abs(sample.at - self.latest.at) < 0.9 * self.gap:
            self.most_memory = max(self.most_memory, sample.memory_bytes)
        else:
            self.append([sample])

    def append(self, samples: Sequence[UsageSample]) -> None:
        """Add samples in any case. OSError if that is impossible, because of the disk or because of
        what the job has made of the file; FileNotFoundError if the folder has moved."""
        *others, last = samples
        last = last._replace(memory_bytes=max(last.memory_bytes, self.most_memory))
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        fd = open_regular(f"{self.folder}/{NAME}", flags)
        try:
            if self._make_room(fd, len(samples)):
                data = b"".join(USAGE_RECORD.pack(*each) for each in (*others, last))
                if os.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            else:
                self._thin([*read_last(fd, MOST_RECORDS), *others, last])
        finally:
            os.close(fd)
        self.latest, self.most_memory = last, 0

    def _make_room(self, fd: int, count: int) -> bool:
        """Remove what is left of a record that was not written completely. Returns False if the
        file is full."""
        size = os.fstat(fd).st_size
        if size % USAGE_RECORD.size:
            os.ftruncate(fd, size - size % USAGE_RECORD.size)
        return size // USAGE_RECORD.size + count <= MOST_RECORDS

    def _thin(self, samples: Sequence[UsageSample]) -> None:
        """Replace the file by every second one of these samples. The job may end meanwhile, and its
        folder move: the descriptor of the folder moves with it."""
        kept = halve(samples)
        if len(kept) > MOST_RECORDS * 3 // 4:  # what the job has written cannot be thinned
            kept = kept[-MOST_RECORDS // 2 :]
        folder = open_folder(self.folder)
        try:
            with suppress(FileNotFoundError):  # of a worker that was killed here
                os.unlink(DRAFT, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_regular(DRAFT, flags, folder), "wb") as draft:
                draft.write(b"".join(USAGE_RECORD.pack(*each) for each in kept))
            os.rename(DRAFT, NAME, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
        self.gap = typical_gap(kept)
