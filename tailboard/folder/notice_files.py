"""The notices of a jobs folder."""

from __future__ import annotations

import fcntl
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import TypeVar

from tailboard.files import (
    fsync_folder,
    is_damage,
    lock_file,
    make_empty,
    mtime,
    open_regular,
    paths_in,
    read_descriptor,
    read_small,
    replace_file,
    replace_whole,
)
from tailboard.job import Job
from tailboard.notices import (
    Kind,
    NoticeRecord,
    Request,
    encode_notices,
    parse_notices,
    wait_request,
)
from tailboard.notify_rules import parse_targets, with_target
from tailboard.values import ID_RE, parse_time

MOST_REQUESTS = 1_000  # that `requests` returns
NAMED_URLS = "notify.json"
Answer = TypeVar("Answer")


class NoticeFiles:
    """The notices of a jobs folder, with the named URLs:

    notices/default            exists if TAILBOARD_NOTIFY has rules
    notices/requests/ID.KIND   a request: JSON; empty if it is due at once and has no text
    notices/records/ID         the record of a job: JSON
    notices/sender             the sender holds its flock
    notices/targets            held while notify.json is changed
    notify.json                the named URLs
    """

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/notices"
        self._has_folders = False  # this process has made them durable
        self._default: bool | None = None  # of this process; None: it has not said
        self._sender: int | None = None  # the descriptor of the lock
        self._next_due = math.inf
        self._read: dict[str, tuple[int, Request]] = {}  # by file name: inode, content

    def set_default(self, has_rules: bool) -> None:
        self._default = has_rules
        if has_rules:
            self._store_default()

    def _store_default(self) -> None:
        path = f"{self.home}/default"
        if self._default is None or self._default == self.has_default():
            return
        if self._default:
            self._in_folder(lambda: replace_whole(path, b"", f"{self.root}/tmp"))
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
                fsync_folder(self.home)

    def has_default(self) -> bool:
        return os.path.exists(f"{self.home}/default")

    def make_folders(self) -> None:
        """Make the folders, which are otherwise made when first needed."""
        for folder in (self.home, f"{self.home}/requests", f"{self.home}/records"):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        fsync_folder(self.home)
        fsync_folder(self.root)
        self._has_folders = True

    def _in_folder(self, act: Callable[[], Answer]) -> Answer:
        """The result of a function that needs the folders, which are made if they are missing. Ones
        that exist may not be durable yet: the process that made them may have died before its
        fsync."""
        if not self._has_folders:
            self.make_folders()
        try:
            return act()
        except FileNotFoundError:
            self.make_folders()
            return act()

    # Requests

    def concerns(self, job: Job) -> bool:
        """Is anyone to be notified about this job, or has its saved command a ping URL?"""
        has_rules = self.has_default() if job.notify is None else bool(job.notify)
        return has_rules or job.pings

    def request_wait(self, job: Job) -> None:
        """Make the request to look at a new job when it may have been queued for too long, if the
        job asks for that."""
        request = wait_request(job)
        if request is not None and self.concerns(job):
            self.request(request)

    def drop_wait(self, job: Job) -> None:
        """Remove that request: the job starts, and cannot be queued again. Without an fsync: if a
        power cut brings the request back, the sender finds that the job no longer waits."""
        if job.warn_waiting is not None and job.retries == 0:
            with suppress(FileNotFoundError):
                os.unlink(self._request_path(Request(job.id, Kind.WAIT)))

    def request(self, request: Request) -> None:
        """One for the start of a job is not durable: it must not delay the start."""
        path = self._request_path(request)
        if request.at or request.text:
            content = json.dumps({"at": request.at, "text": request.text}).encode()
            self._in_folder(lambda: replace_whole(path, content, f"{self.root}/tmp"))
            return
        try:
            self._in_folder(lambda: make_empty(path))
        except FileExistsError:
            replace_whole(path, b"", f"{self.root}/tmp")
        if request.kind is not Kind.START:
            fsync_folder(f"{self.home}/requests")

    def _request_path(self, request: Request) -> str:
        return f"{self.home}/requests/{request.job_id}.{request.kind}"

    def requests(self, now: float) -> Sequence[Request]:
        known = sorted(self._read_requests(), key=lambda request: request.at)
        due = [request for request in known if request.at <= now]
        later = known[len(due) :]
        self._next_due = later[0].at if later else math.inf
        return due[:MOST_REQUESTS]

    def _read_requests(self) -> list[Request]:
        """All requests. A file is read once: each change makes a new one."""
        found: dict[str, tuple[int, Request]] = {}
        with suppress(FileNotFoundError), os.scandir(f"{self.home}/requests") as entries:
            for entry in entries:
                known = self._read.get(entry.name)
                if known is not None and known[0] == entry.inode():
                    found[entry.name] = known
                elif (request := self._read_request(entry.path)) is not None:
                    found[entry.name] = (entry.inode(), request)
        self._read = found
        return [request for _, request in found.values()]

    def _read_request(self, path: str) -> Request | None:
        """The request in a file; None if it was just removed. A damaged file is removed."""
        try:
            return _parse_request(os.path.basename(path), read_small(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            if not is_damage(error):
                raise
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        with suppress(OSError):
            os.unlink(path)
        return None

    def next_due(self) -> float:
        return self._next_due

    def done(self, request: Request) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._request_path(request))

    # Records

    def load(self, job_id: str) -> NoticeRecord:
        if ID_RE.fullmatch(job_id):
            try:
                record = parse_notices(read_small(self._record_path(job_id)))
                record.job = job_id
                return record
            except OSError as error:
                if not is_damage(error):
                    raise
            except (ValueError, TypeError, RecursionError):
                pass
        return NoticeRecord(job=job_id)

    def save(self, record: NoticeRecord) -> None:
        path, content = self._record_path(record.job), encode_notices(record)
        self._in_folder(lambda: replace_whole(path, content, f"{self.root}/tmp"))

    def _record_path(self, job_id: str) -> str:
        return f"{self.home}/records/{job_id}"

    def recent(self, since: float, limit: int) -> Sequence[NoticeRecord]:
        stamps = [(mtime(path) or 0.0, path) for path in paths_in(f"{self.home}/records")]
        stamps.sort(reverse=True)
        written = ((at, self.load(os.path.basename(p))) for at, p in stamps if at >= since)
        return _changed_last(written, since, limit)

    def forget(self, job_id: str) -> None:
        if ID_RE.fullmatch(job_id):
            with suppress(FileNotFoundError):
                os.unlink(self._record_path(job_id))

    # The sender

    def lead(self) -> bool:
        path = f"{self.home}/sender"
        if self._sender is not None and not _is_open_file(self._sender, path):
            self.resign()  # the file was removed by hand: another process may hold a new one
        if self._sender is None:
            self._sender = self._in_folder(lambda: lock_file(path, os.O_RDWR | os.O_CREAT))
        if self._sender is None:
            return False
        self._store_default()
        return True

    def resign(self) -> None:
        if self._sender is not None:
            os.close(self._sender)
            self._sender = None

    # Named URLs

    def targets(self) -> Mapping[str, str]:
        try:
            return _parse_named_urls(_read_private(f"{self.root}/{NAMED_URLS}"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            if not is_damage(error):
                raise
            raise ValueError(f"{NAMED_URLS} cannot be read: {error.strerror}") from None

    def set_target(self, name: str, url: str | None) -> None:
        with self._targets_lock():
            kept = with_target(self.targets(), name, url)
            content = json.dumps(kept, indent=2, ensure_ascii=False).encode() + b"\n"
            replace_file(f"{self.root}/{NAMED_URLS}", content, private=True)

    @contextmanager
    def _targets_lock(self) -> Iterator[None]:
        """Two changes at the same time must not lose each other."""
        path = f"{self.home}/targets"
        fd = self._in_folder(lambda: open_regular(path, os.O_RDWR | os.O_CREAT))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _parse_request(name: str, data: bytes) -> Request:
    """The request in the file of this name. ValueError, KeyError or TypeError if it is damaged."""
    job_id, _, kind = name.rpartition(".")
    if not ID_RE.fullmatch(job_id):
        raise ValueError("its name does not begin with the ID of a job")
    if not data:
        return Request(job_id, Kind(kind))
    content = json.loads(data)
    at = float(content["at"])
    if not math.isfinite(at):
        raise ValueError("its time is invalid")
    return Request(job_id, Kind(kind), at, str(content["text"]))


def _is_open_file(fd: int, path: str) -> bool:
    """Is the file of this descriptor still at this path?"""
    with suppress(OSError):
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    return False


def _changed_last(
    written: Iterable[tuple[float, NoticeRecord]], since: float, limit: int
) -> Sequence[NoticeRecord]:
    """The records that have changed after `since`, `limit` at most, the one that changed last
    first. `written`: each with the time of its file, which is not before its last change; the
    newest file first."""
    newest: list[tuple[float, NoticeRecord]] = []
    for written_at, record in written:
        if len(newest) == limit and written_at < newest[-1][0]:
            break  # the remaining ones are older
        changed_at = parse_time(record.changed_at) if record.notices else 0.0
        if record.notices and changed_at >= since:
            newest.append((changed_at, record))
            newest = sorted(newest, key=itemgetter(0), reverse=True)[:limit]
    return [record for _, record in newest]


def _read_private(path: str) -> bytes:
    """The content of a file; ValueError if other users can read or change it."""
    fd = open_regular(path, os.O_RDONLY)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
            raise ValueError(
                f"{NAMED_URLS} cannot be used, because other users can read or change it: "
                f"chmod 600 {path}"
            )
        return read_descriptor(fd)
    finally:
        os.close(fd)


def _parse_named_urls(data: bytes) -> Mapping[str, str]:
    """The content of notify.json; ValueError, without a URL, if it is damaged."""
    try:
        return parse_targets(json.loads(data or b"{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{NAMED_URLS} cannot be used: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{NAMED_URLS} cannot be used: it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{NAMED_URLS} cannot be used: {error}") from None
