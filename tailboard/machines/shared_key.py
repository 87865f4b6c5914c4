"""The key with which the values of secret params are encrypted in Redis.

The hosts of the API, which encrypt, and the machines, which decrypt, each have a copy of its file.
Redis never has it."""

from __future__ import annotations

import os
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping

from tailboard.file_access import check_secret_file
from tailboard.sealed import decrypt, encrypt

VARIABLE = "TAILBOARD_SECRET_KEY"
KEY_BYTES = 32
LARGEST = 1_000  # bytes of the file
HOW_TO = "make it with `openssl rand -base64 32`, once for all hosts and machines"


class SharedKey:
    """The key in the file that TAILBOARD_SECRET_KEY names, as it was when this program started."""

    def __init__(self, path: str) -> None:
        """ValueError, with one sentence, if the file cannot be used, or if others could read it."""
        self.path = os.path.abspath(path)
        try:
            # Links are followed: Kubernetes makes each secret a link to its newest version.
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise ValueError(f"{VARIABLE}: {self.path}: {error.strerror}; {HOW_TO}") from None
        try:
            check_secret_file(self.path, os.fstat(fd))
            self._key = parse_key(self.path, os.pread(fd, LARGEST, 0))
        except ValueError as error:
            raise ValueError(f"{VARIABLE}: {error}") from None
        finally:
            os.close(fd)

    def seal(self, values: Mapping[str, str]) -> bytes:
        return encrypt(self._key, {name: value.encode() for name, value in values.items()})

    def unseal(self, sealed: bytes) -> dict[str, str]:
        """ValueError if the values are damaged, or were encrypted with another key."""
        found = decrypt(self._key, sealed, self.path)
        return {name: value.decode() for name, value in found.items()}


def parse_key(path: str, text: bytes) -> bytes:
    """The key in the form that Fernet takes. ValueError if the text is not 32 bytes in base64."""
    try:
        key = b64decode(text.strip().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} must contain 32 bytes in base64; {HOW_TO}")
    return urlsafe_b64encode(key)
