"""Files and folders on disk: durable writes, locks, and safe reads of files that a job can tamper
with."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tailboard.values import RESOURCE_ERRNOS

SMALL_FILE = 1 << 20  # bytes: larger files in a job's folder are not read
NOT_A_FILE = (errno.EINVAL, errno.ELOOP, errno.EISDIR, errno.ENXIO)  # when opened
# Errors that a job can cause for a file in its own folder. All others come from the disk or the
# network (EIO, ESTALE, ENOLCK …) and might be temporary, so they never decide how a job ended.
DAMAGE_ERRNOS = (*NOT_A_FILE, errno.ENOENT, errno.EFBIG)
# A job can make its folder unreadable, which O_PATH does not mind; macOS lacks it.
FOLDER_ONLY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY


def fsync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a folder and everything below it, see `remove_tree_in_steps`."""
    for _ in remove_tree_in_steps(path):
        pass


def remove_tree_in_steps(path: str) -> Iterator[None]:
    """Remove a folder and everything below it, at any depth, without recursion and long paths, and
    without following links or entering mounts. Each step removes one file or folder. OSError if
    something cannot be removed; everything else is removed anyway."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    stuck: set[str] = set()
    try:
        has_more = True
        while has_more:  # again for folders that were moved up, and for what a scan has missed
            has_more = False
            for name, is_folder in _entries_in(top):
                if name not in stuck:
                    has_more = True
                    yield from _remove_entry(top, name, is_folder, stuck)
                    yield
    finally:
        os.close(top)
    os.rmdir(path)


def _remove_entry(top: int, name: str, is_folder: bool, stuck: set[str]) -> Iterator[None]:
    """Remove an entry of `top`. If that fails, its name is added to `stuck`."""
    new_name = os.urandom(12).hex()
    try:
        if is_folder:
            # A mount point cannot be renamed, so what a job has left mounted is not removed.
            _move(top, name, top, new_name)
            yield from _remove_level(top, new_name)
        else:
            os.unlink(name, dir_fd=top)
    except OSError:
        stuck.update((name, new_name))


def _remove_level(top: int, name: str) -> Iterator[None]:
    """Remove a subfolder of `top`, after moving its own subfolders up into `top`."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        for entry, is_folder in _entries_in(fd):
            with suppress(OSError):  # then this folder cannot be removed either
                if is_folder:
                    _move(fd, entry, top, os.urandom(12).hex())
                else:
                    os.unlink(entry, dir_fd=fd)
            yield
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=top)


def _move(source: int, name: str, target: int, new_name: str) -> None:
    """Move a folder from one open folder to another, and make it writable: a job may have removed
    our permissions. A mount point is not touched before the move fails: its file system may not
    respond."""
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    except PermissionError:  # only a writable folder can be moved
        os.chmod(name, 0o700, dir_fd=source)
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    with suppress(OSError):
        os.chmod(new_name, 0o700, dir_fd=target)


def _entries_in(fd: int) -> Iterator[tuple[str, bool]]:
    """The name of each entry of an open folder, and whether it is a folder itself. Entries may be
    removed meanwhile."""
    with os.scandir(fd) as found:
        for entry in found:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def open_folder(path: str) -> int:
    """Open a folder to look up files in it, even if it moves meanwhile."""
    return os.open(path, FOLDER_ONLY)


def open_regular(path: str, flags: int, folder: int | None = None) -> int:
    """Open a regular file. OSError if the path is a link, a folder or a FIFO, or does not exist: a
    hostile job can put anything into its folder. `folder`: what a relative path is in."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


def exists_in(folder: int, name: str) -> bool:
    """Does an open folder contain anything with this name? OSError if the disk prevents the
    check."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_damage(error: OSError) -> bool:
    """Can a job have caused this error? A job can also remove the permissions of its files."""
    return error.errno in (*DAMAGE_ERRNOS, errno.EACCES)


def read_descriptor(fd: int) -> bytes:
    """All bytes of an open file. OSError if the file is larger than SMALL_FILE."""
    size = os.fstat(fd).st_size
    if size > SMALL_FILE:
        raise OSError(errno.EFBIG, f"it is larger than {SMALL_FILE:,} bytes")
    return os.pread(fd, size, 0)  # with a larger limit, Python allocates all of it first


