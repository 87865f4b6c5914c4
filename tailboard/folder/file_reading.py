"""Reading the files of a job in a folder, whatever the job has put there."""

from __future__ import annotations

import errno

from tailboard.job_files import FileListing, OpenFile


def list_files_in(folder: str) -> FileListing:
    """The files of the job in this folder, see `storage.Files`."""
    return FileListing([], True)


def open_file_in(folder: str, path: bytes) -> OpenFile:
    """A file of the job in this folder, see `storage.Files`."""
    raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
