"""How many jobs were deleted from a jobs folder: the file `deleted`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress

from tailboard.files import open_regular, read_small
from tailboard.status import Status
from tailboard.workers import parse_counts


class Deletions:
    """The number of deleted jobs of each status. Not durable: a power cut may lose the last."""

    def __init__(self, root: str) -> None:
        self._path = f"{root}/deleted"

    def count(self, status: Status) -> None:
        """Count one more."""
        with open(open_regular(self._path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            counts = parse_counts(file.read())
            counts[status] += 1
            file.seek(0)
            file.write(json.dumps(counts).encode().ljust(256))

    def totals(self) -> Mapping[Status, int]:
        """The numbers; empty if the file cannot be read."""
        with suppress(OSError):
            return parse_counts(read_small(self._path))
        return {}
