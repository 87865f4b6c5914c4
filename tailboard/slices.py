"""Long work that a loop does in short slices, so that its other steps are not delayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator


class SlicedWork:
    """Work that is repeated forever. `begin` returns a generator that does the work once and yields
    after each small part of it."""

    def __init__(self, begin: Callable[[], Iterator[None]]) -> None:
        self.begin = begin
        self.rest: Iterator[None] = iter(())

    def continue_for(self, seconds: float) -> None:
        """Continue the work for about this long. If the work ends earlier, the next call starts it
        again. An error of the work is raised here, and the next call then starts it again as
        well."""
        until = time.monotonic() + seconds
        for _ in self.rest:
            if time.monotonic() > until:
                return
        self.rest = self.begin()
