"""The file of named tokens, TAILBOARD_TOKENS."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tailboard.files import read_small, replace_file
from tailboard.program_log import RepeatedErrors

TOKEN_NAME = re.compile(r"\w[\w.@+-]{0,63}")
TOKEN_NAMES = "1 to 64 letters, digits and . _ @ + -, with a letter, a digit or _ first"
TOKEN_LINE = re.compile(rf"({TOKEN_NAME.pattern})[ \t]+([0-9a-fA-F]{{64}})")
FRESH = 100_000_000  # nanoseconds in which two changes of a file may have one time stamp


class NamedToken(NamedTuple):
    """The name of a token's owner, and the token's SHA-256. A token is 32 random bytes, so one
    plain hash is enough. Slow, salted hashes are for passwords, because an attacker can try a list
    of likely ones."""

    name: str
    sha256: str  # in lower-case hexadecimal


def parse_tokens(content: bytes) -> list[NamedToken]:
    """The tokens in a file. ValueError if a line is bad; the message contains the line's number but
    not its content, which may be a token."""
    found = []
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = TOKEN_LINE.fullmatch(line)
        if not parts:
            raise ValueError(f"line {number} is not NAME SHA256")
        found.append(NamedToken(parts[1], parts[2].lower()))
    return found


class TokenFile:
    """The named tokens. The file is read again after each change."""

    def __init__(self, path: str) -> None:
        self.path = path  # "": the settings name no file
        self.known: list[NamedToken] = []  # from the last time that the whole file was readable
        self.stamp: tuple[int, ...] = ()  # of the file when it was read, see _stamp
        self.errors = RepeatedErrors(logging.getLogger("tailboard"))

    def read(self) -> list[NamedToken]:
        """The tokens that the file contains now; ValueError, with a one-sentence message, if it is
        invalid."""
        try:
            return parse_tokens(read_small(os.path.realpath(self.path)))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"TAILBOARD_TOKENS: {self.path} cannot be used: {why}") from None

    def check(self) -> None:
        """ValueError if the file is invalid or contains no token, because nobody could then use the
        API."""
        if not self.read():
            message = f"{self.path} contains no token: `tailboard token NAME` makes one"
            raise ValueError(f"TAILBOARD_TOKENS: {message}")

    def refresh(self) -> None:
        """Read the file if it has changed. If it is missing or bad (because it is half-written,
        say), the tokens stay as they were, and the log reports once what is wrong."""
        if not self.path:
            return
        stamp = self._stamp()
        if stamp == self.stamp != ():
            return
        self.stamp = stamp
        try:
            self.known = self.read()
            self.errors.resolved("tokens")
        except ValueError as error:
            self.errors.report("tokens", error)

    def _stamp(self) -> tuple[int, ...]:
        """A value that changes when the file does; () if a change could go unnoticed."""
        with suppress(OSError):
            found = os.stat(self.path)
            if time.time_ns() - found.st_mtime_ns > FRESH:
                return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
        return ()

    def find(self, token: bytes) -> NamedToken | None:
        """The entry of this token. Always compares all entries, so that the time it takes reveals
        nothing."""
        given = hashlib.sha256(token).hexdigest()
        found = None
        for each in self.known:
            if hmac.compare_digest(given, each.sha256):
                found = each
        return found


def change_token(tokens: TokenFile, name: str, token: str | None, is_replaced: bool) -> None:
    """Give `name` this token; None revokes its token. ValueError if it has a token and
    `is_replaced` is false, if it has none and `is_replaced` is true, or if the file is bad, which
    then stays as it is."""
    path = os.path.realpath(tokens.path)
    with locked_folder(os.path.dirname(path)):
        is_there = os.path.exists(path)
        names = [each.name for each in tokens.read()] if is_there else []
        if name in names and not is_replaced:
            raise ValueError(f"{name} already has a token: --replace makes a new one")
        if name not in names and is_replaced:
            raise ValueError(f"{name} has no token")
        kept = read_small(path).splitlines() if is_there else []
        lines = [line for line in kept if line.split()[:1] != [name.encode()]]
        if token is not None:
            lines.append(f"{name} {hashlib.sha256(token.encode()).hexdigest()}".encode())
        replace_file(path, b"".join(line + b"\n" for line in lines))


@contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Hold a folder's lock, so that two commands at the same time cannot undo each other's
    changes."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
