"""Values of secrets as they are stored: encrypted with a key that only the worker's user can read.

A file with such values is useless without `secret-key`, for example in a backup of jobs or in a
copy of one job's folder. cryptography is imported only if a job has secrets."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from tailboard.files import fsync_folder, make_once, read_small

KEY_FILE = "secret-key"


class Sealer:
    """Encrypts and decrypts values with the key in a folder."""

    def __init__(self, root: str) -> None:
        self.root = root

    def seal(self, values: Mapping[str, bytes]) -> bytes:
        """The values, encrypted. Makes the key if there is none yet. OSError if that fails."""
        self.make_key()
        return encrypt(read_small(self._path()), values)

    def unseal(self, sealed: bytes) -> dict[str, bytes]:
        """The values that `seal` has encrypted. ValueError if they are damaged or were encrypted
        with another key; OSError if the key cannot be read."""
        return decrypt(read_small(self._path()), sealed, self._path())

    def make_key(self) -> None:
        """Make the key durably, if there is none yet: 32 random bytes, as Fernet takes them."""
        if not os.path.lexists(self._path()):
            make_once(self._path(), urlsafe_b64encode(os.urandom(32)), f"{self.root}/tmp")
        fsync_folder(self.root)  # the process that made it may have died before its fsync

    def _path(self) -> str:
        return f"{self.root}/{KEY_FILE}"


def encrypt(key: bytes, values: Mapping[str, bytes]) -> bytes:
    """The values, encrypted with a key as Fernet takes it: 32 bytes in URL-safe base64."""
    from cryptography.fernet import Fernet  # imported here: it takes memory and time

    text = json.dumps({name: value.decode("latin-1") for name, value in values.items()})
    return Fernet(key).encrypt(text.encode())


def decrypt(key: bytes, sealed: bytes, path: str) -> dict[str, bytes]:
    """The values that `encrypt` has encrypted with this key, which is in the file `path`.
    ValueError if they are damaged or were encrypted with another key."""
    from cryptography.fernet import Fernet, InvalidToken

    try:
        found = json.loads(Fernet(key).decrypt(sealed))
        return {name: value.encode("latin-1") for name, value in found.items()}
    except (InvalidToken, ValueError):
        raise ValueError(f"the values do not fit the key in {path}") from None
