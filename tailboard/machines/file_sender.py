"""Sending the files of a job that has ended on this machine to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tailboard.machines.file_pack import CHUNK, FilePacker, PackedListing
from tailboard.machines.messages import SpoolEntry
from tailboard.machines.redis_link import Command
from tailboard.machines.relay_store import RelayStore


class FileMessage(NamedTuple):
    """A command for Redis with a part of a job's files."""

    kind: Literal["chunk", "listing"]
    command: Command


class FileSender:
    """Sends the files of one job: the chunks, then the listing, which shows them to readers. If
    Redis lacks a chunk, it begins again."""

    def __init__(self, store: RelayStore, most: int, leaves_files: bool) -> None:
        """`most`: bytes of files that Redis may get. `leaves_files`: Redis is full and gets only
        the word that the machine has them."""
        self.store, self.most, self.leaves_files = store, most, leaves_files
        self.packer: FilePacker | None = None
        self.sent = self.confirmed = 0  # chunks
        self.is_packed = False  # all chunks are sent
        self.is_over = False  # Redis has all files, or has refused them: the next report shows why

    def close(self) -> None:
        """Close the file that it reads."""
        if self.packer is not None:
            self.packer.close()
        self.packer = None

    def _restart(self) -> None:
        self.close()
        self.sent = self.confirmed = 0
        self.is_packed = False

    def messages(self, entry: SpoolEntry, room: int, until: float) -> Iterator[FileMessage]:
        """The next messages: chunks of `room` bytes at most, and after the last one the listing.
        Reads files until `until`, on the monotonic clock. OSError if the files cannot be read now:
        call it again later."""
        if self.leaves_files:
            nothing = PackedListing([], is_complete=False, is_sent=False)
            yield self._listing(entry, nothing, 0)
            return
        try:
            yield from self._chunks(entry, room, until)
        except OSError:
            self._restart()
            raise
        if self.is_packed and self.packer is not None:
            yield self._listing(entry, self.packer.listing(), self.packer.size)

    def _chunks(self, entry: SpoolEntry, room: int, until: float) -> Iterator[FileMessage]:
        if self.packer is None:
            if room < CHUNK:
                return
            self.packer = FilePacker(entry.folder, self.most)
        self.packer.folder = entry.folder
        while room >= CHUNK and not self.is_packed:
            data = self.packer.read_chunk(until)
            if data is None:
                return
            self.is_packed = len(data) < CHUNK
            if not data:
                return
            yield FileMessage("chunk", self.store.put_chunk(entry, self.sent, data))
            self.sent += 1
            room -= CHUNK

    def _listing(self, entry: SpoolEntry, listing: PackedListing, size: int) -> FileMessage:
        count = self.sent if listing.is_sent else 0
        shown = size if listing.is_sent else 0
        return FileMessage("listing", self.store.put_listing(entry, count, listing.encode(), shown))

    def handle(self, kind: str, answer: int) -> None:
        """Handle the answer to a message."""
        if answer < 0:
            self.is_over = True
        elif kind == "listing":
            self.is_over = answer == 1
        elif answer == self.confirmed + 1:
            self.confirmed = answer
            return
        if not self.is_over:
            self._restart()
