"""Deleting the folder of a job that has ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from tailboard.files import fsync_folder, is_damage, open_regular, remove_tree_in_steps
from tailboard.folder.claim import APPEND_FLAGS
from tailboard.folder.deletions import Deletions
from tailboard.folder.notice_files import NoticeFiles
from tailboard.status import Status


class Remover:
    """Deletes ended jobs from a jobs folder, and counts them."""

    def __init__(self, root: str, notices: NoticeFiles, deletions: Deletions) -> None:
        self._root, self._notices, self._deletions = root, notices, deletions

    def delete(
        self, status: Status, folder: str, is_kept: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Delete the ended job in this folder and count it, in steps, unless `is_kept`, which is
        called while the job is locked. BlockingIOError if it is locked already, for example while
        its end is being recorded. After the first step the job is deleted; the others remove its
        files, of which it can have millions."""
        grave = self._bury(folder, is_kept)
        if grave is None:
            return
        for name in ("output.log", "journal"):  # a full disk then has room for what follows
            with suppress(OSError):
                os.unlink(f"{grave}/{name}")
        self._notices.forget(os.path.basename(folder))
        self._deletions.count(status)
        yield
        with suppress(OSError):  # retention tries again
            yield from remove_tree_in_steps(grave)

    def _bury(self, folder: str, is_kept: Callable[[], bool]) -> str | None:
        """Move the folder of an ended job to `tmp`, durably: there is no such job any more. Returns
        its new path; None if the job is kept."""
        journal = None
        try:
            journal = open_regular(f"{folder}/journal", APPEND_FLAGS)
        except OSError as error:
            if not is_damage(error):
                raise
            # The journal is missing or damaged, so no process can hold its lock.
        try:
            if journal is not None:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_kept():
                return None
            grave = f"{self._root}/tmp/{os.path.basename(folder)}.deleted"
            os.rename(folder, grave)
            # Otherwise a power cut could bring the job back without its journal, and it would run.
            fsync_folder(f"{self._root}/tmp")
        finally:
            if journal is not None:
                os.close(journal)
        return grave
