"""The paused queues of a jobs folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from tailboard.files import fsync_folder, mtime, read_small, replace_whole
from tailboard.values import check_queue, is_queue_name, utc
from tailboard.workers import Pause, make_pause, parse_pause


class PauseFiles:
    """The paused queues of a jobs folder: paused/QUEUE.json."""

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/paused"

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        pause = make_pause(queue, why, by, self.list())
        self.put(pause)
        return pause

    def put(self, pause: Pause) -> None:
        """Store a pause durably. It replaces an earlier pause of its queue."""
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        replace_whole(self._path(pause.queue), pause.encode(), f"{self.root}/tmp")
        fsync_folder(self.root)

    def resume(self, queue: str) -> None:
        check_queue(queue)
        with suppress(FileNotFoundError):
            os.unlink(self._path(queue))
            fsync_folder(self.home)

    def list(self) -> Sequence[Pause]:
        return [self._read(queue) for queue in sorted(self.queues())]

    def queues(self) -> set[str]:
        """The names of the paused queues. OSError if the folder cannot be read; then no job may be
        claimed from any queue."""
        try:
            names = os.listdir(self.home)
        except FileNotFoundError:
            return set()
        queues = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return set(filter(is_queue_name, queues))

    def _read(self, queue: str) -> Pause:
        path = self._path(queue)
        try:
            pause = parse_pause(queue, read_small(path))
        except OSError as error:
            pause = Pause(queue, f"its file cannot be read: {error.strerror}")
        if pause.since is None and (at := mtime(path)) is not None:
            pause.since = utc(at)
        return pause

    def _path(self, queue: str) -> str:
        return f"{self.home}/{queue}.json"
