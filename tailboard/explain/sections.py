"""The sections of a log."""

from __future__ import annotations

from typing import Any

from tailboard.explain.part import Part, Subject


class SectionsPart(Part):
    """The sections of a log."""

    def work(self, subject: Subject, deadline: float) -> bool:
        return True

    def answer(self, subject: Subject) -> dict[str, Any] | None:
        return None
