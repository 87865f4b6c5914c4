"""Lines by which a run is compared with an earlier one: each occurs only once in that run."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from tailboard.explain.normal import line_key

BLANK = {line_key(b""), line_key(b"\r")}  # the keys of lines without text
MOST_ANCHORS = 20_000  # of a run; more would not make an estimate better


class Anchors:
    """The lines of a run that occur only once in it, without blank ones; of a very long log, some
    of them."""

    def __init__(self, keys: array[int], begin: int) -> None:
        """`keys`: of all lines of the run. Those before the number `begin` do not count."""
        step = 1 + (len(keys) - begin) // MOST_ANCHORS
        chosen = (place for place in range(begin, len(keys)) if keys[place] % step == 0)
        by_key = sorted((keys[place], place) for place in chosen)
        self._keys, self._places = array("Q"), array("Q")  # by key
        for number, (key, place) in enumerate(by_key):
            is_first = number == 0 or by_key[number - 1][0] != key
            is_last = number + 1 == len(by_key) or by_key[number + 1][0] != key
            if is_first and is_last and key not in BLANK:
                self._keys.append(key)
                self._places.append(place)
        self.places = array("Q", sorted(self._places))  # the numbers of these lines, from 0

    def keys_in_order(self) -> list[int]:
        """The keys of these lines, from the first line to the last."""
        return [key for _, key in sorted(zip(self._places, self._keys, strict=True))]

    def place_of(self, key: int) -> int | None:
        """The number, from 0, of the only line of the run that has this key; None if there is no
        such line."""
        found = bisect_left(self._keys, key)
        if found < len(self._keys) and self._keys[found] == key:
            return self._places[found]
        return None


def longest_increasing(values: Sequence[int]) -> list[int]:
    """The places of the longest subsequence that strictly increases. Of equal values that would do,
    the first one is chosen."""
    ends: list[int] = []  # of the best subsequence of each length: its last value
    tails: list[int] = []  # the place of that value
    before: list[int] = []  # for each place, the one before it in its subsequence; -1: none
    for place, value in enumerate(values):
        length = bisect_left(ends, value) if ends and value <= ends[-1] else len(ends)
        before.append(tails[length - 1] if length else -1)
        if length == len(ends):
            ends.append(value)
            tails.append(place)
        elif ends[length] != value:
            ends[length], tails[length] = value, place
    chosen: list[int] = []
    at = tails[-1] if tails else -1
    while at >= 0:
        chosen.append(at)
        at = before[at]
    return chosen[::-1]
