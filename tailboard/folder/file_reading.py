"""Reading the files of a job in a folder, whatever the job has put there.

A job can replace any of its files and folders at any moment, so a path is never opened as a whole:
each folder is opened relative to the one above, without following links, and what was opened is
checked, not what was there before. Folders of other file systems are not entered: reading those
could block.

A job can make a hard link to any file that it may read. As the job runs as the worker's user, it
can also copy such a file, so hard links are read like other files."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tailboard.errors import NotAFile
from tailboard.files import FOLDER_ONLY, open_folder, open_regular
from tailboard.job_files import (
    MAX_LISTED,
    FileEntry,
    FileKind,
    FileListing,
    OpenFile,
    is_file_path,
    not_a_file,
    show_path,
)
from tailboard.values import RESOURCE_ERRNOS

FILES = "files"  # the name of the folder
LONGEST_PATH = 4_096  # bytes: longer ones are not listed; no program can open them by their path
LISTED_BYTES = 2 << 20  # of all paths of a listing; names of 200 bytes on average reach it
LISTING_TIME = 5.0  # seconds
NO_FOLDER = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
)
# Why a file that exists cannot be opened. EAGAIN: the job holds a lease (fcntl(2)), for which open
# would wait.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EAGAIN, errno.ENXIO)
PROBE = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)  # finds out what it is
NOT_OPENED = {errno.ELOOP: FileKind.LINK, errno.EOPNOTSUPP: FileKind.SOCKET}  # without O_PATH
KINDS = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.FOLDER,
    stat.S_IFLNK: FileKind.LINK,
    stat.S_IFBLK: FileKind.DEVICE,
    stat.S_IFCHR: FileKind.DEVICE,
    stat.S_IFIFO: FileKind.FIFO,
    stat.S_IFSOCK: FileKind.SOCKET,
}


class FolderFile(OpenFile):
    """A file in the folder of a job. Its descriptor stays valid if the job moves."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        found = os.fstat(fd)
        self.size, self.modified = found.st_size, found.st_mtime
        # A job can set the time of a change, but not that of the change of its status.
        parts = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        self.version = "-".join(f"{part:x}" for part in parts)

    def read(self, offset: int, limit: int) -> bytes:
        return os.pread(self.fd, limit, offset)

    def close(self) -> None:
        if self.fd >= 0:  # else its number may be that of another file by now
            os.close(self.fd)
            self.fd = -1


def list_files_in(folder: str) -> FileListing:
    """The files of the job in this folder, see `storage.Files`. The folders nearest to `files` come
    first. What follows MAX_LISTED entries, LISTED_BYTES or LISTING_TIME is left out, and the
    listing is not complete then. Folders that cannot be read are listed, but not their entries."""
    with open_files(folder) as top:
        if top is None:
            return FileListing([], True)
        with closing(Lister(top)) as lister:
            return lister.run()


