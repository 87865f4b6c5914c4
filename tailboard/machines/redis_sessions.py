"""The sessions in Redis."""

from __future__ import annotations

import time

from tailboard import sessions
from tailboard.machines.redis_link import RedisLink
from tailboard.sessions import SESSION_AGE, Session
from tailboard.values import parse_time


class RedisSessions:
    """The sessions in Redis: session:SHA256, which expires, and the sorted sets `sessions` and
    sessions:NAME of all sessions and of those of a named token."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def add(self, session: Session) -> None:
        ends = parse_time(session.expires_at)
        self.link.run(
            "session",
            session.key_sha256,
            session.encode(),
            max(1, min(SESSION_AGE, round(ends - time.time()))),
            f"{ends:.3f}",
            f"{time.time():.3f}",
            sessions.MAX_SESSIONS,
            session.name or "",
            sessions.MAX_OF_NAME,
        )

    def find(self, key_sha256: str) -> Session | None:
        (record,) = self.link.ask(("GET", self._key(key_sha256)))
        return None if record is None else Session.parse(key_sha256, record)

    def end(self, key_sha256: str) -> None:
        self.link.ask(
            ("DEL", self._key(key_sha256)), ("ZREM", self.link.key("sessions"), key_sha256)
        )

    def _key(self, key_sha256: str) -> str:
        return self.link.key(f"session:{key_sha256}")
