"""What is done in threads between the exit of a job and the record of its end."""

from __future__ import annotations

import threading
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
        self.is_done = False
        self.error: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.do()
        except Exception as error:
            self.error = error
        self.is_done = True
        self._on_end()

    @abstractmethod
    def do(self) -> None:
        """Do it."""


class LogMasking(EndStep):
    """Masks the log of a job that has secrets on the disk."""

    def do(self) -> None:
        self._claim.mask_log(intervals.CLOSE_TIME)


class FilesCounting(EndStep):
    """Counts the files of a job."""

    result: FilesCount | None = None

    def do(self) -> None:
        with COUNTING:
            self.result = self._claim.count_files()
