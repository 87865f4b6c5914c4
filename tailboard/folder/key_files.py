"""The Idempotency-Keys of a jobs folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from tailboard.errors import JobNotFound
from tailboard.files import read_small
from tailboard.job import Job
from tailboard.keys import check_request, earlier_key, hash_key, is_same_run

HASH_RE = re.compile("[0-9a-f]{64}")


class KeyFiles:
    """The keys of a jobs folder. The file keys/HASH contains the ID of the job that was submitted
    under a key, and the hash of the request that submitted it."""

    def __init__(self, root: str, get: Callable[[str], Job]) -> None:
        """`get` returns the job with an ID; JobNotFound."""
        self.root, self._get = root, get

    def path(self, key: str) -> str:
        return f"{self.root}/keys/{hash_key(key)}"

    def find(self, key: str, job: Job, request: str | None = None) -> Job | None:
        """The job that was submitted under a key, or under its earlier form for the same purpose
        as `job`; None if there is no such job, or it was deleted. KeyReused as in `submit`."""
        with suppress(FileNotFoundError, JobNotFound):
            known, sent = self._read(key)
            check_request(known, sent, request)
            return known
        earlier = earlier_key(key)
        if earlier is not None:
            with suppress(FileNotFoundError, JobNotFound):
                known, sent = self._read(earlier)
                return known if sent is None and is_same_run(known, job) else None
        return None

    def _read(self, key: str) -> tuple[Job, str | None]:
        """The job of a key and the hash of the request that submitted it; None instead of the hash
        if that is not known: earlier versions wrote the ID alone."""
        job_id, _, request = read_small(self.path(key)).decode(errors="replace").partition(" ")
        return self._get(job_id), request if HASH_RE.fullmatch(request) else None
