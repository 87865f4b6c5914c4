"""The limits of the queues of a jobs folder."""

from __future__ import annotations

import os
from contextlib import suppress

from tailboard.files import fsync_folder, read_small, replace_whole
from tailboard.order import DAMAGED_LIMIT, check_limit, encode_limit, parse_limit
from tailboard.values import check_queue, is_queue_name


class LimitFiles:
    """The limits of a jobs folder: queues/QUEUE.json."""

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/queues"

    def set(self, queue: str, limit: int | None) -> None:
        check_queue(queue)
        check_limit(limit)
        if limit is None:
            with suppress(FileNotFoundError):
                os.unlink(self._path(queue))
                fsync_folder(self.home)
            return
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        replace_whole(self._path(queue), encode_limit(limit), f"{self.root}/tmp")
        fsync_folder(self.root)

    def list(self) -> dict[str, int]:
        try:
            names = sorted(os.listdir(self.home))
        except FileNotFoundError:
            return {}
        queues = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        limits = {queue: self._read(queue) for queue in queues if is_queue_name(queue)}
        return {queue: limit for queue, limit in limits.items() if limit is not None}

    def _read(self, queue: str) -> int | None:
        """The limit of a queue; None if it has none."""
        try:
            return parse_limit(read_small(self._path(queue)))
        except FileNotFoundError:  # it was removed in this moment
            return None
        except OSError:
            return DAMAGED_LIMIT

    def _path(self, queue: str) -> str:
        return f"{self.home}/{queue}.json"
