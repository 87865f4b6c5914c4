"""What a process remembers of the jobs that have ended, in few bytes each: records never change."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakValueDictionary

from tailboard.folder.listing import IDs
from tailboard.job import Job
from tailboard.keep_rules import EndedJob, Origin, Rules, group_of, rules_in
from tailboard.status import Status

ALIGN_STEP = 1_000  # jobs between two steps of `align`
UNKNOWN = -1  # bytes of files that are to be measured


class Origins:
    """One Origin for all jobs that have the same, for as long as a table has it."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[str, str | None, Rules], Origin] = (
            WeakValueDictionary()
        )

    def of(self, job: Job) -> Origin:
        key = (group_of(job), job.saved, rules_in(job))
        origin = self._known.get(key)
        if origin is None:
            origin = self._known[key] = Origin(*key)
        return origin


class EndedTable:
    """The jobs of one day that ended with one status, sorted by ID: 48 bytes each, 24 of which are
    those of the listing."""

    def __init__(self) -> None:
        self.names: Sequence[str] = IDs(())
        self.ended_at = array("d")  # seconds since 1970
        self.log_bytes = array("q")
        self.files_bytes = array("q")
        self.origins: list[Origin | None] = []  # None: not read yet, or it could not be read

    def align(self, names: Sequence[str]) -> Iterator[None]:
        """Take these sorted names, and keep what is known of them. A generator: a day can have
        100,000 jobs."""
        if names == self.names:
            return
        aligned = EndedTable()
        place, count = 0, len(self.names)
        old = self.names[0] if count else ""
        for number, name in enumerate(names):
            while place < count and old < name:
                place += 1
                old = self.names[place] if place < count else ""
            if place < count and old == name:
                aligned._append(self, place)
            else:
                aligned._append_unknown()
            if number % ALIGN_STEP == 0:
                yield
        self.names, self.origins = names, aligned.origins
        self.ended_at, self.log_bytes = aligned.ended_at, aligned.log_bytes
        self.files_bytes = aligned.files_bytes

    def _append(self, other: EndedTable, place: int) -> None:
        self.ended_at.append(other.ended_at[place])
        self.log_bytes.append(other.log_bytes[place])
        self.files_bytes.append(other.files_bytes[place])
        self.origins.append(other.origins[place])

    def _append_unknown(self) -> None:
        self.ended_at.append(0.0)
        self.log_bytes.append(0)
        self.files_bytes.append(0)
        self.origins.append(None)

    def unknown(self) -> Iterator[int]:
        """The places of the jobs that are not known, newest first."""
        for place in reversed(range(len(self.names))):
            if self.origins[place] is None:
                yield place

    def put(
        self, place: int, origin: Origin, ended_at: float, log_bytes: int, files_bytes: int
    ) -> None:
        self.origins[place] = origin
        self.ended_at[place] = ended_at
        self.log_bytes[place], self.files_bytes[place] = log_bytes, files_bytes

    def iter_jobs(
        self, status: Status, log_bytes: Callable[[str], int] | None = None
    ) -> Iterator[EndedJob]:
        """The known jobs, newest first. `log_bytes` measures a log again, by the job's ID."""
        for place in reversed(range(len(self.names))):
            origin = self.origins[place]
            if origin is not None:
                name = self.names[place]
                size = self.log_bytes[place] if log_bytes is None else log_bytes(name)
                ended_at = self.ended_at[place]
                yield EndedJob(name, status, ended_at, origin, size, self.files_bytes[place])
