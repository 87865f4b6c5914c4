"""Sending the files of a job that has ended on this machine to Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from tailboard.machines.file_pack import CHUNK, FilePacker, PackedListing
from tailboard.machines.messages import SpoolEntry
from tailboard.machines.redis_link import Command
from tailboard.machines.relay_store import RelayStore

MOST_SENT = 16 * CHUNK  # bytes of the files of all jobs sent in one round
READ_TIME = 0.02  # seconds for reading them in one round
SLOW_TIME = 3_600.0  # seconds for which rounds are smaller after one that the network has broken


class FileMessage(NamedTuple):
    """A command for Redis with a part of a job's files."""

    kind: Literal["chunk", "listing"]
    command: Command


class FilesRoom:
    """How much of the files of all jobs one round can send. After a round that the network has
    broken, rounds are smaller for SLOW_TIME: a slow network would break each."""

    def __init__(self) -> None:
        self.divisor = 1  # by which MOST_SENT is divided on a slow network
        self.slow_until = 0.0  # on the monotonic clock, as is the next
        self.read_until = 0.0  # when this round stops reading files
        self.left = 0  # bytes that this round can still send
        self.has_sent = False  # a chunk, in this round

    def begin_round(self) -> None:
        self.left, self.has_sent = self.limit(), False
        self.read_until = time.monotonic() + READ_TIME

    def limit(self) -> int:
        """Bytes that the next round can send."""
        if time.monotonic() >= self.slow_until:
            self.divisor = 1
        return max(CHUNK, MOST_SENT // self.divisor)

    @property
    def is_full(self) -> bool:
        return self.left < CHUNK

    def take_chunk(self) -> None:
        self.left -= CHUNK
        self.has_sent = True

    def note_outage(self) -> None:
        """This round has failed. If it had files, they were perhaps too much for the network."""
        if self.has_sent:
            self.divisor = min(2 * self.divisor, MOST_SENT // CHUNK)
            self.slow_until = time.monotonic() + SLOW_TIME


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

    def messages(self, entry: SpoolEntry, room: FilesRoom) -> Iterator[FileMessage]:
        """The next messages: as many chunks as have room, and after the last one the listing.
        OSError if the files cannot be read now: call it again later."""
        if self.leaves_files:
            nothing = PackedListing([], is_complete=False, is_sent=False)
            yield self._listing(entry, nothing, 0)
            return
        try:
            yield from self._chunks(entry, room)
        except OSError:
            self._restart()
            raise
        if self.is_packed and self.packer is not None:
            yield self._listing(entry, self.packer.listing(), self.packer.size)

    def _chunks(self, entry: SpoolEntry, room: FilesRoom) -> Iterator[FileMessage]:
        if self.packer is None:
            if room.is_full:
                return
            self.packer = FilePacker(entry.folder, self.most)
        self.packer.folder = entry.folder
        while not room.is_full and not self.is_packed:
            data = self.packer.read_chunk(room.read_until)
            if data is None:
                return
            self.is_packed = len(data) < CHUNK
            if not data:
                return
            room.take_chunk()
            yield FileMessage("chunk", self.store.put_chunk(entry, self.sent, data))
            self.sent += 1

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
