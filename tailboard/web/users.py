"""The file with the roles of the users and groups that a proxy names, TAILBOARD_USERS."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from tailboard.access_role import Role
from tailboard.file_access import check_access
from tailboard.proxy_headers import USER_NAME, ProxyUser
from tailboard.web.reread_file import RereadFile

ALLOWED = "NAME ROLE, @GROUP ROLE or * ROLE, with one of the roles all, run and read"


@dataclass
class UserRoles:
    """The roles that the lines of the file give."""

    users: dict[str, Role] = field(default_factory=dict)
    groups: dict[str, Role] = field(default_factory=dict)
    others: Role | None = None  # of every user whom no other line is about

    def find(self, user: ProxyUser) -> Role | None:
        """The role of a user: that of their own line, or else the highest of their groups, or else
        that of everybody; None if no line gives them one."""
        if user.name in self.users:
            return self.users[user.name]
        roles = [self.groups[group] for group in self.listed_groups(user.groups)]
        return max(roles, key=lambda role: role.rank, default=self.others)

    def listed_groups(self, groups: Iterable[str]) -> list[str]:
        """Those of the groups that have a line."""
        return [group for group in groups if group in self.groups]


class UserFile(RereadFile[UserRoles]):
    """The roles of the proxy's users."""

    def __init__(self, path: str) -> None:
        super().__init__("TAILBOARD_USERS", path, parse_users, UserRoles())

    def check(self, group_header: str) -> None:
        """ValueError if the settings name no file, if others can change it, if it is invalid or
        gives nobody a role, because then the proxy's users could not use the API, or if it has
        lines about groups that no header lists: such users would get the role of the line `*`."""
        if not self.path:
            raise ValueError(
                "TAILBOARD_USER_HEADER needs TAILBOARD_USERS, the file with the roles of the users"
            )
        check_access(self.variable, os.path.realpath(self.path))
        found = self.read()
        if found == UserRoles():
            message = "gives nobody a role: a line `* read` lets every user read"
            raise ValueError(f"TAILBOARD_USERS: {self.path} {message}")
        if found.groups and not group_header:
            message = "has lines about groups, which need TAILBOARD_GROUP_HEADER"
            raise ValueError(f"TAILBOARD_USERS: {self.path} {message}")


def parse_users(content: bytes) -> UserRoles:
    """The roles in a file. ValueError, which names the line, if one is bad or repeats another."""
    found = UserRoles()
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            add_line(found, number, line)
    return found


def add_line(roles: UserRoles, number: int, line: str) -> None:
    name, role = split_line(number, line)
    if name == "*":
        is_repeated = roles.others is not None
        roles.others = role
    else:
        known, name = (roles.groups, name[1:]) if name.startswith("@") else (roles.users, name)
        is_repeated = name in known
        known[name] = role
    if is_repeated:
        raise ValueError(f"line {number} is about the same as an earlier line")


def split_line(number: int, line: str) -> tuple[str, Role]:
    """(a name, @ and a group, or *; the role). The name of a group can contain spaces."""
    name, _, word = line.replace("\t", " ").rpartition(" ")
    name = name.strip()
    is_group = name.startswith("@") and name[1:].strip() and "," not in name
    if word not in list(Role) or not (name == "*" or is_group or USER_NAME.fullmatch(name)):
        raise ValueError(f"line {number} is not {ALLOWED}")
    return name, Role(word)
