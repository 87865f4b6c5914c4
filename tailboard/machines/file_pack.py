"""The files of a job as Redis stores them: one sequence of bytes, in chunks, and a listing."""

from __future__ import annotations

import json
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from tailboard.errors import JobError
from tailboard.folder.file_reading import list_files_in, open_file_in
from tailboard.job_files import MAX_LISTED, FileEntry, FileKind, OpenFile
from tailboard.values import RESOURCE_ERRNOS, finite_number, whole_number

CHUNK = 65_000  # bytes; with 65,536, Redis would take a quarter more memory
MOST_LISTING = 4 << 20  # bytes of a listing before it is compressed
LAST_BYTE = 1 << 62


@dataclass(frozen=True, slots=True)
class PackedFile:
    """An entry of a listing, and where its content is."""

    entry: FileEntry
    begin: int | None  # its first byte in the sequence; None: Redis does not have its content


@dataclass(frozen=True, slots=True)
class PackedListing:
    """The listing of a job's files in Redis."""

    files: Sequence[PackedFile]
    is_complete: bool  # False: there are more than MAX_LISTED
    is_sent: bool  # False: Redis has no content, because it is too large or did not fit

    def encode(self) -> bytes:
        rows = [_encode_row(packed) for packed in self.files]
        fields = {"complete": self.is_complete, "sent": self.is_sent, "files": rows}
        return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 1)


def decode_listing(data: bytes) -> PackedListing:
    """The listing that `encode` made. ValueError if it is damaged."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, 2 * MOST_LISTING)
        if not unpacker.eof:
            raise ValueError("it is cut off or too long")
        fields = json.loads(text)
        rows = [_decode_row(*row) for row in fields["files"][:MAX_LISTED]]
        return PackedListing(rows, fields["complete"] is True, fields["sent"] is True)
    except (zlib.error, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _encode_row(packed: PackedFile) -> Sequence[str | float | None]:
    entry = packed.entry
    path = entry.path.decode("latin-1")  # any bytes
    return [path, entry.kind, entry.size, entry.modified, packed.begin]


def _decode_row(path: str, kind: str, size: int, modified: float, begin: int | None) -> PackedFile:
    place = None if begin is None else whole_number(begin, 0, LAST_BYTE)
    entry = FileEntry(
        path.encode("latin-1"),
        FileKind(kind),
        whole_number(size, 0, LAST_BYTE),
        finite_number(modified),
    )
    return PackedFile(entry, place)


def listing_version(listing: bytes) -> str:
    """Differs if the listing, which has the size and the time of each file, may differ."""
    return sha256(listing).hexdigest()[:16]


class FilePacker:
    """Reads the files of a job that has ended, in chunks. A process that the job left behind may
    change them meanwhile: the listing says what was read."""

    def __init__(self, folder: str, most: int) -> None:
        """`most`: bytes of files that Redis may get; if there are more, there are no chunks."""
        self.folder = folder  # of the job, as it is now
        self.most, self.size = most, 0  # bytes; `size`: read so far
        found = list_files_in(folder)
        self.entries = within_limit(found.entries)
        self.is_complete = found.is_complete and len(self.entries) == len(found.entries)
        self.is_sent = self.is_complete and content_size(self.entries) <= most
        self.waiting = deque(self.entries if self.is_sent else ())
        self.packed: list[PackedFile] = []
        self.buffer = bytearray()  # read, but not returned yet
        self.current: FileEntry | None = None  # the file that is being read
        self.file: OpenFile | None = None
        self.begin = self.position = 0  # of the current file in the sequence; in the file

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.current = self.file = None

    def read_chunk(self, until: float) -> bytes | None:
        """The next CHUNK bytes; fewer at the end of the files. None if that would take longer than
        `until`, on the monotonic clock: call it again later, which continues."""
        while len(self.buffer) < CHUNK and (self.waiting or self.file is not None):
            if self.file is None:
                self._open_next()
            else:
                self._read_some(self.file, CHUNK - len(self.buffer))
            if time.monotonic() > until and len(self.buffer) < CHUNK:
                return None
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def listing(self) -> PackedListing:
        """The listing of what was read; of all files if not all could be read."""
        if self.is_sent:
            return PackedListing(self.packed, True, True)
        return PackedListing([PackedFile(e, None) for e in self.entries], self.is_complete, False)

    def _open_next(self) -> None:
        """Open the next file, unless it is empty or something else."""
        entry = self.waiting.popleft()
        if entry.kind is not FileKind.FILE:
            self.packed.append(PackedFile(entry, None))
        elif not entry.size:
            self.packed.append(PackedFile(entry, self.size))
        else:
            self._open(entry)

    def _open(self, entry: FileEntry) -> None:
        try:
            file = open_file_in(self.folder, entry.path)
        except FileNotFoundError:  # it was removed
            return
        except JobError:  # it cannot be read, or was replaced
            self.packed.append(PackedFile(entry, None))
            return
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS:
                raise
            self.packed.append(PackedFile(entry, None))
            return
        if self.size + file.size > self.most:  # it has grown
            file.close()
            self.is_sent = False
            self.waiting.clear()
            return
        self.current = replace(entry, size=file.size, modified=file.modified)
        self.file, self.begin, self.position = file, self.size, 0

    def _read_some(self, file: OpenFile, most: int) -> None:
        """Read up to `most` bytes of the current file, which is closed at its end."""
        assert self.current is not None
        data, is_readable = b"", True
        try:
            data = file.read(self.position, min(most, file.size - self.position))
        except OSError as error:
            if error.errno in RESOURCE_ERRNOS:
                raise
            is_readable = False
        self.buffer += data
        self.position += len(data)
        self.size += len(data)
        if not data or self.position == file.size:  # `not data`: it was truncated
            entry = replace(self.current, size=self.position) if is_readable else self.current
            self.packed.append(PackedFile(entry, self.begin if is_readable else None))
            self.close()


def within_limit(entries: Iterable[FileEntry]) -> Sequence[FileEntry]:
    """The first of the entries, as many as a listing of MOST_LISTING bytes can have."""

    def first() -> Iterator[FileEntry]:
        left = MOST_LISTING
        for entry in entries:
            left -= len(json.dumps(entry.path.decode("latin-1"))) + 100
            if left < 0:
                return
            yield entry

    return list(first())


def content_size(entries: Iterable[FileEntry]) -> int:
    """Bytes of the files among the entries."""
    return sum(entry.size for entry in entries if entry.kind is FileKind.FILE)
