"""Recognises that a job has truncated its log and written another one."""

from __future__ import annotations

from tailboard.logs import Log

KNOWN_BYTES = 256  # that are compared


class TruncationCheck:
    """Remembers the last bytes of what was read of a log. They change if the job truncates its log,
    even if the log has grown longer again meanwhile."""

    def __init__(self) -> None:
        self._begin, self._data = 0, b""  # their offset, and the bytes

    def is_found(self, log: Log) -> bool:
        """Has the job truncated its log since the last call of `remember`?"""
        if log.is_truncated_below(self._begin + len(self._data)):
            return True
        is_kept = log.start <= self._begin
        return is_kept and log.pread(len(self._data), self._begin) != self._data

    def remember(self, log: Log, end: int) -> None:
        """Everything before the offset `end` was read."""
        begin = max(0, end - KNOWN_BYTES)
        self._begin, self._data = log.read(begin, end - begin)
