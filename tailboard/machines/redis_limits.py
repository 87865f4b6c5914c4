"""The limits of queues in Redis."""

from __future__ import annotations

from tailboard.machines.redis_link import RedisLink


class RedisLimits:
    """The limits in the hash `limits`: queue -> record, as in the file queues/QUEUE.json."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def set(self, queue: str, limit: int | None) -> None:
        raise NotImplementedError

    def list(self) -> dict[str, int]:
        raise NotImplementedError
