"""What a search of a log looks for: a text or a regular expression. Both work on bytes, since a log
can contain anything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator

import re2

SHORT_NEEDLE = 16  # bytes; up to this length, `rfind` is faster and always quick
TEXT_STEP = 1 << 20  # bytes searched at a time for a text
# Bytes searched at a time for a regular expression. The worst ones take 0.4 s for so many.
REGEX_STEP = 64 << 10
REGEX_MEMORY = 1 << 20  # bytes for a compiled expression; larger ones are refused


class Matcher(ABC):
    """Finds matches in a block of a log."""

    step: int  # bytes of a block
    overlap: int  # bytes by which blocks overlap, because a match can extend beyond a block
    needs_whole_lines: bool  # must a block begin where a line begins?

    @abstractmethod
    def count(self, block: bytes) -> int:
        """How many matches the block contains."""

    @abstractmethod
    def first_in_lines(self, block: bytes) -> Iterator[int]:
        """Where the first match of each line that has one begins, in order."""

    @abstractmethod
    def last_finder(self, block: bytes) -> Callable[[int], int]:
        """A function that returns where the last match that begins in the first N bytes of the
        block begins, or -1. It may pass over all but the first match of a line."""


class TextMatcher(Matcher):
    """Finds a text. Unless case matters, ASCII letters match in either case."""

    step = TEXT_STEP
    needs_whole_lines = False

    def __init__(self, text: str, match_case: bool = False) -> None:
        self.match_case = match_case
        self.needle = self._fold(text.encode())
        self.overlap = len(self.needle) - 1

    def _fold(self, content: bytes) -> bytes:
        return content if self.match_case else content.lower()

    def count(self, block: bytes) -> int:
        return self._fold(block).count(self.needle)

    def first_in_lines(self, block: bytes) -> Iterator[int]:
        folded, needle = self._fold(block), self.needle
        at = folded.find(needle)
        while at >= 0:
            yield at
            newline = folded.find(b"\n", at)
            at = folded.find(needle, newline) if newline >= 0 else -1

    def last_finder(self, block: bytes) -> Callable[[int], int]:
        find_last = last_match_finder(self._fold(block), self.needle)
        return lambda end: find_last(end + self.overlap)


class RegexMatcher(Matcher):
    """Finds a regular expression within lines. RE2 takes linear time, whatever the expression; one
    that backtracks, such as Python's `re`, would let a client occupy the API for hours."""

    step = REGEX_STEP
    overlap = 0
    needs_whole_lines = True

    def __init__(self, pattern: str, match_case: bool = False) -> None:
        """ValueError, which names the mistake, if the pattern is not a regular expression."""
        options = re2.Options()
        options.max_mem = REGEX_MEMORY
        options.case_sensitive = match_case
        options.never_nl = True  # [^a] and \s match no newline
        options.log_errors = False
        try:
            self.regex = re2.compile(f"(?m){pattern}", options)
        except re2.error as error:
            raise ValueError(describe_error(error)) from None

    def count(self, block: bytes) -> int:
        return sum(1 for match in self.regex.finditer(block) if match.end() > match.start())

    def first_in_lines(self, block: bytes) -> Iterator[int]:
        at = 0
        while at < len(block) and (match := self.regex.search(block, at)):
            if match.start() == len(block):  # an empty match after the last newline
                return
            yield match.start()
            at = block.find(b"\n", match.start()) + 1 or len(block)

    def last_finder(self, block: bytes) -> Callable[[int], int]:
        places = [-1, *self.first_in_lines(block)]
        return lambda end: places[max(0, bisect_left(places, end) - 1)]


def describe_error(error: Exception) -> str:
    """RE2's message, without the prefix that we add to the pattern."""
    [message] = error.args
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return text.replace("(?m)", "", 1)


def make_matcher(text: str, match_case: bool, is_regex: bool) -> Matcher:
    """ValueError if the text should be a regular expression and is none."""
    return RegexMatcher(text, match_case) if is_regex else TextMatcher(text, match_case)


def last_match_finder(block: bytes, needle: bytes) -> Callable[[int], int]:
    """A function that returns where the last match in the first N bytes of the block begins, or -1.
    `rfind` compares up to len(needle) bytes at each place, while all other threads are blocked:
    30 ms for a block of 1 MiB and a needle of 200 bytes. `find` takes linear time."""
    if len(needle) <= SHORT_NEEDLE:
        return lambda end: block.rfind(needle, 0, end)
    if needle not in block:
        return lambda end: -1
    mirrored, wanted = block[::-1], needle[::-1]

    def find_last(end: int) -> int:
        at = mirrored.find(wanted, max(0, len(block) - end))
        return -1 if at < 0 else len(block) - at - len(wanted)

    return find_last
