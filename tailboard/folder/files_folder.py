"""The folder `files` of a job, in which the job keeps files: making, measuring and removing it.

file_reading.py lists and reads the files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import suppress
from typing import NamedTuple

from tailboard.folder.tree_walk import FOLDER_FLAGS, TreeWalk
from tailboard.job_files import MAX_LISTED
from tailboard.values import RESOURCE_ERRNOS

MEASURE_STEP = 100  # entries between two steps of a measurement
MAX_LINKED = 100_000  # files with several names that a measurement remembers, to count them once


class FilesCount(NamedTuple):
    """The files of a job, as they are reported when it has ended."""

    files: int  # MAX_LISTED: at least that many, or too many entries to count
    size: int  # bytes on disk of those that were counted


def make_files_folder(folder: str, attempt: int | None) -> str:
    """Make `files` in the folder of a job, or `files/N` for an attempt that has files of its own.
    Returns its path. If a job has replaced it by something else, that is moved aside. OSError if
    the machine has run out of a resource, ValueError if another error prevents it."""
    path = f"{folder}/files"
    try:
        _make_folder(path)
        if attempt is not None:
            path = f"{path}/{attempt}"
            _make_folder(path)
    except OSError as error:
        if error.errno in RESOURCE_ERRNOS:
            raise
        reason = f"its folder for files, {path}, cannot be made: {error.strerror}"
        raise ValueError(reason) from None
    return path


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path, mode=0o700)
    except FileExistsError:
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            os.rename(path, f"{path}.damaged-{os.urandom(4).hex()}")
            os.mkdir(path, mode=0o700)
        elif mode & 0o700 != 0o700:  # the next attempt must be able to use it
            os.chmod(path, stat.S_IMODE(mode) | 0o700)
    except PermissionError:  # a job may have changed the mode of its folder
        os.chmod(os.path.dirname(path), 0o700)
        os.mkdir(path, mode=0o700)


def remove_if_empty(folder: str, attempt: int | None) -> bool:
    """Remove `files/N` and `files` if they are empty. Returns True if the job has no `files`."""
    path = f"{folder}/files"
    if attempt is not None:
        with suppress(OSError):
            os.rmdir(f"{path}/{attempt}")
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def count_files(folder: str, most: int = MAX_LISTED) -> FilesCount:
    """Count the files of a job. This takes some tens of milliseconds at most, unless the disk is
    slow: the count stops after `most` entries, as a listing does."""
    found = _Sizes()
    entries = files = 0
    walk = _walk(folder)
    for what in walk or ():
        entries += 1
        if entries > most:
            return FilesCount(most, found.total)
        files += stat.S_ISREG(what.st_mode)
        found.add(what)
    is_complete = walk is None or walk.is_complete
    return FilesCount(files if is_complete else most, found.total)


def measure_files(folder: str, limit: int) -> int:
    """How many bytes on disk the files and folders in a job's `files` take up. Stops above the
    limit."""
    found = _Sizes()
    for what in _walk(folder) or ():
        found.add(what)
        if found.total > limit:
            break
    return found.total


def measure_files_in_steps(folder: str) -> Generator[None, None, int]:
    """A generator that returns how many bytes on disk all of them take up."""
    found = _Sizes()
    for count, what in enumerate(_walk(folder) or (), 1):
        found.add(what)
        if count % MEASURE_STEP == 0:
            yield
    return found.total


def _walk(folder: str) -> TreeWalk | None:
    """A walk over the files of a job; None if it has no folder `files`."""
    try:
        return TreeWalk(os.open(f"{folder}/files", FOLDER_FLAGS))
    except OSError:
        return None


class _Sizes:
    """The sum of what files take up on disk. A file with several names counts once."""

    def __init__(self) -> None:
        self.total = 0  # bytes
        self._linked: set[int] = set()

    def add(self, what: os.stat_result) -> None:
        if what.st_nlink > 1 and not stat.S_ISDIR(what.st_mode):
            if what.st_ino in self._linked:
                return
            if len(self._linked) < MAX_LINKED:
                self._linked.add(what.st_ino)
        self.total += what.st_blocks * 512
