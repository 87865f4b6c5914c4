"""The limits of queues in Redis."""

from __future__ import annotations

from collections.abc import Mapping

from tailboard.machines.redis_link import RedisLink
from tailboard.order import check_limit, encode_limit, parse_limit
from tailboard.values import QUEUE_RE, check_queue


class RedisLimits:
    """The limits in the hash `limits`: queue -> record, as in the file queues/QUEUE.json."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def set(self, queue: str, limit: int | None) -> None:
        check_queue(queue)
        check_limit(limit)
        self.put(queue, b"" if limit is None else encode_limit(limit))

    def put(self, queue: str, record: bytes) -> None:
        """Store the record of a queue unchanged; b"" removes it."""
        self.link.run("limit", queue, record)

    def list(self) -> dict[str, int]:
        (found,) = self.link.ask(("HGETALL", self.link.key("limits")))
        return self._parse(found)

    def _parse(self, records: Mapping[bytes, bytes]) -> dict[str, int]:
        queues = sorted(self.link.checked(records, QUEUE_RE))
        limits = {queue: parse_limit(records[queue.encode()]) for queue in queues}
        return {queue: limit for queue, limit in limits.items() if limit is not None}
