"""The notices of a jobs folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tailboard.files import (
    fsync_folder,
    is_damage,
    lock_file,
    mtime,
    paths_in,
    read_small,
    replace_file,
    replace_whole,
)
from tailboard.notices import Kind, NoticeRecord, Request, encode_notices, parse_notices
from tailboard.notify_rules import parse_targets
from tailboard.values import ID_RE, parse_time

MOST_REQUESTS = 1_000  # that `requests` returns


class NoticeFiles:
    """The notices of a jobs folder, with the named URLs:

    notices/default            exists if TAILBOARD_NOTIFY has rules
    notices/requests/ID.KIND   a request: JSON
    notices/records/ID         the record of a job: JSON
    notices/sender             the sender holds its flock
    notify.json                the named URLs
    """

    def __init__(self, root: str) -> None:
        self.root, self.home = root, f"{root}/notices"
        self._sender: int | None = None  # the descriptor of the lock
        self._next_due = math.inf

    def set_default(self, has_rules: bool) -> None:
        path = f"{self.home}/default"
        if has_rules == os.path.exists(path):
            return
        if has_rules:
            self._make_folders()
            replace_whole(path, b"", f"{self.root}/tmp")
        else:
            os.unlink(path)
            fsync_folder(self.home)

    def has_default(self) -> bool:
        return os.path.exists(f"{self.home}/default")

    def _make_folders(self) -> None:
        for folder in ("requests", "records"):
            os.makedirs(f"{self.home}/{folder}", mode=0o700, exist_ok=True)
        fsync_folder(self.home)
        fsync_folder(self.root)

    # Requests

    def request(self, request: Request) -> None:
        content = json.dumps({"at": request.at, "text": request.text}).encode()
        self._replace(self._request_path(request), content)

    def _replace(self, path: str, content: bytes) -> None:
        try:
            replace_whole(path, content, f"{self.root}/tmp")
        except FileNotFoundError:
            self._make_folders()
            replace_whole(path, content, f"{self.root}/tmp")

    def _request_path(self, request: Request) -> str:
        return f"{self.home}/requests/{request.job_id}.{request.kind}"

    def requests(self, now: float) -> Sequence[Request]:
        found = [self._read_request(path) for path in paths_in(f"{self.home}/requests")]
        known = sorted((each for each in found if each is not None), key=lambda each: each.at)
        due = [each for each in known if each.at <= now]
        self._next_due = min((each.at for each in known if each.at > now), default=math.inf)
        return due[:MOST_REQUESTS]

    def _read_request(self, path: str) -> Request | None:
        job_id, _, kind = os.path.basename(path).rpartition(".")
        try:
            content = json.loads(read_small(path))
            request = Request(job_id, Kind(kind), float(content["at"]), str(content["text"]))
            if ID_RE.fullmatch(job_id):
                return request
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
            fsync_folder(f"{self.home}/requests")

    # Records

    def load(self, job_id: str) -> NoticeRecord:
        if ID_RE.fullmatch(job_id):
            with suppress(FileNotFoundError, ValueError, TypeError, RecursionError):
                record = parse_notices(read_small(f"{self.home}/records/{job_id}"))
                record.job = job_id
                return record
        return NoticeRecord(job=job_id)

    def save(self, record: NoticeRecord) -> None:
        self._replace(f"{self.home}/records/{record.job}", encode_notices(record))

    def recent(self, since: float, limit: int) -> Sequence[NoticeRecord]:
        paths = [path for path in paths_in(f"{self.home}/records") if (mtime(path) or 0) >= since]
        records = [self.load(os.path.basename(path)) for path in paths]
        changed = [r for r in records if r.notices and parse_time(r.changed_at) >= since]
        return sorted(changed, key=lambda record: record.changed_at, reverse=True)[:limit]

    def forget(self, job_id: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self.home}/records/{job_id}")

    # The sender

    def lead(self) -> bool:
        if self._sender is None:
            self._make_folders()
            self._sender = lock_file(f"{self.home}/sender", os.O_RDWR | os.O_CREAT)
        return self._sender is not None

    def resign(self) -> None:
        if self._sender is not None:
            os.close(self._sender)
            self._sender = None

    # Named URLs

    def targets(self) -> Mapping[str, str]:
        try:
            return parse_targets(json.loads(read_small(f"{self.root}/notify.json")))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"notify.json cannot be used: {error}") from None

    def set_target(self, name: str, url: str | None) -> None:
        targets = {**self.targets(), name: url}
        kept = {key: value for key, value in targets.items() if value is not None}
        content = json.dumps(parse_targets(kept), indent=2, ensure_ascii=False).encode() + b"\n"
        replace_file(f"{self.root}/notify.json", content, private=True)
