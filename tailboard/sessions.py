"""Sessions: people who stay signed in to the page. The API issues a session key for a token. Until
the session ends, a browser with the key is let in as if it had the token.

A storage keeps only hashes: of the key, and of the key together with the token. So nobody who reads
the storage can use a session or test guesses of the token."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Self

from tailboard.values import is_text, is_time, known_fields, parse_time, utc

SESSION_AGE = 30 * 86_400  # seconds
MAX_SESSIONS = 1_000  # of all people; a new one ends the oldest
MAX_OF_NAME = 100  # of one named token, so that a token that can only read signs out no others
KEY_PREFIX = "tbs_"
KEY_BYTES = 32
KEY_RE = re.compile(rb"tbs_[A-Za-z0-9_-]{43}")
SHA256_RE = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session as a storage keeps it."""

    key_sha256: str  # names the session
    proof: str  # made from the key and the token, see `make_proof`
    name: str | None  # of the token's owner; None: the shared token
    created_at: str  # RFC 3339, as is the next
    expires_at: str

    @property
    def has_expired(self) -> bool:
        return parse_time(self.expires_at) <= time.time()

    def belongs_to(self, key: bytes, token_hash: str) -> bool:
        """Was this session, whose key this is, made for the token with this hash?"""
        return hmac.compare_digest(self.proof, make_proof(key, token_hash))

    def encode(self) -> bytes:
        """The record that a storage keeps: a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, key_sha256: str, record: bytes) -> Self | None:
        """The session in a record; None if the record is damaged or the session has expired."""
        try:
            found = cls(**known_fields(cls, json.loads(record)))
            is_good = (
                found.key_sha256 == key_sha256
                and isinstance(found.proof, str)
                and is_text(found.name)
                and found.expires_at is not None
                and is_time(found.expires_at)
            )
        except (ValueError, TypeError, RecursionError):
            return None
        return found if is_good and not found.has_expired else None


def new_session(token_hash: str, name: str | None) -> tuple[str, Session]:
    """(the key, the session) for a token. The key is not stored, so only the browser has it."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    now = time.time()
    session = Session(
        key_sha256=hash_key(key.encode()),
        proof=make_proof(key.encode(), token_hash),
        name=name,
        created_at=utc(now),
        expires_at=utc(now + SESSION_AGE),
    )
    return key, session


def is_session_key(text: bytes) -> bool:
    return KEY_RE.fullmatch(text) is not None


def hash_key(key: bytes) -> str:
    """The SHA-256 of a session key. The key is random, so one plain hash is enough."""
    return hashlib.sha256(key).hexdigest()


def make_proof(key: bytes, token_hash: str) -> str:
    """Proves that a session was made for a token. Without the key nobody can test guesses of the
    token against it."""
    return hmac.new(key, token_hash.encode(), hashlib.sha256).hexdigest()
