"""Idempotency-Keys, with which a repeated request finds the job that it has already submitted."""

from __future__ import annotations

from tailboard.errors import KeyReused
from tailboard.job import Job

# Begins each key that we make ourselves. No HTTP header can contain it, so a client cannot take the
# key of a scheduled run or of a rerun among many and thereby prevent that job.
OWN_KEY = "\x1f"


def own_key(text: str) -> str:
    """The key of a job that Tailboard itself submits, for the purpose given in `text`."""
    return OWN_KEY + text


def earlier_key(key: str) -> str | None:
    """The key that earlier versions used instead of this `own_key`; None for a client's key."""
    return key.removeprefix(OWN_KEY) if key.startswith(OWN_KEY) else None


def hash_key(key: str) -> str:
    """SHA-256 in hexadecimal: the name of the key's file in keys/."""
    from hashlib import sha256  # imported here: it takes 3 MB, and most workers do not need it

    return sha256(key.encode(errors="replace")).hexdigest()


def check_request(job: Job, sent: str | None, request: str | None) -> None:
    """KeyReused if a different request has submitted the job. `sent` is the hash of the request
    that did, `request` the hash of this one; None means unknown, which matches any request."""
    if sent is not None and request is not None and sent != request:
        raise KeyReused(
            f"this Idempotency-Key belongs to job {job.id}, which a different request submitted: "
            "repeat that request, or use a new key"
        )


def is_same_run(known: Job, job: Job) -> bool:
    """Was `known`, which has the earlier key of `job`, submitted for the same purpose? A client may
    have used that key for its own job."""
    if job.rerun_of is not None:
        return known.rerun_of == job.rerun_of
    made_for = (known.rerun_of, known.saved, known.submitted_by)
    return made_for == (None, job.saved, job.submitted_by)
