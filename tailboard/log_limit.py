"""How a worker supervises the log of its job: it samples the size and keeps it below a limit."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from bisect import bisect_right
from contextlib import suppress

from tailboard import values
from tailboard.files import open_regular
from tailboard.logs import SizeSamples, data_start, lock_log
from tailboard.values import RESOURCE_ERRNOS


class LogSupervisor:
    """Samples and trims the log of a running job."""

    def __init__(self, path: str, times: int) -> None:
        """`path`: the log. `times`: the descriptor of the file `times`, which the caller closes."""
        self.log = open_regular(path, os.O_RDWR)
        self.samples = SizeSamples(times)
        self.time, self.size = (0.0, 0)
        if self.samples:
            self.time, self.size = self.samples[len(self.samples) - 1]

    def close(self) -> None:
        os.close(self.log)

    def sample_and_trim(self, limit: int) -> bool:
        """Append a sample if the log has grown, at most once per second. Free all but its newest
        `limit` bytes. Returns False if the file system cannot do that."""
        size, now = os.fstat(self.log).st_size, time.time()
        if size < self.size:
            self._forget_above(size)
        if now < self.time:
            self._pull_back_to(now)
        if size > self.size and now - self.time >= 1:
            self.samples.append(now, size)
            self.time, self.size = now, size
        return trim_log(self.log, limit)

    def _forget_above(self, size: int) -> None:
        """The log was truncated to `size` bytes. Remove the samples above that: they would give
        their times to new lines."""
        self.samples.keep(bisect_right(self.samples, size, key=lambda sample: sample[1]))
        self.size = size

    def _pull_back_to(self, now: float) -> None:
        """The clock was set back. Move later samples to `now`, because no line is from the
        future."""
        self.samples.keep(bisect_right(self.samples, now, key=lambda sample: sample[0]))
        self.samples.append(now, self.size)
        self.time = now


def trim_log(fd: int, limit: int) -> bool:
    """Free all but the newest `limit` bytes of a log, if it takes up more than that on disk.
    Returns False if the file system cannot do that."""
    if os.fstat(fd).st_blocks * 512 <= limit:
        return True
    _free_past_end(fd, limit)
    length = (os.fstat(fd).st_size - limit) // values.BLOCK * values.BLOCK
    if length <= 0:  # fallocate would refuse it
        return True
    return _punch_hole(fd, 0, length)


def _free_past_end(fd: int, limit: int) -> None:
    """Free the blocks past the end of a log if they are more than `limit` bytes. A job can allocate
    such blocks by fallocate(2), and XFS does so for each file that grows."""
    if _bytes_past_end(fd) <= limit:
        return
    # Begin at a distance from the end, so that no output that the job writes meanwhile is lost.
    _punch_hole(fd, os.fstat(fd).st_size + limit // 2, _bytes_past_end(fd))
    if _bytes_past_end(fd) > limit:
        # ext4 punches no holes past the end. A line that the job writes at this moment may be lost.
        os.ftruncate(fd, os.fstat(fd).st_size)


def _bytes_past_end(fd: int) -> int:
    found = os.fstat(fd)
    return found.st_blocks * 512 - (found.st_size - data_start(fd))


def _punch_hole(fd: int, begin: int, length: int) -> bool:
    """Make a hole in a file, or free blocks past its end, without changing its size. Returns False
    if the file system cannot do that. OSError for an error that might be temporary."""
    try:  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, fallocate(2)
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except AttributeError:  # this system has no fallocate
        return False
    if fallocate(fd, 3, ctypes.c_int64(begin), ctypes.c_int64(length)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (*RESOURCE_ERRNOS, errno.EINTR, errno.EIO, errno.ESTALE):
        raise OSError(code, os.strerror(code))
    return False


def trim_ended_log(path: str, limit: int) -> int:
    """Trim the log of a job that has ended. Returns how many bytes that has freed: 0 if a process
    is reading the log or if the file system cannot do it."""
    with suppress(OSError), lock_log(path, os.O_RDWR) as fd:
        before = os.fstat(fd)
        trim_log(fd, limit)
        # The time of the change dates the log's last lines.
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        return max(0, (before.st_blocks - os.fstat(fd).st_blocks) * 512)
    return 0
