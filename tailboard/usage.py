"""The file `usage` of a job: samples of the processor time and the memory of its processes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from tailboard.values import LAST_TIME

# Seconds since 1970, seconds of processor time, bytes of memory:
USAGE_RECORD = struct.Struct("<ddQ")
MOST_RECORDS = 8_640  # 12 hours at one sample every 5 s; then every second record is dropped
MOST_MEMORY = 1 << 62  # bytes


class UsageSample(NamedTuple):
    """What the processes of an attempt used."""

    at: float  # seconds since 1970
    cpu_seconds: float  # since the attempt began; less than before if another attempt has begun
    memory_bytes: int  # the sum of their resident memory at this time


def parse_usage(data: bytes) -> list[UsageSample]:
    """The samples in a file `usage`, or in a part of it that begins with a whole record. A torn
    record at the end, and records that are impossible, are skipped."""
    whole = len(data) // USAGE_RECORD.size * USAGE_RECORD.size
    found = [UsageSample(*fields) for fields in USAGE_RECORD.iter_unpack(data[:whole])]
    return [sample for sample in found if is_possible(sample)]


def is_possible(sample: UsageSample) -> bool:
    """A job can write anything into the file."""
    has_time = isfinite(sample.at) and 0 <= sample.at < LAST_TIME
    has_cpu = isfinite(sample.cpu_seconds) and 0 <= sample.cpu_seconds < LAST_TIME
    return has_time and has_cpu and sample.memory_bytes < MOST_MEMORY


def cores_used(samples: Sequence[UsageSample]) -> list[float | None]:
    """How many cores were busy, on average, from the sample before each one to it. None for the
    first sample of each attempt, and if the clock did not move on."""
    rates: list[float | None] = [None for _ in samples[:1]]
    for before, after in pairwise(samples):
        seconds, used = after.at - before.at, after.cpu_seconds - before.cpu_seconds
        rates.append(used / seconds if seconds > 0 and used >= 0 else None)
    return rates
