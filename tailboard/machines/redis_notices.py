"""The notices in Redis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tailboard.machines.redis_link import RedisLink
from tailboard.notices import NoticeRecord, Request


class RedisNotices:
    """The notices in Redis."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def set_default(self, has_rules: bool) -> None: ...

    def request(self, request: Request) -> None: ...

    def requests(self, now: float) -> Sequence[Request]:
        return []

    def next_due(self) -> float:
        return math.inf

    def done(self, request: Request) -> None: ...

    def load(self, job_id: str) -> NoticeRecord:
        return NoticeRecord(job=job_id)

    def save(self, record: NoticeRecord) -> None: ...

    def recent(self, since: float, limit: int) -> Sequence[NoticeRecord]:
        return []

    def forget(self, job_id: str) -> None: ...

    def lead(self) -> bool:
        return False

    def resign(self) -> None: ...

    def targets(self) -> Mapping[str, str]:
        return {}

    def set_target(self, name: str, url: str | None) -> None: ...
