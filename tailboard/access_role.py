"""The roles of people and programs that use the API: what each of them may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a visitor may do. Each role includes the ones before it."""

    READ = "read"  # read everything but the audit log, and get tickets
    RUN = "run"  # also start saved commands, and cancel and rerun their jobs
    ALL = "all"

    @property
    def rank(self) -> int:
        """For comparing roles: more is allowed to the one with the higher number."""
        return list(Role).index(self)

    def includes(self, other: Role) -> bool:
        """Does somebody with this role have the other one, too?"""
        return self.rank >= other.rank
