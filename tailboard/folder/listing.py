"""Lists of the jobs in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload


class IDs(Sequence[str]):
    """Sorted IDs in 24 bytes each; a list of strings takes 90."""

    LENGTH = 24  # characters

    def __init__(self, ids: Iterable[str]) -> None:
        self._joined = "".join(ids)

    def __len__(self) -> int:
        return len(self._joined) // self.LENGTH

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        begin = range(len(self))[place] * self.LENGTH  # IndexError if there is none
        return self._joined[begin : begin + self.LENGTH]

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self._joined), self.LENGTH):
            yield self._joined[begin : begin + self.LENGTH]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IDs):
            return self._joined == other._joined
        return isinstance(other, Sequence) and list(self) == list(other)


class Listing(NamedTuple):
    """The names in a folder when it was read."""

    stamp: int  # the folder's mtime in nanoseconds; -1: that is too recent to be trusted
    read_at: float  # on the monotonic clock
    names: Sequence[str]
