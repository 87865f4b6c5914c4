"""The annotations in a log."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject
from tailboard.explain.places import LineNumbers


class AnnotationsPart(Part):
    """The annotations in a log: how many there are, and the first ones."""

    def __init__(self) -> None:
        self._restarts = 0  # see LogMarks
        self._numbers = LineNumbers()

    def work(self, subject: Subject, deadline: float) -> bool:
        marks, log = subject.marks, subject.log
        are_known = marks.work(log, log.size, subject.has_ended, deadline)
        if marks.restarts != self._restarts:
            self._restarts, self._numbers = marks.restarts, LineNumbers()
        offsets = [offset for offset, _ in list(marks.found.annotations)]
        return self._numbers.work(log, offsets, deadline) and are_known

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        found = subject.marks.found
        listed = [
            annotation._asdict() | {"offset": offset, "line": self._numbers.known.get(offset)}
            for offset, annotation in list(found.annotations)
        ]
        return {"counts": dict(found.annotation_counts), "annotations": listed}
