"""All files of a job as one ZIP archive, which is made while it is sent.

Nothing is stored, neither in memory nor on the disk: an archive can be larger than both. So its
size is not known in advance, and a download cannot be continued after a lost connection."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, cast

from flask import Response

from tailboard.errors import FilesElsewhere, JobNotFound, NotAFile, StoreError
from tailboard.job import Job
from tailboard.job_files import MAX_LISTED, FileEntry, FileKind, FileListing, OpenFile, safe_name
from tailboard.web.files import CONTENT_HEADERS, READ_BYTES
from tailboard.web.log_read import file_name
from tailboard.web.long_answer import take_place
from tailboard.web.problems import DownloadBroken
from tailboard.web.state import state

LEVEL = 1  # of compression
MODE = 0o644  # of unpacked files
FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # that an archive can have
LAST_YEAR = 2107
LONGEST_NAME = 255  # bytes


def send_zip(job: Job) -> Response:
    """The archive of the files that a job has now. It holds a follower's place: making it keeps a
    CPU busy until the client has received it."""
    listing = state().store.list_files(job.id)
    if listing.elsewhere is not None:
        raise FilesElsewhere(listing.elsewhere)
    headers = CONTENT_HEADERS | {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{file_name(job, "-files.zip")}"',
    }
    take_place()
    archive = Archive(job.id, listing)
    response = Response(archive.chunks(), headers=headers, mimetype="application/zip")
    response.call_on_close(state().followers.release)
    return response


class Archive:
    """Makes the archive of a listing."""

    def __init__(self, job_id: str, listing: FileListing) -> None:
        self.store, self.job_id = state().store, job_id  # the chunks are made outside the request
        self.is_complete = listing.is_complete
        self.files = [entry for entry in listing.entries if entry.kind is FileKind.FILE]
        self.left_out = 0  # files that could not be read

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the archive. Some are empty, so that the thread is free in between."""
        sink = Sink()
        with zipfile.ZipFile(cast("IO[bytes]", sink), "w", compresslevel=LEVEL) as archive:
            for entry, name in zip(self.files, unique_names(self.files), strict=True):
                for _ in self._add(archive, entry, name):
                    yield sink.take()
            archive.comment = self._comment().encode()
        yield sink.take()

    def _add(self, archive: zipfile.ZipFile, entry: FileEntry, name: str) -> Iterator[None]:
        """Add a file in steps. One that has vanished, or that cannot be read, is left out.
        DownloadBroken if the job was deleted."""
        try:
            file = self.store.open_file(self.job_id, entry.path)
        except StoreError:
            raise
        except JobNotFound:
            raise DownloadBroken(f"job {self.job_id} was deleted") from None
        except (OSError, NotAFile, FilesElsewhere):
            self.left_out += 1
            return
        with file, archive.open(describe(name, file), "w") as target:
            for data in self._read(file):
                target.write(data)
                yield

    def _read(self, file: OpenFile) -> Iterator[bytes]:
        """The content of a file, which is shorter if the job truncates it meanwhile."""
        at = 0
        try:
            while data := file.read(at, min(READ_BYTES, file.size - at)):
                yield data
                at += len(data)
        except StoreError:
            raise
        except OSError as error:
            raise DownloadBroken(f"a file of the archive cannot be read: {error}") from None

    def _comment(self) -> str:
        """What the archive lacks."""
        missing = []
        if not self.is_complete:
            missing.append(f"This job has more files: only the first {MAX_LISTED:,} are here.")
        if self.left_out:
            missing.append(f"Files that could not be read: {self.left_out:,}.")
        return " ".join(missing)


class Sink:
    """What an archive is written to. Without `tell` and `seek`, zipfile writes the size of a file
    behind its content."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Needed by zipfile."""

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


def describe(name: str, file: OpenFile) -> zipfile.ZipInfo:
    """The header of a file in the archive. From its size follows whether the archive has 64-bit
    sizes for it, so no more than that is read from a file that grows."""
    info = zipfile.ZipInfo(name, moment(file.modified))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = MODE << 16
    info.file_size = file.size
    return info


def moment(modified: float) -> tuple[int, int, int, int, int, int]:
    """A time as an archive has it: local, from 1980 to 2107."""
    try:
        found = time.localtime(modified)[:6]
    except (OverflowError, OSError, ValueError):
        return FIRST_TIME
    return found if FIRST_TIME[0] <= found[0] <= LAST_YEAR else FIRST_TIME


def unique_names(files: Sequence[FileEntry]) -> list[str]:
    """The names of these files in an archive, which can be unpacked on every system, see
    `safe_name`. A name that is the same as another one gets a number. Names that need no change
    are never changed."""
    names = ArchiveNames()
    by_change = sorted(files, key=lambda entry: safe_path(entry.path) != entry.path)
    found = {entry.path: names.name(entry.path) for entry in by_change}
    return [found[entry.path] for entry in files]


def safe_path(path: bytes) -> bytes:
    return "/".join(map(safe_name, path.split(b"/"))).encode()


class ArchiveNames:
    """The names in an archive by the paths of files and of their folders."""

    def __init__(self) -> None:
        self.by_path: dict[bytes, str] = {}
        self.used: set[str] = set()

    def name(self, path: bytes) -> str:
        above, at = "", 0
        while at >= 0:
            at = path.find(b"/", at + 1)
            part = path if at < 0 else path[:at]
            if part not in self.by_path:
                self.by_path[part] = self._unused(above, safe_name(part.rpartition(b"/")[2]))
            above = f"{self.by_path[part]}/"
        return self.by_path[path]

    def _unused(self, above: str, name: str) -> str:
        found, number = above + name, 1
        while found in self.used:
            number += 1
            numbered = f"{number}_".encode()
            cut = name.encode()[: LONGEST_NAME - len(numbered)]
            found = above + (numbered + cut).decode(errors="ignore")
        self.used.add(found)
        return found
