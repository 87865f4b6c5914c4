"""Walking a tree of folders that a hostile job can change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

MAX_PENDING = 200_000  # subfolders whose names are remembered until they are entered
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Level(NamedTuple):
    """A folder between the top of the walk and its current folder."""

    inode: int
    subfolders: list[str]  # that are still to be entered


class TreeWalk:
    """What stat(2) says of each entry below an open folder, a folder before its entries. The walk
    does not follow links and does not enter mounts. Whatever the tree contains, it raises no error,
    needs three descriptors and does not recurse. What cannot be read is skipped."""

    def __init__(self, top: int) -> None:
        """`top`: the descriptor of the folder, which the walk closes."""
        # False: folders changed meanwhile, there are too many, or the disk failed.
        self.is_complete = True
        self._fd = top
        self._device = os.fstat(top).st_dev
        self._levels: list[Level] = []
        self._pending = 0

    def __iter__(self) -> Iterator[os.stat_result]:
        try:
            yield from self._scan()
            while self._levels:
                if not self._levels[-1].subfolders:
                    self._leave()
                elif self._enter():
                    yield from self._scan()
        finally:
            os.close(self._fd)

    def _scan(self) -> Iterator[os.stat_result]:
        """The entries of the current folder."""
        subfolders: list[str] = []
        self._levels.append(Level(os.fstat(self._fd).st_ino, subfolders))
        try:
            with os.scandir(self._fd) as found:
                for entry in found:
                    with suppress(FileNotFoundError):  # it has been removed
                        what = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(what.st_mode) and what.st_dev == self._device:
                            self._remember(subfolders, entry.name)
                        yield what
        except OSError:
            self.is_complete = False

    def _remember(self, subfolders: list[str], name: str) -> None:
        """Enter this folder later. Limits the memory: a job can make any number of them."""
        if self._pending < MAX_PENDING:
            subfolders.append(name)
            self._pending += 1
        else:
            self.is_complete = False

    def _enter(self) -> bool:
        """Make the next subfolder the current folder. Returns False if it cannot be entered."""
        self._pending -= 1
        try:
            fd = os.open(self._levels[-1].subfolders.pop(), FOLDER_FLAGS, dir_fd=self._fd)
        except OSError as error:
            if error.errno != errno.EACCES:
                self.is_complete = False
            return False
        if os.fstat(fd).st_dev != self._device:  # mounted or replaced since the scan
            os.close(fd)
            return False
        os.close(self._fd)
        self._fd = fd
        return True

    def _leave(self) -> None:
        """Return to the folder above. If the job has moved the current one elsewhere, `..` leads
        out of the tree, so the walk ends."""
        self._levels.pop()
        if not self._levels:
            return
        try:
            fd = os.open("..", FOLDER_FLAGS, dir_fd=self._fd)
        except OSError:
            self._give_up()
            return
        os.close(self._fd)
        self._fd = fd
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != (self._device, self._levels[-1].inode):
            self._give_up()

    def _give_up(self) -> None:
        self.is_complete = False
        self._levels.clear()
