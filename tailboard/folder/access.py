"""Opening a jobs folder: the errors if it cannot be used, or if others could put jobs into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tailboard.errors import StoreError
from tailboard.file_access import check_access, user_name_of
from tailboard.folder.folder_store import FolderStore
from tailboard.status import Status

# Entries of the jobs folder: anyone who can write to one of them can make the worker run commands.
TRUSTED_NAMES = (*Status, "workers", "keys", "paused", "saved", "schedules", "reserve", "tmp")
TRUSTED_NAMES += ("sessions", "notices", "audit", "set-aside", "taken", "returned")
TRUSTED_NAMES += ("secret", "secret-key", "name", "deleted", "retention")


def check_private(variable: str, root: str) -> None:
    """ValueError if users other than root can put jobs into a jobs folder, since those jobs would
    run as the user of this process. The error names the setting, the folder and the remedy. A
    missing folder is fine: it will be made private. A folder like /tmp (a new tmpfs is one) is fine
    too: this function makes all its folders and files at once, and others cannot replace them."""
    root = os.path.abspath(root)
    if _is_like_tmp(root):
        FolderStore(root).make_all_names()
    else:
        check_access(variable, root)
    for name in TRUSTED_NAMES:
        check_access(variable, f"{root}/{name}")
    parent = os.path.dirname(root)
    with suppress(OSError):
        mode = os.stat(parent).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ValueError(
                f"{variable}: every user can replace {root}, and therefore run commands as "
                f"{user_name_of(os.geteuid())}: chmod o-w {parent}"
            )


def _is_like_tmp(path: str) -> bool:
    """Can every user make files in this folder, but rename and remove only their own?"""
    with suppress(OSError):
        found = os.stat(path)
        is_safe = found.st_mode & stat.S_ISVTX and found.st_uid in (os.geteuid(), 0)
        return bool(is_safe and found.st_mode & stat.S_IWOTH)
    return False


@contextmanager
def naming_setting(variable: str, path: str) -> Iterator[None]:
    """Turn an OSError while a folder is opened into a StoreError that names its setting."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(error.errno, f"{variable}: {path} is not a folder") from None
    except OSError as error:
        text = f"{variable}: {path} cannot be used as a folder: {error.strerror}"
        raise StoreError(error.errno, text) from None
