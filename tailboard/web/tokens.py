"""The file of named tokens, TAILBOARD_TOKENS."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tailboard.access_role import Role
from tailboard.files import read_small, replace_file
from tailboard.proxy_headers import USER_NAME
from tailboard.web.reread_file import RereadFile

TOKEN_LINE = re.compile(
    rf"({USER_NAME.pattern})[ \t]+([0-9a-fA-F]{{64}})(?:[ \t]+({'|'.join(Role)}))?"
)


class NamedToken(NamedTuple):
    """The name of a token's owner, and the token's SHA-256. A token is 32 random bytes, so one
    plain hash is enough. Slow, salted hashes are for passwords, because an attacker can try a list
    of likely ones."""

    name: str
    sha256: str  # in lower-case hexadecimal
    role: Role = Role.ALL


def parse_tokens(content: bytes) -> list[NamedToken]:
    """The tokens in a file. ValueError if a line is bad; the message contains the line's number but
    not its content, which may be a token. A later line about the same token replaces an earlier
    one."""
    found: dict[tuple[str, str], NamedToken] = {}
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = TOKEN_LINE.fullmatch(line)
        if not parts:
            raise ValueError(f"line {number} is not NAME SHA256 [all|run|read]")
        token = NamedToken(parts[1], parts[2].lower(), Role(parts[3] or Role.ALL))
        found[token.name, token.sha256] = token
    return list(found.values())


class TokenFile(RereadFile[list[NamedToken]]):
    """The named tokens."""

    def __init__(self, path: str) -> None:
        super().__init__("TAILBOARD_TOKENS", path, parse_tokens, [])

    def check(self) -> None:
        """ValueError if the file is invalid or contains no token, because nobody could then use the
        API."""
        if not self.read():
            message = f"{self.path} contains no token: `tailboard token NAME` makes one"
            raise ValueError(f"TAILBOARD_TOKENS: {message}")

    def find(self, token: bytes) -> NamedToken | None:
        """The entry of this token. Always compares all entries, so that the time it takes reveals
        nothing."""
        given = hashlib.sha256(token).hexdigest()
        found = None
        for each in self.known:
            if hmac.compare_digest(given, each.sha256):
                found = each
        return found


# --- Changing the file ----------------------------------------------------------------------------

# From the tokens that a name has to those that it gets.
Change = Callable[[Sequence[NamedToken]], list[NamedToken]]


def add_token(tokens: TokenFile, name: str, token: str, role: Role = Role.ALL) -> None:
    """Give `name` a token. ValueError if it has one, or if the file is bad, which then stays as it
    is."""

    def change(old: Sequence[NamedToken]) -> list[NamedToken]:
        if old:
            message = "--replace makes a new one, and --role changes its role"
            raise ValueError(f"{name} already has a token: {message}")
        return [NamedToken(name, hash_token(token), role)]

    change_lines(tokens, name, change)


def replace_token(tokens: TokenFile, name: str, token: str, role: Role | None = None) -> None:
    """Replace the token of `name`, which keeps its role unless another one is given. If `name` had
    tokens with different roles, the new one gets the least of them. ValueError as for the other
    changes of the file: if `name` has no token, or if the file is bad."""

    def change(old: Sequence[NamedToken]) -> list[NamedToken]:
        least = min((each.role for each in old), key=lambda role: role.rank)
        return [NamedToken(name, hash_token(token), role or least)]

    change_lines(tokens, name, require_token_of(name, change))


def change_role(tokens: TokenFile, name: str, role: Role) -> None:
    """Give the token of `name` another role."""

    def change(old: Sequence[NamedToken]) -> list[NamedToken]:
        return [each._replace(role=role) for each in old]

    change_lines(tokens, name, require_token_of(name, change))


def has_token(tokens: TokenFile, name: str) -> bool:
    """Does `name` have a token? A missing file contains none."""
    if not os.path.exists(os.path.realpath(tokens.path)):
        return False
    return any(each.name == name for each in tokens.read())


def revoke_token(tokens: TokenFile, name: str) -> None:
    change_lines(tokens, name, require_token_of(name, lambda old: []))


def require_token_of(name: str, change: Change) -> Change:
    """The change, with a ValueError if `name` has no token."""

    def checked(old: Sequence[NamedToken]) -> list[NamedToken]:
        if not old:
            raise ValueError(f"{name} has no token")
        return change(old)

    return checked


def change_lines(tokens: TokenFile, name: str, change: Change) -> None:
    """Replace the lines of `name` in the file, and keep all others. A missing file is made."""
    path = os.path.realpath(tokens.path)
    with locked_folder(os.path.dirname(path)):
        is_there = os.path.exists(path)
        old = [each for each in tokens.read() if each.name == name] if is_there else []
        new = change(old)
        kept = read_small(path).splitlines() if is_there else []
        lines = [line for line in kept if line.split()[:1] != [name.encode()]]
        lines += [format_line(each).encode() for each in new]
        replace_file(path, b"".join(line + b"\n" for line in lines))


def format_line(token: NamedToken) -> str:
    """The line of a token. `all` is left out, which versions without roles can read."""
    role = "" if token.role is Role.ALL else f" {token.role}"
    return f"{token.name} {token.sha256}{role}"


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


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
