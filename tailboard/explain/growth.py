"""How a log grew over time."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from contextlib import suppress
from heapq import nlargest
from itertools import count
from operator import sub
from typing import NamedTuple

from tailboard.logs import SAMPLE, Log, SizeSamples
from tailboard.values import LAST_TIME, parse_time

MOST_SAMPLES = 100_000  # the newest ones; there is at most one a second


class Gap(NamedTuple):
    """A time in which a log did not grow."""

    seconds: float
    began_at: float  # seconds since 1970
    size: int  # of the log meanwhile


class Growth:
    """The samples of a log's size, without those that are impossible: a job can write anything to
    the file `times`. So both the times and the sizes ascend."""

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        """`most`: how many samples are kept, at least; the newest ones."""
        self.most = most
        self._forget()

    def _forget(self) -> None:
        self.times = array("d")  # seconds since 1970
        self.sizes = array("Q")
        self.is_whole = True  # False: older samples are left out
        self._read = 0  # how many samples of the file were read
        self._last = (0.0, 0)  # the last of them

    def read(self, log: Log) -> bool:
        """Read the samples that were added since the last call. Returns True if any has changed."""
        with suppress(OSError), log.samples() as samples:
            if not self._continues(samples):
                self._forget()
            if len(samples) == self._read:
                return False
            begin = max(self._read, len(samples) - self.most)
            if begin > self._read:
                self.is_whole = False
            data = samples.read_data(begin)
            whole = len(data) // SAMPLE.size * SAMPLE.size
            self._add(data[:whole])
            self._read = begin + whole // SAMPLE.size
            self._last = samples[self._read - 1] if self._read else self._last
            return True
        return False

    def _continues(self, samples: SizeSamples) -> bool:
        """Are the samples that were read still the first ones of the file? The worker replaces some
        after the job has truncated its log, or after the clock was set back."""
        if self._read == 0:
            return True
        return len(samples) >= self._read and samples[self._read - 1] == self._last

    def _add(self, data: bytes) -> None:
        time, size = (self.times[-1], self.sizes[-1]) if self.times else (0.0, 0)
        for moment, grown in SAMPLE.iter_unpack(data):
            if time <= moment < LAST_TIME and grown > size:
                self.times.append(moment)
                self.sizes.append(grown)
                time, size = moment, grown
        if len(self.times) > 2 * self.most:
            self.is_whole = False
            del self.times[: -self.most], self.sizes[: -self.most]

    def close(self, size: int, changed_at: float) -> None:
        """Add the last growth of a log that is complete: the worker takes no sample within a
        second of the one before."""
        if not self.times or self.times[-1] <= changed_at < LAST_TIME:
            self._add(SAMPLE.pack(changed_at, size))

    def covers(self, offset: int) -> bool:
        """Is it known when the line at this offset was written?"""
        return len(self.sizes) > 0 and self.sizes[-1] > offset

    def time_of(self, offset: int, otherwise: float) -> float:
        """When the line at this offset was written, in seconds since 1970, to about a second;
        `otherwise` if no sample is that new."""
        place = bisect_right(self.sizes, offset)
        return self.times[place] if place < len(self.times) else otherwise

    def longest_gaps(self, most: int, begin: int, end: int) -> list[Gap]:
        """The longest times between two samples in which the size of the log was above `begin` and
        at most `end`; the longest first."""
        first, last = bisect_right(self.sizes, begin), bisect_right(self.sizes, end)
        times = self.times[first : last + 1]
        lengths = map(sub, times[1:], times)
        longest = nlargest(most, zip(lengths, count(first), strict=False))
        return [Gap(length, self.times[place], self.sizes[place]) for length, place in longest]


def moment_of(text: str | None) -> float | None:
    """A time of a job's record, in seconds since 1970; None if it is not known."""
    with suppress(ValueError):
        return None if text is None else parse_time(text)
    return None
