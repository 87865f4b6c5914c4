"""The files of a job: what a listing says of each of them, and reading one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

from tailboard.errors import NotAFile
from tailboard.values import CONTROL_RE

MAX_LISTED = 10_000  # entries of a listing
SHOWN_PATH = 200  # characters of a path in a message
# What some system does not allow in a name, or what reverses or breaks a line with the name.
UNSAFE_RE = re.compile(r'[\\/:*?"<>|\ufffd]|[. ](?=[. ]*$)|' + CONTROL_RE.pattern)
# Windows takes these for devices, whatever extension follows.
DEVICE_RE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.IGNORECASE)


class FileKind(StrEnum):
    """What an entry is. Only files can be opened."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"  # a symbolic one
    DEVICE = "device"
    FIFO = "fifo"
    SOCKET = "socket"


WHAT_IT_IS = {
    FileKind.FILE: "a file",
    FileKind.FOLDER: "a folder",
    FileKind.LINK: "a symbolic link, which is not followed",
    FileKind.DEVICE: "a device, which is not opened",
    FileKind.FIFO: "a FIFO, which is not opened",
    FileKind.SOCKET: "a socket, which is not opened",
}


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
    elsewhere: str | None = None  # a sentence: only a machine has their content, and where


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


def is_file_path(path: bytes) -> bool:
    """Can these bytes be the path of an entry? Not with an empty name, "." or "..", and thus not if
    it is absolute."""
    return b"\0" not in path and not {b"", b".", b".."} & set(path.split(b"/"))


def show_path(path: bytes) -> str:
    """A path in quotes for a message; the end of a long one is cut."""
    return repr(path.decode(errors="replace")[:SHOWN_PATH])


def not_a_file(path: bytes, kind: FileKind | None) -> NotAFile:
    """The error for opening an entry of this kind. None: of one that no listing has."""
    what = "not a file" if kind is None else WHAT_IT_IS[kind]
    return NotAFile(f"{show_path(path)} is {what}")


def safe_name(name: bytes) -> str:
    """The name of a file as one that every system accepts: an underscore replaces each character
    that some system does not allow, and each sequence of bytes that is not UTF-8. It is at most as
    many bytes long as before."""
    safe = UNSAFE_RE.sub("_", name.decode(errors="replace"))
    return f"_{safe[1:]}" if DEVICE_RE.match(safe) else safe
