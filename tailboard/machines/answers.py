"""Parsers for the replies of Redis. Anybody can change a key, so any value may be damaged."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tailboard.errors import RecordDamaged, StoreError
from tailboard.logs import LAST_SIZE
from tailboard.status import Status
from tailboard.values import LAST_TIME, utc

# Errors of Redis if a key holds something other than our command or script expects.
DAMAGE_RE = re.compile(
    "WRONGTYPE|attempt to |bad argument|not an integer|equal or smaller|no such key"
)
DAMAGED = "its record in Redis is damaged"


def is_full(error: Exception) -> bool:
    """Has Redis refused to write because of its maxmemory?"""
    return isinstance(error, StoreError) and error.errno == errno.ENOSPC


def none_if_damaged(answer: Any) -> Any:
    """An answer about one job; None if its key holds something else. Other errors are raised."""
    if isinstance(answer, RecordDamaged):
        return None
    if isinstance(answer, OSError):
        raise answer
    return answer


def text_of(answer: Any) -> str:
    """The text in an answer about one job; "" if there is none, or if its key is damaged."""
    return (none_if_damaged(answer) or b"").decode(errors="replace")


def parse_count(text: bytes | str | None) -> int:
    """A number of bytes or jobs; 0 if it is not a number."""
    with suppress(ValueError):
        return max(0, min(int(text or 0), LAST_SIZE))
    return 0


def parse_score(text: bytes | str | None) -> float:
    """A time in seconds since 1970; 0 if it is not a valid time."""
    with suppress(ValueError):
        found = float(text or 0)
        return found if 0 <= found < LAST_TIME else 0.0
    return 0.0


def parse_status(text: str) -> tuple[Status, str | None]:
    """(status, problem). A job with a damaged status is lost; the problem of a good one is None."""
    with suppress(ValueError):
        return Status(text), None
    why = f"its status is {text[:40]!r}" if text else "it has no status"
    return Status.LOST, f"{DAMAGED}: {why}"


def flat_pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """The pairs in a flat list, as Redis sends them."""
    return zip(flat[::2], flat[1::2], strict=True)


def ended_line(status: Status, reason: str) -> str:
    """The journal line of a job that ends now without its machine."""
    ended = {"status": status, "reason": reason, "finished_at": utc()}
    return f"\n{json.dumps({'ended': ended})}\n"


def damaged_line(why: str) -> str:
    """The journal line of a job whose record is damaged: the job is lost."""
    return ended_line(Status.LOST, f"{DAMAGED}: {why}")
