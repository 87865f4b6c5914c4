"""The values of secrets: the files of a folder, which the worker reads when a job starts.

The folder is TAILBOARD_SECRETS, or else $CREDENTIALS_DIRECTORY, in which systemd puts credentials.
No error shows a value."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from tailboard.file_access import check_access, check_owner, check_secret_file
from tailboard.run.shim import LINKER_VARIABLES, can_export
from tailboard.values import RESOURCE_ERRNOS

MAX_VALUE = 64 << 10  # bytes; the kernel takes 128 KiB (MAX_ARG_STRLEN in execve(2))
VARIABLE = "TAILBOARD_SECRETS"


def find_secrets(setting: str, env: Mapping[str, str] = os.environ) -> str | None:
    """The folder with the secrets; None if there is none. `setting`: TAILBOARD_SECRETS. ValueError
    if that cannot be used, or if other users can change it."""
    if not setting:
        return env.get("CREDENTIALS_DIRECTORY") or None
    path = os.path.abspath(setting)
    if not os.path.isdir(path):
        kind = "not a folder" if os.path.lexists(path) else "missing: make it, with mode 700"
        raise ValueError(f"{VARIABLE}: {path} is {kind}")
    if not is_sticky(path):
        check_access(VARIABLE, path, "change the values of secrets")
    return path


def is_sticky(path: str) -> bool:
    """Is this a folder like those that Kubernetes mounts, in which every user could make files, but
    rename and remove only their own? Their files are refused."""
    found = os.stat(path)
    return bool(found.st_mode & stat.S_ISVTX) and found.st_uid in (os.geteuid(), 0)


def read_secrets(names: Iterable[str], folder: str | None) -> dict[bytes, bytes]:
    """The values of these secrets, by variable. ValueError, with one sentence, if one of them is
    missing or must not be used; OSError if the machine has run out of a resource."""
    return {os.fsencode(name): _read_secret(name, folder) for name in names}


def check_variables(names: Iterable[bytes]) -> None:
    """ValueError if the shim would have to pass the value of one of these variables to the program
    `env`, as an argument, which other users can see."""
    for name in names:
        if not can_export(name) or name.startswith(LINKER_VARIABLES):
            raise ValueError(
                f"the secret {name.decode()} needs another name: a shell does not export a "
                "variable with this one"
            )


def _read_secret(name: str, folder: str | None) -> bytes:
    if folder is None:
        raise _unusable(name, f"{VARIABLE} is not set")
    path = f"{folder}/{name}"
    try:
        # Links are followed: Kubernetes makes each secret a link to its newest version.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            check_owner(path, os.lstat(path).st_uid)  # of the link, if it is one
            check_secret_file(path, os.fstat(fd))
            value = os.pread(fd, MAX_VALUE + 2, 0).removesuffix(b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in RESOURCE_ERRNOS:
            raise
        raise _unusable(name, f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise _unusable(name, str(error)) from None
    if len(value) > MAX_VALUE:
        raise _unusable(name, f"{path} has more than {MAX_VALUE:,} bytes")
    if b"\0" in value:
        raise _unusable(name, f"{path} contains a NUL byte, which no variable can have")
    return value


def _unusable(name: str, why: str) -> ValueError:
    return ValueError(f"the secret {name} cannot be read: {why}")
