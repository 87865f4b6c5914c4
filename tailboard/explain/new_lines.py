"""The lines of a failed log that its earlier successes do not have."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject


class NewLinesPart(Part):
    """The lines of a failed log that its earlier successes do not have."""

    def work(self, subject: Subject, deadline: float) -> bool:
        return True

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        return None
