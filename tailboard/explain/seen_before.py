"""Whether other jobs have ended with the same hint."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject


class SeenBeforePart(Part):
    """Whether other jobs have ended with the same hint."""

    def work(self, subject: Subject, deadline: float) -> bool:
        return True

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        return None
