"""Masking the log of a job that has secrets on the disk, when it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tailboard import intervals
from tailboard.folder.claim import Claim


class LogMasking:
    """Masks the log of a claimed job in a thread of its own: a large log takes seconds, and other
    jobs must start, end and be cancelled meanwhile. If the worker is killed, the next one masks the
    log again."""

    def __init__(self, claim: Claim, on_end: Callable[[], None]) -> None:
        """`on_end` is called in that thread."""
        self._claim, self._on_end = claim, on_end
        self.is_done = False
        self.error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._claim.mask_log(intervals.CLOSE_TIME)
        except Exception as error:
            self.error = error
        self.is_done = True
        self._on_end()
