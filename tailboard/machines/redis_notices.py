"""The notices in Redis."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from tailboard import notices
from tailboard.errors import StoreError
from tailboard.folder.notice_files import MOST_REQUESTS
from tailboard.machines.answers import flat_pairs
from tailboard.machines.redis_link import RedisLink
from tailboard.notices import Kind, NoticeRecord, Request, encode_notices, parse_notices
from tailboard.notify_rules import parse_targets, with_target
from tailboard.values import ID_RE, parse_time


class RedisNotices:
    """The notices in Redis; lua/begin.lua describes the keys. The scripts that change jobs make the
    requests about them. A job's record is deleted with the job."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self._name = os.urandom(8).hex()  # of this process, as the sender
        self._default = ""  # "1" or "0": whether TAILBOARD_NOTIFY of this process has rules
        self._next_due = math.inf

    def set_default(self, has_rules: bool) -> None:
        self._default = str(int(has_rules))
        if has_rules:
            self.link.ask(("SETNX", self.link.key("notify-default"), "1"))

    # Requests

    def request(self, request: Request) -> None:
        texts, name = self.link.key("request-texts"), _name_of(request)
        text = ("HSET", texts, name, request.text) if request.text else ("HDEL", texts, name)
        self.link.ask(text, ("ZADD", self.link.key("requests"), repr(request.at), name))

    def requests(self, now: float) -> Sequence[Request]:
        key, limit = self.link.key("requests"), (0, MOST_REQUESTS)
        due, later = self.link.ask(
            ("ZRANGE", key, "-inf", repr(now), "BYSCORE", "LIMIT", *limit, "WITHSCORES"),
            ("ZRANGE", key, f"({now!r}", "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
        )
        self._next_due = float(later[1]) if later else math.inf
        times = dict(flat_pairs(due))
        if not times:
            return []
        (texts,) = self.link.ask(("HMGET", self.link.key("request-texts"), *times))
        found = []
        for (name, at), text in zip(times.items(), texts, strict=True):
            request = _parse_request(name, float(at), text or b"")
            if request is None:
                self._remove(name)
            else:
                found.append(request)
        return found

    def next_due(self) -> float:
        return self._next_due

    def done(self, request: Request) -> None:
        self._remove(_name_of(request))

    def _remove(self, name: str | bytes) -> None:
        self.link.ask(
            ("ZREM", self.link.key("requests"), name),
            ("HDEL", self.link.key("request-texts"), name),
        )

    # Records

    def load(self, job_id: str) -> NoticeRecord:
        return self._load_all([job_id])[0] if ID_RE.fullmatch(job_id) else NoticeRecord(job=job_id)

    def _load_all(self, ids: Sequence[str]) -> Sequence[NoticeRecord]:
        found = self.link.ask(*(("GET", self.link.key(f"notices:{job_id}")) for job_id in ids))
        return [_parse_record(job_id, data or b"") for job_id, data in zip(ids, found, strict=True)]

    def save(self, record: NoticeRecord) -> None:
        """Does nothing if the job was deleted meanwhile."""
        changed_at = parse_time(record.changed_at) if record.notices else 0.0
        rest = record.job, encode_notices(record), f"{changed_at:.3f}"
        if not self.link.run("notice", self._name, *rest):
            raise StoreError(errno.ESTALE, "another process sends the notifications now")

    def recent(self, since: float, limit: int) -> Sequence[NoticeRecord]:
        key = self.link.key("noticed")
        (found,) = self.link.ask(
            ("ZRANGE", key, "+inf", repr(since), "BYSCORE", "REV", "LIMIT", 0, limit)
        )
        ids = self.link.checked(found)
        return [record for record in self._load_all(ids) if record.notices] if ids else []

    def forget(self, job_id: str) -> None:
        self.link.ask(
            ("UNLINK", self.link.key(f"notices:{job_id}")),
            ("ZREM", self.link.key("noticed"), job_id),
        )

    # The sender

    def lead(self) -> bool:
        period = round(notices.LEAD_TIME * 1_000)
        return bool(self.link.run("lead", self._name, period, self._default))

    def resign(self) -> None:
        self.link.run("lead", self._name, 0, "")

    # Named URLs

    def targets(self) -> Mapping[str, str]:
        (found,) = self.link.ask(("HGETALL", self.link.key("notify-urls")))
        known = {
            name.decode(errors="replace"): url.decode(errors="replace")
            for name, url in sorted(found.items())
        }
        try:
            return parse_targets(known)
        except ValueError as error:
            raise ValueError(f"the named URLs in Redis cannot be used: {error}") from None

    def set_target(self, name: str, url: str | None) -> None:
        with_target(self.targets(), name, url)
        key = self.link.key("notify-urls")
        self.link.ask(("HDEL", key, name) if url is None else ("HSET", key, name, url))


def _name_of(request: Request) -> str:
    return f"{request.job_id} {request.kind}"


def _parse_request(name: bytes, at: float, text: bytes) -> Request | None:
    """The request of this name; None if the name is damaged."""
    job_id, _, kind = name.decode(errors="replace").partition(" ")
    if not ID_RE.fullmatch(job_id) or kind not in list(Kind) or not math.isfinite(at):
        return None
    return Request(job_id, Kind(kind), at, text.decode(errors="replace"))


def _parse_record(job_id: str, data: bytes) -> NoticeRecord:
    """The record of a job; an empty one if there is none or it is damaged."""
    with suppress(ValueError, TypeError, RecursionError):
        record = parse_notices(data)
        record.job = job_id
        return record
    return NoticeRecord(job=job_id)
