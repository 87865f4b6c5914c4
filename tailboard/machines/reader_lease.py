"""Keeping a job from being pruned while its log or one of its files is read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from tailboard.machines.redis_link import Command, RedisLink

READER_LEASE = 60  # seconds for which an open log or file is not pruned


class ReaderLease:
    """A key in Redis that counts the readers of a job. It expires, in case one of them dies."""

    def __init__(self, link: RedisLink, job_id: str) -> None:
        self.link, self.job_id = link, job_id
        self.key = link.key(f"reading:{job_id}")
        link.try_all([("INCR", self.key), ("EXPIRE", self.key, READER_LEASE)])
        self.renewed_at = time.monotonic()

    def renewal(self) -> Sequence[Command]:
        """What a reader sends with its next command: nothing if the lease is still long."""
        now = time.monotonic()
        if now < self.renewed_at + READER_LEASE / 2:
            return ()
        self.renewed_at = now
        return (("EXPIRE", self.key, READER_LEASE),)

    def end(self) -> None:
        with suppress(OSError):
            self.link.run("unread", self.job_id)
