"""The logs in Redis: waiting for news of them, and reading them."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tailboard.errors import JobNotFound
from tailboard.logs import SAMPLE, Log, SizeSamples
from tailboard.machines.answers import none_if_damaged, parse_count, parse_score
from tailboard.machines.reader_lease import ReaderLease
from tailboard.machines.redis_link import REDIS_PREFIX, RedisLink
from tailboard.notifier import Notifier
from tailboard.values import LAST_TIME
from tailboard.wake_pipe import WakePipe

REDIS_BLOCK = 2.0  # seconds for which Redis is asked to wait for news


class RedisFeed:
    """Waits for news on behalf of all followers in this process, with one thread and one
    connection: XREAD over the stream `changes` and the streams of all followed logs."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.changed = threading.Condition()
        self.waiting: dict[str, set[RedisNotifier]] = {}  # by job ID; "": any job
        self.places: dict[str, str] = {}  # stream -> ID of the last entry read
        self.version = self.read_version = (
            0  # versions of `places`: the newest, and the one that the thread uses
        )
        self.client_id: int | None = None  # of the thread's connection
        self.thread: threading.Thread | None = None
        self.is_closed = False

    def close(self) -> None:
        """End the thread."""
        self.is_closed = True
        if self.client_id is not None:
            with suppress(OSError):
                self.link.ask(("CLIENT UNBLOCK", self.client_id))

    def add(self, notifier: RedisNotifier, job_id: str) -> None:
        """Wake this notifier from now on: no entry that is written after this call is missed."""
        streams = [f"log:{job_id}", "changes"] if job_id else ["changes"]
        lasts = self.link.ask(
            *(("XREVRANGE", REDIS_PREFIX + s, "+", "-", "COUNT", 1) for s in streams)
        )
        with self.changed:
            self.waiting.setdefault(job_id, set()).add(notifier)
            for stream, last in zip(streams, lasts, strict=True):
                self.places.setdefault(stream, last[0][0].decode() if last else "0-0")
            self.version += 1
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._run, daemon=True)
                self.thread.start()
            self._hurry()

    def _hurry(self) -> None:
        """Unblock the thread until it reads the new streams. It may be about to wait without them,
        so it is unblocked repeatedly. The caller holds `changed`."""
        deadline = time.monotonic() + REDIS_BLOCK
        while self.read_version < self.version and time.monotonic() < deadline:
            if self.client_id is not None:
                with suppress(OSError):
                    self.link.ask(("CLIENT UNBLOCK", self.client_id))
            self.changed.wait(0.005)

    def remove(self, notifier: RedisNotifier, job_id: str) -> None:
        """Stop waking this notifier."""
        with self.changed:
            notifiers = self.waiting.get(job_id, set())
            notifiers.discard(notifier)
            if not notifiers and job_id:
                self.waiting.pop(job_id, None)
                self.places.pop(f"log:{job_id}", None)

    def _run(self) -> None:
        pause = 0.05
        while not self.is_closed:
            try:
                self._read()
                pause = 0.05
            except Exception:  # Redis is unreachable: the woken followers ask it and get the error
                self.client_id = None
                self._wake_all()
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _read(self) -> None:
        """Read the streams and wake the notifiers until an error or `close`."""
        with self.link.client.client() as client:  # its own connection
            self.client_id = client.client_id()
            while not self.is_closed:
                with self.changed:
                    self.read_version = self.version
                    self.changed.notify_all()
                    places = {REDIS_PREFIX + s: place for s, place in self.places.items()}
                found = client.xread(places, count=100, block=int(REDIS_BLOCK * 1000))
                with self.changed:
                    for key, entries in found or ():
                        self._wake(key.decode().removeprefix(REDIS_PREFIX), entries)

    def _wake(self, stream: str, entries: Sequence[Any]) -> None:
        """Wake the notifiers that these new entries concern."""
        if stream in self.places:
            self.places[stream] = entries[-1][0].decode()
        jobs = {stream.removeprefix("log:")}
        if stream == "changes":
            jobs = {fields.get(b"id", b"").decode(errors="replace") for _, fields in entries} | {""}
        for job_id in jobs:
            for notifier in self.waiting.get(job_id, ()):
                notifier.wake()

    def _wake_all(self) -> None:
        with self.changed:
            for notifiers in self.waiting.values():
                for notifier in notifiers:
                    notifier.wake()


