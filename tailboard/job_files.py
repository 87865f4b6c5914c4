"""The files of a job: what a listing says of each of them, and reading one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

MAX_LISTED = 10_000  # entries of a listing


class FileKind(StrEnum):
    """What an entry is. Only files can be opened."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"  # a symbolic one
    DEVICE = "device"
    FIFO = "fifo"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """An entry of the folder `files`, or of a folder below it."""

    path: bytes  # relative to `files`, with "/" between names; names are any bytes but "/" and NUL
    kind: FileKind
    size: int  # bytes; 0 unless it is a file
    modified: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class FileListing:
    """The entries of a job's files, sorted by path."""

    entries: Sequence[FileEntry]
    is_complete: bool  # False: there are more than MAX_LISTED


class OpenFile(AbstractContextManager["OpenFile"], ABC):
    """A file of a job, open for reading."""

    size: int  # bytes, when it was opened
    modified: float  # seconds since 1970, when it was opened
    version: str  # for an ETag: differs if the content may differ

    @abstractmethod
    def read(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on; b"" if the file ends before it. OSError if the
        storage fails."""

    def close(self) -> None:
        """Close it."""

    def __exit__(self, *_: object) -> None:
        self.close()
