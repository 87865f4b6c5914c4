"""The file `usage` of a job: samples of the processor time and the memory of its processes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from statistics import median
from typing import NamedTuple

from tailboard.values import LAST_TIME

# Seconds since 1970, seconds of processor time, bytes of memory:
USAGE_RECORD = struct.Struct("<ddQ")
MOST_RECORDS = 8_640  # 12 hours at one sample every 5 s; then every second record is dropped
MOST_MEMORY = 1 << 62  # bytes
GAPS = 9  # of the newest samples, whose median is typical
MOST_GAP = 3_600.0  # seconds; a job can write other times into its file


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
    """A job can write anything into the file, and a power cut can leave zeros at its end."""
    has_time = isfinite(sample.at) and 0 < sample.at < LAST_TIME
    has_cpu = isfinite(sample.cpu_seconds) and 0 <= sample.cpu_seconds < LAST_TIME
    return has_time and has_cpu and sample.memory_bytes < MOST_MEMORY


def halve(samples: Sequence[UsageSample]) -> list[UsageSample]:
    """Every second sample, counted from the newest. Each has the most memory of itself and of the
    one before it, which is left out, so that no peak is lost. The first and the last sample of each
    attempt are kept: from them follows what the attempt used."""
    kept: list[UsageSample] = []
    newer: UsageSample | None = None  # whose predecessor can be left out
    for at, sample in reversed([*enumerate(samples)]):
        if newer is None or newer.cpu_seconds < sample.cpu_seconds or is_first(samples, at):
            kept.append(sample)
            newer = sample
        else:
            most = max(newer.memory_bytes, sample.memory_bytes)
            kept[-1] = newer._replace(memory_bytes=most)
            newer = None
    return kept[::-1]


def typical_gap(samples: Sequence[UsageSample]) -> float:
    """Seconds between the last samples, in most cases; 0 if there are fewer than two."""
    last = samples[-GAPS - 1 :]
    gaps = [min(max(0.0, after.at - before.at), MOST_GAP) for before, after in pairwise(last)]
    return median(gaps) if gaps else 0.0


def is_first(samples: Sequence[UsageSample], at: int) -> bool:
    """Is the sample at this index the first one of its attempt?"""
    return at == 0 or samples[at].cpu_seconds < samples[at - 1].cpu_seconds


def thin(samples: Sequence[UsageSample], most: int) -> Sequence[UsageSample]:
    """The samples, halved until there are at most `most` of them. If nearly each of them belongs to
    another attempt, only the newest are left."""
    while len(samples) > most:
        fewer = halve(samples)
        if len(fewer) > len(samples) * 3 // 4:
            return samples[-most:]
        samples = fewer
    return samples


def cores_used(samples: Sequence[UsageSample]) -> list[float | None]:
    """How many cores were busy, on average, from the sample before each one to it. None for the
    first sample of each attempt, and if the clock did not move on."""
    rates: list[float | None] = [None for _ in samples[:1]]
    for before, after in pairwise(samples):
        seconds, used = after.at - before.at, after.cpu_seconds - before.cpu_seconds
        rates.append(used / seconds if seconds > 0 and used >= 0 else None)
    return rates
