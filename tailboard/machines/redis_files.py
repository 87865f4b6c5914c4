"""Reading the files of jobs that have ended from Redis."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from tailboard.errors import FilesElsewhere, RecordDamaged, StoreError
from tailboard.job import Job
from tailboard.job_files import FileKind, FileListing, OpenFile, not_a_file
from tailboard.machines.answers import DAMAGED, none_if_damaged, text_of
from tailboard.machines.file_pack import CHUNK, PackedFile, PackedListing, decode_listing
from tailboard.machines.reader_lease import ReaderLease
from tailboard.machines.redis_link import Command, RedisLink
from tailboard.status import FINISHED, Status

LISTINGS_KEPT = 4  # in memory: each may have MAX_LISTED entries
CHUNKS_AT_ONCE = 16  # chunks read in one round trip


class LoadedListing:
    """A listing with a version, by which its chunks are known to belong to it."""

    def __init__(self, version: str, listing: PackedListing) -> None:
        self.version, self.listing = version, listing
        self.by_path: Mapping[bytes, PackedFile] = {f.entry.path: f for f in listing.files}


class RedisFiles:
    """The files of jobs in Redis. Several threads may use it."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.lock = threading.Lock()
        self.loaded: OrderedDict[str, LoadedListing] = OrderedDict()  # by job ID, the newest last

    def list(self, job: Job, token: str) -> FileListing:
        """See `Files.list_files`. `token`: of the machine that has the job."""
        found = self._load(job, token)
        if found is None:
            return FileListing([], True)
        listing = found.listing
        if not listing.is_sent and not listing.files:
            raise FilesElsewhere(self._where(job, token))
        elsewhere = None if listing.is_sent else self._where(job, token)
        return FileListing([f.entry for f in listing.files], listing.is_complete, elsewhere)

    def open(self, job: Job, token: str, path: bytes) -> OpenFile:
        """See `Files.open_file`."""
        found = self._load(job, token)
        if found is not None and not found.listing.is_sent and not found.listing.files:
            raise FilesElsewhere(self._where(job, token))
        packed = found.by_path.get(path) if found is not None else None
        if found is None or packed is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
        if packed.entry.kind is not FileKind.FILE:
            raise not_a_file(path, packed.entry.kind)
        if packed.begin is None:
            raise FilesElsewhere(self._where(job, token))
        return RedisFile(self.link, job.id, packed, packed.begin, found.version)

    def _load(self, job: Job, token: str) -> LoadedListing | None:
        """The listing of a job; None if it has no files. FilesElsewhere if its machine has not sent
        them; RecordDamaged."""
        if job.status is Status.RUNNING:
            raise FilesElsewhere(self._where(job, token))
        key = self.link.key(f"files:{job.id}")
        (answer,) = self.link.try_all([("HGET", key, "version")])
        version = text_of(answer)
        if not version:
            if job.status in FINISHED and job.files_count:
                raise FilesElsewhere(self._where(job, token))
            return None
        with self.lock:
            known = self.loaded.get(job.id)
        if known is None or known.version != version:
            known = self._read_listing(key)
        with self.lock:
            self.loaded[job.id] = known
            self.loaded.move_to_end(job.id)
            while len(self.loaded) > LISTINGS_KEPT:
                self.loaded.popitem(last=False)
        return known

    def _read_listing(self, key: str) -> LoadedListing:
        (answer,) = self.link.try_all([("HMGET", key, "version", "listing")])
        version, listing = none_if_damaged(answer) or (None, None)
        try:
            return LoadedListing((version or b"").decode(), decode_listing(listing or b""))
        except ValueError as error:
            raise RecordDamaged(errno.EIO, f"{DAMAGED}: the list of its files: {error}") from None

    def _where(self, job: Job, token: str) -> str:
        """The sentence that says which machine has the files of a job, and where."""
        spool = token.rpartition(":")[0]
        (found,) = self.link.try_all([("HGET", self.link.key("roots"), spool)])
        root = os.fsdecode(none_if_damaged(found) or b"")
        name = job.host or spool or "an unknown machine"
        if job.status is Status.RUNNING:
            place = f" in {root}/running/{job.id}/files" if root else ""
            return (
                f"job {job.id} runs on {name}; its files are there{place}, and are sent when it "
                "has ended"
            )
        place = f" in {root}/{job.status}/{job.id[:8]}/{job.id}/files" if root else ""
        return f"the files of job {job.id} are only on {name}{place}"


class RedisFile(OpenFile):
    """A file of a job that has ended. Its content is read as needed. While it is open, a key in
    Redis keeps the job from being pruned."""

    def __init__(
        self, link: RedisLink, job_id: str, packed: PackedFile, begin: int, listing_version: str
    ) -> None:
        self.link, self.key, self.begin = link, link.key(f"files:{job_id}"), begin
        self.size, self.modified = packed.entry.size, packed.entry.modified
        self.listing_version = listing_version
        self.lease = ReaderLease(link, job_id)
        self.version = f"{listing_version}-{begin}-{self.size}"

    def close(self) -> None:
        self.lease.end()

    def read(self, offset: int, limit: int) -> bytes:
        wanted = max(0, min(limit, self.size - offset))
        if not wanted:
            return b""
        first, skipped = divmod(self.begin + offset, CHUNK)
        last = min((self.begin + offset + wanted - 1) // CHUNK, first + CHUNKS_AT_ONCE - 1)
        chunks = self._read_chunks(range(first, last + 1))
        return b"".join(chunks)[skipped : skipped + wanted]

    def _read_chunks(self, numbers: range) -> Sequence[bytes]:
        """StoreError if Redis no longer has them."""
        wanted: Command = ("HMGET", self.key, "version", *numbers)
        answer = self.link.try_all([wanted, *self.lease.renewal()])[0]
        version, *chunks = none_if_damaged(answer) or [None]
        if version is None or version.decode(errors="replace") != self.listing_version:
            raise StoreError(errno.ESTALE, "the file was deleted while it was read")
        if not all(chunks):
            raise RecordDamaged(errno.EIO, f"{DAMAGED}: a part of its files is missing")
        return chunks
