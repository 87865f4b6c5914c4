"""Small values and their checks: IDs, times, numbers, strings. Imports nothing of ours."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any

BLOCK = 1 << 16  # bytes read at a time when looking for lines
LAST_TIME = float(1 << 33)  # seconds since 1970, in the year 2242
YEAR_1, YEAR_9999 = -62_135_596_800.0, 253_402_300_799.0  # seconds since 1970
DATE = "[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
QUEUE_RE = re.compile(r"[a-z0-9_-]{1,32}")
QUEUE_NAMES = "1 to 32 of the characters a-z 0-9 _ -"
LINE = r"^[^\x00]*[^\x00\s][^\x00]*$"  # a string that is not blank and has no NUL
DAY_RE = re.compile(DATE)
ID_RE = re.compile(DATE + r"-(?:[01][0-9]|2[0-3])(?:[0-5][0-9]){2}-[0-9a-z]{8}")
# Errors that are not a job's fault, and end when the machine has free resources again.
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
RESOURCE_ERRNOS = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, *FULL_ERRNOS)
SECRET_RE = re.compile("(?!JOB_|TAILBOARD_)[A-Za-z_][A-Za-z0-9_]{0,63}")  # the name of a secret
# Control characters of ASCII and Latin-1, and characters that reverse or break the line that
# contains them.
CONTROL_RE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 that sorts


def plain_number(value: float | int | None) -> float | int | None:
    """A whole number as an int, so that JSON always has 60 and never 60.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def utc(timestamp: float | None = None) -> str:
    """A time (seconds since 1970; None: now) as RFC 3339 in UTC, to the millisecond. A time before
    year 1 or after year 9999, which a job can give to its files, becomes the nearest valid one."""
    if timestamp is None:
        moment = datetime.now(UTC)
    else:
        moment = datetime.fromtimestamp(min(max(timestamp, YEAR_1), YEAR_9999), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """An RFC 3339 time as seconds since 1970; ValueError if it is invalid or has no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment.timestamp()


def new_id() -> str:
    """A new job ID: UTC date and time, the microseconds in 4 characters of base 32, 4 random
    characters. IDs sort by the time when they were made."""
    return _make_id(datetime.now(UTC), int.from_bytes(os.urandom(3)) >> 4)


def first_id(moment: float) -> str:
    """The lowest ID that a job submitted at this time (seconds since 1970) can have: those of all
    later ones are above it."""
    return _make_id(datetime.fromtimestamp(min(max(moment, 0.0), LAST_TIME), UTC), 0)


def _make_id(moment: datetime, random: int) -> str:
    number = moment.microsecond << 20 | random
    return f"{moment:%Y%m%d-%H%M%S}-" + "".join(
        ID_ALPHABET[number >> n & 31] for n in range(35, -1, -5)
    )


def known_fields(cls: Any, record: Any) -> dict[str, Any]:
    """The entries of a JSON object that are fields of this dataclass. A newer version may have
    added others, which are ignored. ValueError if it is not an object."""
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return {f.name: record[f.name] for f in fields(cls) if f.name in record}


def ids_with(part: str, ids: Iterable[str]) -> Sequence[str]:
    """The IDs among `ids` that `Jobs.find` returns. `ids` are not read if the text is empty."""
    if not part:
        return []
    return [job_id for job_id in ids if job_id.startswith(part) or job_id.endswith(part)]


def cut_text(text: str, size: int) -> str:
    """The beginning of a text that takes `size` bytes as JSON, or slightly fewer."""
    kept = text[:size]
    while len(json.dumps(kept)) - len('""') > size:
        kept = kept[: len(kept) * 7 // 8]
    return kept


def is_text(value: Any) -> bool:
    """Is this a string, or None?"""
    return value is None or isinstance(value, str)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Is this an int from 0 to 2^31 - 1?"""
    return type(value) is int and 0 <= value < 1 << 31


def is_time(value: Any) -> bool:
    """Is this an RFC 3339 time with a zone, before LAST_TIME, or None?"""
    with suppress(ValueError, TypeError, OverflowError):
        return value is None or parse_time(value) < LAST_TIME
    return False


def is_queue_name(value: Any) -> bool:
    return isinstance(value, str) and QUEUE_RE.fullmatch(value) is not None


def is_json_name(name: str) -> bool:
    return name.endswith(".json")


def is_day(name: str) -> bool:
    """Is this a date as in the names of DAY folders, like 20261129?"""
    with suppress(ValueError):
        return DAY_RE.fullmatch(name) is not None and bool(date.fromisoformat(name))
    return False


def check_queue(name: str) -> None:
    """ValueError if this is not a valid name for a queue."""
    if not is_queue_name(name):
        raise ValueError(f"queue must be {QUEUE_NAMES}, not {name!r}")


def whole_number(value: Any, least: int, most: int) -> int:
    """The value itself; ValueError if it is not an int (a bool is not) from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r:.50} is not a whole number from {least} to {most}")
    return value


def finite_number(value: Any) -> float | int:
    """The value itself; ValueError if it is not an int or a float, or is infinite or NaN."""
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError(f"{value!r:.50} is not a number")
    found: float | int = value
    return found


def is_env(value: Any) -> bool:
    """Is this an object whose values are strings? JSON allows only strings as names."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def age_of(job_id: str) -> float:
    """Seconds since a job was submitted, by the date in its ID; 0 if there is no valid one."""
    with suppress(ValueError):
        then = datetime.strptime(job_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        return max(0.0, time.time() - then.timestamp())
    return 0.0
