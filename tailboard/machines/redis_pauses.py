"""The paused queues in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from tailboard.machines.redis_link import RedisLink
from tailboard.values import QUEUE_RE, check_queue
from tailboard.workers import Pause, make_pause, parse_pause


class RedisPauses:
    """The paused queues in Redis: the hash `paused`, by queue."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def pause(self, queue: str, why: str | None, by: str | None) -> Pause:
        pause = make_pause(queue, why, by, self.list())
        self.put(pause)
        return pause

    def put(self, pause: Pause) -> None:
        self.link.run("pause", pause.queue, pause.encode())

    def resume(self, queue: str) -> None:
        check_queue(queue)
        self.link.run("resume", queue)

    def list(self) -> Sequence[Pause]:
        (found,) = self.link.ask(("HGETALL", self.link.key("paused")))
        queues = sorted(self.link.checked(found, QUEUE_RE))
        return [parse_pause(queue, found[queue.encode()]) for queue in queues]