def read_small(path: str) -> bytes:
    """All bytes of a regular file. OSError if it is not one, or above SMALL_FILE."""
    fd = open_regular(path, os.O_RDONLY)
    try:
        return read_descriptor(fd)
    finally:
        os.close(fd)


def lock_file(path: str, flags: int) -> int | None:
    """Open a regular file and take its flock without waiting. Returns the descriptor; None if
    another process holds the lock, or if the folder moved between the open and the lock: in that
    case the lock protects nothing."""
    try:
        fd = open_regular(path, flags)
    except PermissionError:  # a job may have changed the mode; chmod works only if we own the file
        with suppress(OSError):
            os.chmod(path, 0o600)
        fd = open_regular(path, flags)
    is_ours = False
    try:
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    finally:
        if not is_ours:
            os.close(fd)
    return fd if is_ours else None


def paths_in(folder: str, suffix: str = "") -> Sequence[str]:
    """The paths of a folder's entries except hidden ones; empty if the folder cannot be read. Not
    glob(), which reads a `[` in the folder's own path as a pattern."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno in RESOURCE_ERRNOS:
            raise
        return []
    return [f"{folder}/{n}" for n in names if n.endswith(suffix) and not n.startswith(".")]


def make_empty(path: str) -> None:
    """Make an empty file; FileExistsError if the path exists."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def write_new(path: str, content: bytes, mode: int = 0o600) -> None:
    """Make a file with this content and fsync it; FileExistsError if the path exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_once(path: str, content: bytes, drafts: str) -> bool:
    """Make a file that never changes again; readers see it only with its whole content. Returns
    False, and changes nothing, if the path exists. `drafts`: a folder on the same file system, in
    which the file is written first.

    The caller fsyncs the folder of `path`, also after False: the process that made the file may
    have died before its fsync."""
    draft = f"{drafts}/{os.path.basename(path)}-{os.urandom(8).hex()}"
    write_new(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def replace_whole(path: str, content: bytes, drafts: str) -> None:
    """Replace a file durably: a reader finds either the whole old content or the whole new. Several
    processes may do so at the same time; the last one wins. `drafts`: a folder on the same file
    system, in which the new file is written first."""
    draft = f"{drafts}/{os.path.basename(path)}-{os.urandom(4).hex()}"
    try:
        write_new(draft, content)
        os.rename(draft, path)
    except OSError:
        with suppress(OSError):
            os.unlink(draft)
        raise
    fsync_folder(os.path.dirname(path))


def replace_file(path: str, content: bytes, private: bool = False) -> None:
    """Replace the content of a file that a person may have made, at once and durably. Only one
    process may do so at a time. A new file is private; an existing one keeps its owner and, unless
    `private`, its permissions."""
    draft = f"{path}.new"
    with suppress(FileNotFoundError):  # left by a process that was killed here
        os.unlink(draft)
    write_new(draft, content)
    with suppress(FileNotFoundError):
        old = os.stat(path)
        if not private:
            os.chmod(draft, stat.S_IMODE(old.st_mode))
        if os.geteuid() == 0:
            os.chown(draft, old.st_uid, old.st_gid)
    os.rename(draft, path)
    fsync_folder(os.path.dirname(path))


def boot_id() -> str:
    """The ID of this boot of the machine (random(4)); "" if the system has none."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


def own_pid_namespace() -> str:
    """The namespace of this process's PIDs (pid_namespaces(7)); "" if the system has none."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def mtime(path: str) -> float | None:
    """When the file, folder or link was last changed, in seconds since 1970; None if unknown."""
    with suppress(OSError):
        return os.lstat(path).st_mtime
    return None


def append_line(journal: int, line: dict[str, Any]) -> None:
    """Append a line with one write. OSError if only a part was written; readers skip that."""
    data = b"\n" + json.dumps(line).encode() + b"\n"
    if os.write(journal, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fadvise"):
        # Linux starts to write the file out on this call (mm/fadvise.c): an fsync waits for less.
        os.posix_fadvise(journal, 0, 0, os.POSIX_FADV_DONTNEED)


def is_empty_file(path: str) -> bool:
    """Is the path an empty regular file, or does it not exist?"""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def open_private(path: str, flags: int) -> int:
    """For open(opener=…): makes a file that only its owner can read."""
    return os.open(path, flags, 0o600)


def fsync_file(path: str) -> None:
    fd = open_regular(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
