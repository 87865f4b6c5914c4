"""What is done in threads between the exit of a job and the record of its end."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from tailboard import intervals
from tailboard.folder.claim import Claim
from tailboard.folder.files_folder import FilesCount

# Jobs whose files are counted at a time; each count needs three descriptors.
COUNTING = threading.BoundedSemaphore(4)


class EndStep(ABC):
    """A step that can take seconds, in a thread of its own: other jobs must start, end and be
    cancelled meanwhile. If the worker is killed, the next one does it again."""

    def __init__(self, claim: Claim, on_end: Callable[[], None]) -> None:
        """`on_end` is called in that thread."""
        self._claim, self._on_end = claim, on_end
        self._has_ended = False
        self.error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.do()
        except Exception as error:
            self.error = error
        self._has_ended = True
        self._on_end()

    @property
    def is_done(self) -> bool:
        """Has it ended?"""
        return self._has_ended

    @abstractmethod
    def do(self) -> None:
        """The work. An exception becomes `error`."""


class LogMasking(EndStep):
    """Masks the log of a job that has secrets on the disk."""

    def do(self) -> None:
        self._claim.mask_log(intervals.CLOSE_TIME)


class FilesCounting(EndStep):
    """Counts the files of a job. The end of the job does not wait longer than COUNT_TIME for that:
    the job may have left a network file system mounted that no longer responds."""

    result: FilesCount | None = None  # None: not known (yet)

    def __init__(self, claim: Claim, on_end: Callable[[], None]) -> None:
        self._until = time.monotonic() + intervals.COUNT_TIME
        super().__init__(claim, on_end)

    @property
    def is_done(self) -> bool:
        return super().is_done or time.monotonic() >= self._until

    def do(self) -> None:
        if COUNTING.acquire(timeout=intervals.COUNT_TIME):
            try:
                self.result = self._claim.count_files()
            finally:
                COUNTING.release()
