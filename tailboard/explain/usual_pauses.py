"""How long the pauses of a log were in earlier runs."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Set
from statistics import median
from typing import NamedTuple

from tailboard.explain.anchors import BLANK
from tailboard.explain.part import Subject
from tailboard.explain.places import MOST_BLANK
from tailboard.explain.profile import Profile

LEAST_RUNS = 3  # earlier runs with the same pause, without which nothing is usual
MOST_PLACES = 1_000  # where the same line is looked for in one run


class Pause(NamedTuple):
    """A pause as it can be found in other runs."""

    before: int | None  # the key of the line before it, see line_key; None: at the beginning
    after: int | None  # of the line after it; None: at the end
    is_inside: bool  # of one line, which is then both
    is_first: bool  # before the first line


class UsualPauses:
    """How long the pauses of one job were in its earlier runs."""

    def __init__(self) -> None:
        # By the ID of the run: the length of each pause there, in seconds; None if it has none.
        self._found: dict[str, dict[Pause, float | None]] = {}

    def work(self, subject: Subject, pauses: Set[Pause], deadline: float) -> bool:
        """Look for these pauses in the earlier runs until the `deadline` on the monotonic clock.
        Returns True if they were looked for in all of them."""
        if len(subject.earlier) < LEAST_RUNS:
            self._found = {}
            return True
        known, self._found = self._found, {}
        for run in subject.earlier:
            self._found[run.id] = {p: s for p, s in known.get(run.id, {}).items() if p in pauses}
        for run in subject.earlier:
            found = self._found[run.id]
            missing = pauses - found.keys()
            if not missing:
                continue
            profile = subject.profiles.of(run)
            profile.work(subject.store, deadline)
            if not profile.is_done:
                return False
            found |= {pause: length_in(profile, pause) for pause in missing}
        return True

    def seconds(self, pause: Pause) -> float | None:
        """The median of the pause in the earlier runs; None if too few of them have it."""
        lengths = [found[pause] for found in self._found.values() if pause in found]
        known = [seconds for seconds in lengths if seconds is not None]
        return round(median(known), 3) if len(known) >= LEAST_RUNS else None


def length_in(profile: Profile, pause: Pause) -> float | None:
    """The length of a pause in an earlier run, in seconds: the longest, if it has several. None if
    it has no such pause."""
    if not profile.is_whole:
        return None
    if pause.is_first:
        return length_of_first(profile)
    if pause.before is None or pause.before in BLANK:
        return None
    if pause.after is None:
        return length_of_last(profile, pause.before)
    if pause.is_inside:
        return longest_inside(profile, pause.before)
    return longest_between(profile, pause.before, pause.after)


def length_of_first(profile: Profile) -> float | None:
    """The time before the first line. After a retry, the record says when the last attempt began,
    but not the first."""
    growth = profile.growth
    if profile.attempt_from > 0 or not growth.times or not growth.is_whole:
        return None
    return max(0.0, growth.times[0] - profile.started_at)


def length_of_last(profile: Profile, key: int) -> float | None:
    """The time after the last line, if that has this key."""
    last = next((key for key in reversed(profile.keys) if key not in BLANK), None)
    if key != last or not profile.growth.times:
        return None
    return max(0.0, profile.finished_at - profile.growth.times[-1])


def longest_inside(profile: Profile, key: int) -> float | None:
    """The longest pause inside of a line with this key."""
    times, sizes = profile.growth.times, profile.growth.sizes
    longest = None
    for place in places_of(profile.keys, key):
        begin, end = profile.offsets[place], end_of(profile, place)
        first, last = bisect_right(sizes, begin), bisect_left(sizes, end)
        for sample in range(first, min(last, len(sizes) - 1)):
            longest = max(longest or 0.0, times[sample + 1] - times[sample])
    return longest


def longest_between(profile: Profile, before: int, after: int) -> float | None:
    """The longest time from a line to the one after it. If the run has no two such lines, `before`
    is enough, provided that only one line has that key: what follows may differ each time."""
    places = list(places_of(profile.keys, before))
    followed = [(place, next_line(profile.keys, place)) for place in places]
    pairs = [(place, then) for place, then in followed if then is not None]
    same = [pair for pair in pairs if profile.keys[pair[1]] == after]
    if not same and len(places) == 1:
        same = pairs
    lengths = [time_between(profile, place, then) for place, then in same]
    return max(lengths, default=None)


def time_between(profile: Profile, place: int, then: int) -> float:
    offsets = profile.offsets
    return max(0.0, profile.time_of(offsets[then]) - profile.time_of(offsets[place]))


def places_of(keys: array[int], key: int) -> Iterator[int]:
    """The numbers, from 0, of the first lines with this key."""
    place = -1
    for _ in range(MOST_PLACES):
        try:
            place = keys.index(key, place + 1)
        except ValueError:
            return
        yield place


def next_line(keys: array[int], place: int) -> int | None:
    """The number of the line after this one that is not blank; None if there is none within
    MOST_BLANK lines."""
    following = range(place + 1, min(place + 1 + MOST_BLANK, len(keys)))
    return next((each for each in following if keys[each] not in BLANK), None)


def end_of(profile: Profile, place: int) -> int:
    """The offset after a line."""
    if place + 1 < len(profile.offsets):
        return profile.offsets[place + 1]
    return profile.growth.sizes[-1] + 1 if profile.growth.sizes else 0
