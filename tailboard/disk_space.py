"""The space of a file system."""

from __future__ import annotations

import os
from typing import NamedTuple, Self


class Space(NamedTuple):
    """Bytes of a file system."""

    free: int  # that our user can still write; less than what only root can
    total: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The space of the file system with this file; None if the system does not say."""
        try:
            found = os.statvfs(path)
        except OSError:
            return None
        return cls(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
