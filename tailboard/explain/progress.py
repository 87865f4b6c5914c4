"""The progress that a job writes to its log."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject
from tailboard.explain.progress_tail import bar_at_end


class ProgressPart(Part):
    """The progress that the last attempt of a job has written to its log: its newest marker, or
    else the progress bar in the last line."""

    def work(self, subject: Subject, deadline: float) -> bool:
        log = subject.log
        return subject.marks.work(log, log.size, subject.has_ended, deadline)

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        marked = subject.marks.found.progress
        found = marked or bar_at_end(subject.log, subject.log.size)
        if found is None:
            return None
        offset, progress = found
        source = "marker" if marked else "bar"
        return {**progress._asdict(), "source": source, "offset": offset}
