"""What the parts of an explanation have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import storage
from tailboard.explain.failure_index import FailureIndex
from tailboard.explain.log_lines import Line
from tailboard.explain.log_marks import LogMarks
from tailboard.explain.profiles import Profiles
from tailboard.job import Job
from tailboard.logs import Log
from tailboard.notify.history import History, Run
from tailboard.notify.usual import UsualTimes
from tailboard.status import FINISHED
from tailboard.visible_text import visible_text

PLACE_TEXT = 300  # characters of a line that an answer contains


class Place(NamedTuple):
    """A line in an answer."""

    offset: int
    line: int | None  # its number, from 1
    text: str

    @classmethod
    def of(cls, line: Line) -> Place:
        text = visible_text(line.raw.decode(errors="replace"))
        return cls(line.offset, line.number, text[:PLACE_TEXT])


@dataclass(frozen=True)
class Subject:
    """A job to explain, as it is during one request."""

    job: Job
    log: Log  # open; empty if the job has no log
    earlier: Sequence[Run]  # the successes that it is compared with, newest first
    store: storage.Store
    history: History
    usual_times: UsualTimes
    profiles: Profiles
    failures: FailureIndex = field(default_factory=FailureIndex)
    marks: LogMarks = field(default_factory=LogMarks)

    @property
    def has_ended(self) -> bool:
        return self.job.status in FINISHED


class Part(ABC):
    """One part of the explanation of one job. It keeps what it has found, so that each request
    continues the work of the one before; a running job's log also grows meanwhile. It needs at most
    64 MiB of memory, whatever the log contains."""

    @abstractmethod
    def work(self, subject: Subject, deadline: float) -> bool:
        """Continue until the `deadline` on the monotonic clock. Returns True if the answer is
        complete, for what the log contains now."""

    @abstractmethod
    def answer(self, subject: Subject) -> dict[str, Any] | None:
        """What was found so far, as JSON; None if this part does not apply to the job as it is."""
