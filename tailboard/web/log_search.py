"""Searching one log. Searches of long logs wait for their turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from ipaddress import ip_address
from itertools import islice
from typing import Any

from flask import abort, request

from tailboard.forward_search import ForwardSearch
from tailboard.logs import Found, Log
from tailboard.matching import Matcher, make_matcher
from tailboard.web.auth import visitor
from tailboard.web.models import LogQuery
from tailboard.web.search_turns import Searcher
from tailboard.web.state import state

SEARCH_TIME = 2.0  # seconds for one page of matches; as much again to count lines
LONG_LOG_BYTES = 1 << 20  # shorter ones are searched in milliseconds
SHORT_REGEX_BYTES = 64 << 10  # the same for the worst regular expressions
MAX_PLACES = 1_000  # of matching lines in an answer


def check_search(query: LogQuery) -> None:
    """400 if parameters of a search do not go together."""
    searching = {"count", "places", "case", "regex", "after", "upto"}
    given = [name for name in LogQuery.model_fields if name in searching & query.model_fields_set]
    if given and query.q is None:
        abort(400, f"{given[0]} needs q, the text to search for")
    for one, other in (("before", "after"), ("count", "places")):
        if {one, other} <= query.model_fields_set:
            abort(400, f"use only one of {one} and {other}")
    if query.upto is not None and not query.places:
        abort(400, "upto needs places=1")


def search_in_turn(log: Log, text: str, query: LogQuery) -> dict[str, Any]:
    """The matches in a log, or their number. 400 if `text` is a wrong regular expression; 503 if
    the search can take long and too many others are running."""
    try:
        matcher = make_matcher(text, query.case, query.regex)
    except ValueError as error:
        abort(400, f"q must be a regular expression (RE2 syntax): {error}")
    if log.size - log.start <= (SHORT_REGEX_BYTES if query.regex else LONG_LOG_BYTES):
        return search_or_count(log, matcher, query)
    with state().searches.turn(searcher()):
        return search_or_count(log, matcher, query)


def turn_for(*logs: Log) -> AbstractContextManager[None]:
    """The turn for reading these logs whole, which ends with the context. No turn is needed if all
    are short; 503 if one is long and too many others are being read."""
    if all(log.size - log.start <= LONG_LOG_BYTES for log in logs):
        return nullcontext()
    return state().searches.turn(searcher())


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


def search_or_count(log: Log, matcher: Matcher, query: LogQuery) -> dict[str, Any]:
    if query.count:
        return count_matches(log, matcher)
    if query.places:
        return find_places(log, matcher, query.upto)
    if query.after is not None:
        return search_forward(log, matcher, query.after, query.limit)
    return search(log, matcher, query)


def search(log: Log, matcher: Matcher, query: LogQuery) -> dict[str, Any]:
    """The lines that match, newest first. `line` counts from 1; it is None if the beginning of the
    log was removed or if counting took too long."""
    deadline = time.monotonic() + SEARCH_TIME
    before = log.size if query.before is None else min(query.before, log.size)
    hits, following = log.search(matcher, before, query.limit, deadline)
    numbered = number_hits(log, hits[::-1], deadline + SEARCH_TIME)[::-1]
    return {"matches": numbered, "next": following}


def search_forward(log: Log, matcher: Matcher, after: int, limit: int) -> dict[str, Any]:
    """The lines that match and begin at the offset `after` or later, oldest first."""
    deadline, size = time.monotonic() + SEARCH_TIME, log.size
    found = ForwardSearch(log, matcher, log.next_line(after, deadline), size, deadline)
    hits = [Found(line, log.excerpt(line, at)) for line, at in islice(found, limit)]
    following = hits[-1].offset + 1 if len(hits) == limit else found.reached
    numbered = number_hits(log, hits, deadline + SEARCH_TIME)
    return {"matches": numbered, "next": following if following < size else None}


def number_hits(log: Log, hits: Sequence[Found], deadline: float) -> list[dict[str, Any]]:
    """Lines of a log, oldest first, as the API shows them."""
    numbered: list[dict[str, Any]] = []
    at, line = 0, 1
    for offset, excerpt in hits:
        if log.start == 0:
            at, more = log.count_lines(at, offset, deadline)
            line += more
        number, shown = line if at == offset else None, excerpt.decode(errors="replace")
        numbered.append({"offset": offset, "line": number, "text": shown})
    return numbered


def count_matches(log: Log, matcher: Matcher) -> dict[str, Any]:
    """How many matches the log contains. `complete` is False if there was not enough time for the
    whole log."""
    deadline = time.monotonic() + SEARCH_TIME
    at, size, count = log.start, log.size, 0
    while at < size and time.monotonic() < deadline:
        length = min(matcher.step, size - at)
        if matcher.needs_whole_lines and at + length < size:
            length = log.line_at(at + length, length) - at or length
        count += matcher.count(log.pread(length + matcher.overlap, at))
        at += length
    return {"count": count, "complete": at >= size}


def find_places(log: Log, matcher: Matcher, upto: int | None) -> dict[str, Any]:
    """How many lines match, how many of them begin before the offset `upto`, and where some of them
    begin. `complete` is False if there was not enough time for the whole log; then `lines_before`
    is None if the search has not reached `upto`."""
    size = log.size
    found = ForwardSearch(log, matcher, log.start, size, time.monotonic() + SEARCH_TIME)
    lines, before, every = 0, 0, 1
    places: list[int] = []
    for offset, _ in found:
        if lines % every == 0:
            places.append(offset)
            if len(places) == 2 * MAX_PLACES:
                del places[1::2]
                every *= 2
        lines += 1
        before += upto is not None and offset < upto
    is_before_known = upto is not None and found.reached >= min(upto, size)
    return {
        "lines": lines,
        "lines_before": before if is_before_known else None,
        "places": places[:: len(places) // MAX_PLACES + 1],
        "complete": found.reached >= size,
    }
