"""The lines of an earlier success, in the form in which others are compared with it."""

from __future__ import annotations

import re
import threading
from array import array
from functools import cached_property

import storage
from tailboard.errors import JobNotFound
from tailboard.explain.anchors import Anchors
from tailboard.explain.growth import Growth
from tailboard.explain.locks import acquire_until
from tailboard.explain.log_lines import LineReader
from tailboard.explain.normal import line_key
from tailboard.logs import Log
from tailboard.notify.history import Run, finish_time

MOST_LINES = 200_000  # of a profile; 16 bytes each
ATTEMPT_RE = re.compile(rb"--- attempt [0-9]+ ---")  # as error_lines.attempt_notice


class Profile:
    """An ended run: for each line of its log a key and the offset where it begins, and the samples
    of the log's size over time. It is read in steps; once `is_done`, it never changes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.keys = array("Q")  # see line_key
        self.offsets = array("Q")
        self.growth = Growth()
        self.attempt_from = 0  # the number, from 0, of the first line of its last attempt
        self.finished_at = finish_time(run)
        self.started_at = self.finished_at - (run.seconds or 0.0)
        self.is_done = False
        self.is_whole = False  # False: its log is too long, was trimmed, or cannot be read
        self._reader = LineReader()
        self._lock = threading.Lock()  # held while it is read

    @cached_property
    def anchors(self) -> Anchors:
        """The lines that occur only once in its last attempt. Only if it is done."""
        return Anchors(self.keys, self.attempt_from)

    @property
    def length(self) -> int:
        """How many lines and samples it has."""
        return len(self.keys) + len(self.growth.times)

    def work(self, store: storage.Logs, deadline: float) -> None:
        """Read on until the `deadline` on the monotonic clock, or until it is done. If another
        thread is reading it, this one waits, also until then."""
        with acquire_until(self._lock, deadline) as is_acquired:
            if is_acquired and not self.is_done:
                self._read(store, deadline)

    def _read(self, store: storage.Logs, deadline: float) -> None:
        try:
            with store.open_log(self.run.id) as log:
                if not self.growth.times:
                    self._read_samples(log)
                for line in self._reader.read(log, True, deadline):
                    if line.raw.startswith(b"---") and ATTEMPT_RE.fullmatch(line.raw):
                        self.attempt_from = len(self.keys)
                    self.keys.append(line_key(line.raw))
                    self.offsets.append(line.offset)
                    if len(self.keys) == MOST_LINES:
                        break
                at_end = self._reader.is_at_end(log)
                self.is_whole = at_end and log.start == 0
                self.is_done = at_end or len(self.keys) == MOST_LINES
        except (OSError, JobNotFound):
            self.is_done = True

    def _read_samples(self, log: Log) -> None:
        self.growth.read(log)
        self.growth.close(log.size, min(log.changed_at, self.finished_at))

    def time_of(self, offset: int) -> float:
        """When the line at this offset was written, in seconds since 1970, to about a second."""
        return self.growth.time_of(offset, self.finished_at)
