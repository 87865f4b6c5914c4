"""Whether other users of the machine can change a file or folder that this process trusts, or read
a file with a secret."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress


def check_access(variable: str, path: str, power: str = "") -> None:
    """ValueError if users other than root can change this file or folder, which decides what this
    process runs. The error names the setting, the path, the remedy and the `power` of these users;
    by default it is to run commands. A missing path is fine."""
    us = user_name_of(os.geteuid())
    power = power or f"run commands as {us}"
    try:
        found = os.stat(path)
    except OSError:  # missing; any other error is reported when it is used
        return
    if found.st_uid not in (os.geteuid(), 0):
        owner = user_name_of(found.st_uid)
        raise ValueError(
            f"{variable}: {path} belongs to {owner}, who can {power}: start this as "
            f"{owner}, or chown -R {us} {path}"
        )
    is_shared = found.st_mode & stat.S_IWGRP and not _is_private_group(found)
    if is_shared or found.st_mode & stat.S_IWOTH:
        raise ValueError(
            f"{variable}: other users can write in {path}, and therefore {power}: chmod go-w {path}"
        )


def check_secret_file(path: str, found: os.stat_result) -> None:
    """ValueError unless this is a regular file that only this user, or root, can read and change.
    The group may read it if root owns it: systemd's access lists, and the groups of Kubernetes,
    look like that."""
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is not a regular file")
    check_owner(path, found.st_uid)
    allowed = stat.S_IXGRP | stat.S_IXOTH | (stat.S_IRGRP if found.st_uid == 0 else 0)
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~allowed:
        raise ValueError(f"other users can read or change {path}: chmod 600 {path}")


def check_owner(path: str, owner: int) -> None:
    """ValueError unless the owner of this path is this user or root."""
    us = os.geteuid()
    if owner not in (us, 0):
        name = user_name_of(owner)
        raise ValueError(f"{path} belongs to {name}: chown {user_name_of(us)} {path}")


def _is_private_group(found: os.stat_result) -> bool:
    """Is its group a user's private group, which many systems combine with a umask of 002? Such a
    group has the user's number and no other member."""
    if found.st_gid != found.st_uid:
        return False
    with suppress(KeyError):
        return not set(grp.getgrgid(found.st_gid).gr_mem) - {user_name_of(found.st_uid)}
    return True


def user_name_of(number: int) -> str:
    """A user's name; its number if it has none."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
