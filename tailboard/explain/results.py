"""The results that a job writes to its log."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject


class ResultsPart(Part):
    """The results that a job has written to its log, in all of its attempts."""

    def work(self, subject: Subject, deadline: float) -> bool:
        log = subject.log
        return subject.marks.work(log, log.size, subject.has_ended, deadline)

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        results = dict(subject.marks.found.results)
        return {"count": len(results), "results": results}
