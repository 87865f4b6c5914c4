"""Searching one log. Searches of long logs wait for their turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from flask import request

from tailboard.logs import Log
from tailboard.web.auth import visitor
from tailboard.web.models import LogQuery
from tailboard.web.search_turns import Searcher
from tailboard.web.state import state

COUNT_BLOCK = 1 << 20  # bytes searched at a time when counting matches
SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines
LONG_LOG_BYTES = 1 << 20  # shorter ones are searched in milliseconds


def search_in_turn(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The matches in a log, or their number. 503 if the log is long and too many searches are
    running."""
    if log.size - log.start <= LONG_LOG_BYTES:
        return search_or_count(log, needle, query)
    with state().searches.turn(searcher()):
        return search_or_count(log, needle, query)


def searcher() -> Searcher:
    """The searcher whose turn this request uses."""
    if name := visitor():
        return Searcher(name, name)
    peer = request.remote_addr or ""
    return Searcher(peer, last_hop() or peer)


def last_hop() -> str:
    """The last address in X-Forwarded-For, which our own proxy or the page has added; the client
    can have forged all others. Empty if the header has no address."""
    added = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    with suppress(ValueError):
        return str(ip_address(added))
    return ""


def search_or_count(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    return count_matches(log, needle) if query.count else search(log, needle, query)


def search(log: Log, needle: str, query: LogQuery) -> dict[str, Any]:
    """The lines that contain a text, newest first. `line` counts from 1; it is None if the
    beginning of the log was removed or if counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    before = log.size if query.before is None else min(query.before, log.size)
    hits, following = log.search(needle.encode(), before, query.limit, deadline)
    return {"matches": number_hits(log, hits, deadline + SEARCH_TIME), "next": following}


def number_hits(
    log: Log, hits: Sequence[tuple[int, bytes]], deadline: float
) -> list[dict[str, Any]]:
    """The lines that Log.search found, newest first, as the API shows them."""
    numbered: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in reversed(hits):
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        numbered.append({"offset": offset, "line": number, "text": shown})
    return numbered[::-1]


def count_matches(log: Log, needle: str) -> dict[str, Any]:
    """How often the log contains a text; ASCII case is ignored. `complete` is False if there was
    not enough time for the whole log."""
    wanted = needle.encode().lower()
    deadline = time.monotonic() + SEARCH_TIME
    at, size, count = log.start, log.size, 0
    while at < size and time.monotonic() < deadline:
        length = min(COUNT_BLOCK, size - at)
        overlap = len(wanted) - 1  # a match can extend beyond its block
        count += log.pread(length + overlap, at).lower().count(wanted)
        at += length
    return {"count": count, "complete": at >= size}
