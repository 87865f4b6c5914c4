"""A file that a person edits while the API runs. It is read again after each change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from tailboard.files import read_small
from tailboard.program_log import RepeatedErrors

Content = TypeVar("Content")
FRESH = 100_000_000  # nanoseconds in which two changes of a file may have one time stamp


class RereadFile(Generic[Content]):
    """The file that a setting names. Its content counts from the next `refresh` on."""

    def __init__(
        self, variable: str, path: str, parse: Callable[[bytes], Content], empty: Content
    ) -> None:
        """`parse` raises ValueError, which must not repeat the file's content."""
        self.variable, self.parse = variable, parse
        self.path = path  # "": the settings name no file
        self.known = empty  # or the content when the whole file was last readable
        self.stamp: tuple[int, ...] = ()  # of the file when it was read, see _stamp
        self.errors = RepeatedErrors(logging.getLogger("tailboard"))
        # Held from reading the file until its content counts. Otherwise a slow request could put
        # what it has read before a change in the place of what another one has read after it.
        self.lock = threading.Lock()

    def read(self) -> Content:
        """What the file contains now; ValueError, with a one-sentence message, if it is invalid."""
        try:
            return self.parse(read_small(os.path.realpath(self.path)))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"{self.variable}: {self.path} cannot be used: {why}") from None

    def refresh(self) -> None:
        """Read the file if it has changed. If it is missing or bad (because it is half-written,
        say), the content stays as it was, and the log reports once what is wrong."""
        if not self.path or self._stamp() == self.stamp != ():
            return
        with self.lock:
            stamp = self._stamp()
            if stamp != self.stamp or stamp == ():
                self._read_again(stamp)

    def _read_again(self, stamp: tuple[int, ...]) -> None:
        """Read the file, whose stamp was this."""
        subject = self.variable.removeprefix("TAILBOARD_").lower()
        try:
            self.known = self.read()
            self.errors.resolved(subject)
        except ValueError as error:
            self.errors.report(subject, error)
            if isinstance(error.__context__, OSError):  # perhaps the next request can read it
                stamp = ()
        self.stamp = stamp

    def _stamp(self) -> tuple[int, ...]:
        """A value that changes when the file does; () if a change could go unnoticed."""
        with suppress(OSError):
            found = os.stat(self.path)
            if time.time_ns() - found.st_mtime_ns > FRESH:
                return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
        return ()
