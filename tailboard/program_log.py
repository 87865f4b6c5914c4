"""The log of the program itself, and the handling of errors that recur."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

from tailboard.errors import JobError


def start_logging(stream: TextIO) -> None:
    """Write log lines to the stream, with the time in UTC and the level."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    formatter.converter = time.gmtime
    formatter.default_msec_format = "%s.%03dZ"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    # The lines do not contain the source file, the thread and the process. To find them out would
    # cost a fifth of the time for a line (Python's logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class RepeatedErrors:
    """Logs an error about a subject (such as a job) once, and again only if it changes or
    recurs."""

    LIMIT = 1_000  # subjects remembered; the oldest are forgotten

    def __init__(self, log: logging.Logger) -> None:
        self.log = log
        self.current: dict[str, str] = {}  # by subject, such as "job=ID": its error message

    def report(self, thing: str, error: Exception) -> None:
        """Log this error unless it is already the current one of this subject. Errors other than
        OSError, ValueError and JobError are logged with their traceback."""
        text = str(error) or type(error).__name__
        if self.current.get(thing) == text:
            return
        self.current[thing] = text
        while len(self.current) > self.LIMIT:
            self.current.pop(next(iter(self.current)))
        is_expected = isinstance(error, (OSError, ValueError, JobError))
        self.log.error("trouble %s error=%r", thing, text, exc_info=None if is_expected else error)

    def run(self, thing: str, step: Callable[[], None]) -> bool:
        """Run a step; returns False if it failed. Its error is reported, and stops nothing else."""
        try:
            step()
        except Exception as error:
            self.report(thing, error)
            return False
        self.resolved(thing)
        return True

    def resolved(self, thing: str) -> None:
        """The subject has no error now."""
        self.current.pop(thing, None)
