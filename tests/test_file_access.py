"""Who may own, read and change a file with a secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from tailboard.file_access import check_secret_file

NOBODY = 65_534


@pytest.fixture
def user() -> Iterator[int]:
    """This process belongs to a user other than root."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    os.seteuid(NOBODY)
    try:
        yield NOBODY
    finally:
        os.seteuid(0)


def check(owner: int, mode: int) -> None:
    """Checks a file of this owner, whatever the users of this machine."""
    check_secret_file("/etc/key", os.stat_result((mode, 1, 1, 1, owner, owner, 0, 0, 0, 0)))


def test_a_file_of_this_user_or_of_root_is_accepted(user: int) -> None:
    check(user, stat.S_IFREG | 0o600)
    check(0, stat.S_IFREG | 0o400)


def test_the_group_can_read_it_only_if_root_owns_it(user: int) -> None:
    check(0, stat.S_IFREG | 0o440)
    with pytest.raises(ValueError, match="other users can read or change /etc/key: chmod 600"):
        check(user, stat.S_IFREG | 0o640)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620])
def test_nobody_else_can_read_or_change_it(user: int, mode: int) -> None:
    for owner in (user, 0):
        with pytest.raises(ValueError, match="other users can read or change"):
            check(owner, stat.S_IFREG | mode)


def test_a_file_of_another_user_is_refused(user: int) -> None:
    with pytest.raises(ValueError, match="/etc/key belongs to 4242: chown"):
        check(4_242, stat.S_IFREG | 0o600)


@pytest.mark.parametrize("kind", [stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK])
def test_only_a_regular_file_is_accepted(user: int, kind: int) -> None:
    with pytest.raises(ValueError, match="/etc/key is not a regular file"):
        check(user, kind | 0o600)
