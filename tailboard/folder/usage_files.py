"""The files `usage` in the folders of jobs. A job can replace its own by anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from tailboard.files import is_damage, open_regular
from tailboard.usage import MOST_RECORDS, USAGE_RECORD, UsageSample, parse_usage


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
        fd = open_regular(f"{folder}/usage", os.O_RDONLY)
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