class RedisNotifier(Notifier):
    """A Notifier for the changes of a job and its log, or of any job if `job_id` is ""."""

    def __init__(self, feed: RedisFeed, job_id: str) -> None:
        self.inotify, self.feed, self.job_id = None, feed, job_id
        self.pipe = WakePipe()
        self.is_closed = False
        try:
            feed.add(self, job_id)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self.pipe.fd

    def wake(self) -> None:
        self.pipe.wake()

    def pop_news(self) -> bool:
        """Forget the news since the last call. Returns True if there was any."""
        return self.pipe.clear()

    def changes(self) -> Iterator[tuple[int, str]]:
        self.pop_news()
        return iter(())

    def close(self) -> None:
        self.feed.remove(self, self.job_id)
        if not self.is_closed:
            self.pipe.close()
        self.is_closed = True


class MemorySamples(SizeSamples):
    """The samples of a log, as read from Redis."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1)
        self.content, self.length = data, len(data) // SAMPLE.size

    def __getitem__(self, place: Any) -> Any:
        if place >= self.length:
            raise IndexError(place)
        found, size = SAMPLE.unpack_from(self.content, place * SAMPLE.size)
        return (found if 0 <= found < LAST_TIME else 0.0), size

    def read_data(self, begin: int) -> bytes:
        return self.content[begin * SAMPLE.size :]


class RedisLog(Log):
    """A log stored in Redis. `size` asks Redis; `start` and `changed_at` are from that moment.
    While it is open, a key in Redis keeps the job from being pruned."""

    def __init__(self, link: RedisLink, job_id: str) -> None:
        """JobNotFound; FileNotFoundError if the job has no log."""
        self.link, self.job_id = link, job_id
        self.state = self._read_state()
        self.lease = ReaderLease(link, job_id)

    def _read_state(self) -> tuple[int, int, float]:
        """(size, start, time of the last change) of the log."""
        key = self.link.key(f"state:{self.job_id}")
        fields = ("status", "log_size", "log_start", "log_at")
        (found,) = self.link.try_all([("HMGET", key, *fields)])
        status, size, start, at = none_if_damaged(found) or (b"", None, None, None)
        if status is None:
            raise JobNotFound(f"there is no job {self.job_id!r}")
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "the job has written nothing", self.job_id)
        return parse_count(size), parse_count(start), parse_score(at)

    def close(self) -> None:
        self.lease.end()

    @property
    def size(self) -> int:
        with suppress(JobNotFound, FileNotFoundError):  # deleted meanwhile: the last known size
            self.state = self._read_state()
        return self.state[0]

    @property
    def start(self) -> int:
        return self.state[1]

    @property
    def changed_at(self) -> float:
        return self.state[2]

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        wanted = self.link.script("read", self.job_id, offset, limit)
        answer = self.link.try_all([wanted, *self.lease.renewal()])[0]
        if isinstance(answer, OSError):
            raise answer
        begin, data = answer
        return int(begin), data

    def pread(self, limit: int, offset: int) -> bytes:
        """Bytes that no longer exist are zeros, like a hole in a file."""
        begin, data = self.read(offset, limit)
        return (bytes(min(begin - offset, limit)) + data)[:limit] if data else b""

    def samples(self) -> SizeSamples:
        (data,) = self.link.try_all([("GET", self.link.key(f"times:{self.job_id}"))])
        return MemorySamples(none_if_damaged(data) or b"")