class Lister:
    """Lists the entries below an open folder, level by level: what a listing leaves out is deeper
    than what it has."""

    def __init__(self, top: int) -> None:
        self.top, self.device = top, os.fstat(top).st_dev
        self.path, self.folder = b"", os.dup(top)  # the folder that was entered last
        self.entries: list[FileEntry] = []
        self.bytes = 0  # of the paths of the entries
        self.is_complete = True
        self.deadline = time.monotonic() + LISTING_TIME

    def run(self) -> FileListing:
        folders = deque([b""])
        while folders and not self._is_full():
            folders.extend(self._read(folders.popleft()))
        self.is_complete = self.is_complete and not folders
        self.entries.sort(key=lambda entry: entry.path)
        return FileListing(self.entries, self.is_complete)

    def _is_full(self) -> bool:
        return (
            len(self.entries) >= MAX_LISTED
            or self.bytes >= LISTED_BYTES
            or time.monotonic() > self.deadline
        )

    def _read(self, path: bytes) -> Iterator[bytes]:
        """Add the entries of a folder; yields its folders."""
        try:
            with self._open(path) as fd, os.scandir(fd) as found:
                for entry in found:
                    below = os.path.join(path, os.fsencode(entry.name))
                    if self._is_full():
                        self.is_complete = False
                        return
                    if len(below) > LONGEST_PATH:
                        self.is_complete = False
                    elif self._add(below, entry) is FileKind.FOLDER:
                        yield below
        except OSError as error:  # else the job has removed the folder, or its permissions
            if error.errno in RESOURCE_ERRNOS:
                raise

    def _add(self, path: bytes, entry: os.DirEntry[str]) -> FileKind | None:
        """Add an entry and return its kind; None if it has vanished."""
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        kind = KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is not None:
            size = found.st_size if kind is FileKind.FILE else 0
            self.entries.append(FileEntry(path, kind, size, found.st_mtime))
            self.bytes += len(path)
        return kind

    @contextmanager
    def _open(self, path: bytes) -> Iterator[int]:
        """Open a folder for reading."""
        above, _, name = path.rpartition(b"/")
        fd = open_level(self._enter(above), name or b".", os.O_RDONLY, self.device)
        try:
            yield fd
        finally:
            os.close(fd)

    def _enter(self, path: bytes) -> int:
        """The open folder with this path. Only one folder is kept open, besides the top: from it,
        the next one is no more than a level away, unless the tree has many branches."""
        if path == self.path:
            return self.folder
        begin, names = self.top, path.split(b"/")
        if path.startswith(self.path + b"/"):
            begin, names = self.folder, path.removeprefix(self.path + b"/").split(b"/")
        with open_below(begin, names, self.device) as fd:
            folder = os.dup(fd)
        self.close()
        self.path, self.folder = path, folder
        return folder

    def close(self) -> None:
        os.close(self.folder)


def open_file_in(folder: str, path: bytes) -> OpenFile:
    """A file of the job in this folder, see `storage.Files`."""
    missing = FileNotFoundError(errno.ENOENT, "there is no such file", path)
    with open_files(folder) as top:
        if top is None or not is_file_path(path):
            raise missing
        *above, name = path.split(b"/")
        try:
            with open_below(top, above, os.fstat(top).st_dev) as parent:
                return FolderFile(open_regular_file(parent, name, path))
        except OSError as error:
            if error.errno not in NO_FOLDER:
                raise
            raise missing from None


@contextmanager
def open_files(folder: str) -> Iterator[int | None]:
    """The open folder `files` of the job in this folder; None if it has none. FileNotFoundError if
    the job's own folder does not exist."""
    job = open_folder(folder)
    try:
        files = os.open(FILES, FOLDER_ONLY | os.O_NOFOLLOW, dir_fd=job)
    except OSError as error:
        if error.errno not in NO_FOLDER:
            raise
        files = None
    finally:
        os.close(job)
    try:
        yield files
    finally:
        if files is not None:
            os.close(files)


@contextmanager
def open_below(top: int, names: list[bytes], device: int) -> Iterator[int]:
    """The folder below `top` to which these names lead, open for looking up names in it."""
    fd = os.dup(top)
    try:
        for name in names:
            below = open_level(fd, name, FOLDER_ONLY, device)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def open_level(parent: int, name: bytes, flags: int, device: int) -> int:
    """Open a folder in another one. OSError if it is a link, or on another device."""
    fd = os.open(name, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.ENOTDIR, "it is on another file system", name)
    return fd


def open_regular_file(parent: int, name: bytes, path: bytes) -> int:
    """Open a regular file in an open folder for reading. NotAFile if it is something else, which is
    never opened on Linux: merely opening a FIFO or a device can have an effect. `path`: for the
    message."""
    try:
        found = os.open(name, PROBE | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in NOT_OPENED:
            raise not_a_file(path, NOT_OPENED[error.errno]) from None
        raise
    try:
        kind = KINDS.get(stat.S_IFMT(os.fstat(found).st_mode))
        if kind is not FileKind.FILE:
            raise not_a_file(path, kind)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:  # no /proc
        return open_regular(os.fsdecode(name), os.O_RDONLY, parent)
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        why = (error.strerror or "").lower()
        raise NotAFile(f"{show_path(path)} cannot be read: {why}") from None
    finally:
        os.close(found)
