"""Finds the lines that two sequences of lines have in common, in the same order.

difflib alone takes quadratic time. Here, lines that occur once on each side divide the sequences
first, as in the patience diff, and difflib compares only the short ranges between them. In a long
range without such lines, a few differences are found by the algorithm of Myers (1986)."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

from tailboard.explain.anchors import longest_increasing

MOST_CELLS = 40_000  # the product of the lengths of two ranges that difflib compares
CELLS_PER_STEP = 5  # of difflib that take as long as one line of another step
MOST_CHANGES = 400  # lines that are only on one side of a long range
SNAKE_STEPS = 10  # lines that its search can look at, for each line of the range
MOST_STEPS = 1_500_000  # lines looked at, about a second; then the rest counts as different
NONE = -1


class Match(NamedTuple):
    """Lines that are the same on both sides."""

    left: int  # the index of the first one
    right: int
    lines: int


class Range(NamedTuple):
    """Two ranges that are compared with each other."""

    left: int  # the first index
    left_end: int  # after the last index
    right: int
    right_end: int

    @property
    def is_empty(self) -> bool:
        return self.left == self.left_end or self.right == self.right_end

    @property
    def lines(self) -> int:
        return self.left_end - self.left + self.right_end - self.right

    @property
    def cells(self) -> int:
        return (self.left_end - self.left) * (self.right_end - self.right)


Pairs = list[tuple[int, int]]  # an index on the left and one on the right, both ascending


class LineMatcher:
    """Compares two sequences of lines, each represented by a number."""

    def __init__(self, left: Sequence[int], right: Sequence[int]) -> None:
        self.left, self.right = left, right
        self._partners = array("q", [NONE]) * len(left)  # the index on the right
        self._steps = MOST_STEPS

    def matches(self) -> list[Match]:
        """The common lines, in order; all that touch each other are one match."""
        ranges = [Range(0, len(self.left), 0, len(self.right))]
        while ranges:
            rest = self._trim(ranges.pop())
            if rest.is_empty or self._steps < 0:
                continue
            self._steps -= rest.lines
            pairs = self._pair(rest)
            for left, right in pairs:
                self._partners[left] = right
            ranges += gaps_between(pairs, rest) if pairs else []
        return self._join()

    def _pair(self, rest: Range) -> Pairs:
        """Common lines of these ranges that divide them; none if they have no common lines, or too
        few to find them in time."""
        pairs = self._pair_unique(rest)
        if not pairs and rest.cells <= MOST_CELLS:
            return self._pair_with_difflib(rest)
        return pairs or self._pair_few_changes(rest) or self._pair_repeated(rest)

    def _trim(self, whole: Range) -> Range:
        """Match the lines with which both ranges begin, and those with which both end."""
        left, left_end, right, right_end = whole
        while left < left_end and right < right_end and self.left[left] == self.right[right]:
            self._partners[left] = right
            left, right = left + 1, right + 1
        while (
            left < left_end
            and right < right_end
            and self.left[left_end - 1] == self.right[right_end - 1]
        ):
            left_end, right_end = left_end - 1, right_end - 1
            self._partners[left_end] = right_end
        return Range(left, left_end, right, right_end)

    def _pair_unique(self, rest: Range) -> Pairs:
        """The lines that occur once in each range, as far as they are in the same order."""
        on_right = places_of_unique(self.right, rest.right, rest.right_end)
        on_left = places_of_unique(self.left, rest.left, rest.left_end)
        return longest_ascending(
            [(left, on_right[key]) for key, left in on_left.items() if key in on_right]
        )

    def _pair_repeated(self, rest: Range) -> Pairs:
        """The first occurrence of each line on the left with the first one on the right, the second
        with the second and so on, as far as they are in the same order."""
        unused: dict[int, list[int]] = {}
        for place in reversed(range(rest.right, rest.right_end)):
            unused.setdefault(self.right[place], []).append(place)
        pairs = []
        for place in range(rest.left, rest.left_end):
            if left_over := unused.get(self.left[place]):
                pairs.append((place, left_over.pop()))
        return longest_ascending(pairs)

    def _pair_with_difflib(self, rest: Range) -> Pairs:
        self._steps -= rest.cells // CELLS_PER_STEP
        left = self.left[rest.left : rest.left_end]
        right = self.right[rest.right : rest.right_end]
        blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
        return [
            (rest.left + block.a + number, rest.right + block.b + number)
            for block in blocks
            for number in range(block.size)
        ]

    def _pair_few_changes(self, rest: Range) -> Pairs:
        """As many pairs as possible; none if more than MOST_CHANGES lines are only on one side. The
        names are those of the paper: x on the left and y = x - k on the right are reached after d
        changes."""
        left = self.left[rest.left : rest.left_end]
        right = self.right[rest.right : rest.right_end]
        furthest = {1: 0}  # x, by k
        history: list[dict[int, int]] = []
        budget = SNAKE_STEPS * rest.lines
        for d in range(MOST_CHANGES + 1):
            history.append(furthest.copy())
            for k in range(-d, d + 1, 2):
                x = first_x(furthest, d, k)
                begin = x
                while x < len(left) and 0 <= x - k < len(right) and left[x] == right[x - k]:
                    x += 1
                furthest[k] = x
                budget -= x - begin + 1
                if x >= len(left) and x - k >= len(right):
                    return walk_back(history, rest)
            if budget < 0:
                break
        return []

    def _join(self) -> list[Match]:
        found: list[Match] = []
        for left, right in enumerate(self._partners):
            if right == NONE:
                continue
            last = found[-1] if found else None
            if last and (left, right) == (last.left + last.lines, last.right + last.lines):
                found[-1] = last._replace(lines=last.lines + 1)
            else:
                found.append(Match(left, right, 1))
        return found


def first_x(furthest: Mapping[int, int], d: int, k: int) -> int:
    """Where the d-th change on the diagonal k leads, before equal lines follow."""
    if k == -d or (k != d and furthest[k - 1] < furthest[k + 1]):
        return furthest[k + 1]  # a line that is only on the right
    return furthest[k - 1] + 1


def walk_back(history: Sequence[Mapping[int, int]], whole: Range) -> Pairs:
    """The pairs on the way to the end. `history`: what was reached before each change."""
    x, y = whole.left_end - whole.left, whole.right_end - whole.right
    found: Pairs = []
    for d in reversed(range(len(history))):
        begin = first_x(history[d], d, x - y)
        while x > begin:
            x, y = x - 1, y - 1
            found.append((whole.left + x, whole.right + y))
        k = x - y
        is_right = k == -d or (k != d and history[d][k - 1] < history[d][k + 1])
        x, y = (x, y - 1) if is_right else (x - 1, y)
    return found[::-1]


def gaps_between(pairs: Pairs, whole: Range) -> list[Range]:
    """The ranges before, between and after these pairs that are not empty."""
    edges = [(whole.left - 1, whole.right - 1), *pairs, (whole.left_end, whole.right_end)]
    gaps = (Range(a[0] + 1, b[0], a[1] + 1, b[1]) for a, b in pairwise(edges))
    return [gap for gap in gaps if not gap.is_empty]


def places_of_unique(lines: Sequence[int], begin: int, end: int) -> dict[int, int]:
    """The index of each line that occurs once in a range."""
    places: dict[int, int] = {}
    repeated: set[int] = set()
    for place in range(begin, end):
        key = lines[place]
        if key in places:
            repeated.add(key)
        places[key] = place
    for key in repeated:
        del places[key]
    return places


def longest_ascending(pairs: Pairs) -> Pairs:
    """As many of the pairs as possible whose right indexes ascend. Their left indexes do."""
    return [pairs[place] for place in longest_increasing([right for _, right in pairs])]
