"""Whether a job has been silent for longer than any earlier run."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject


class SilencePart(Part):
    """Whether a job has been silent for longer than any earlier run."""

    def work(self, subject: Subject, deadline: float) -> bool:
        return True

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        return None
