"""Who sends a request: the response of GET /me."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from flask import g

from tailboard import __version__
from tailboard.web.auth import command_user, needs_token, visitor, visitor_role
from tailboard.web.proxy_user import proxy_user
from tailboard.web.sign_in import current_session
from tailboard.web.state import state


class Credential(StrEnum):
    """What lets a request in. A session key counts as the token that it was made for."""

    NAMED = "named"  # a named token
    SHARED = "shared"  # the token of TAILBOARD_TOKEN
    NONE = "none"  # the API needs no token
    COMMAND = "command"  # the request is that of a command in the same process
    PROXY = "proxy"  # the headers of a proxy, which name the user


def describe_visitor() -> dict[str, Any]:
    """Whose token or session the request has, their role, and the version of the API."""
    session = current_session()
    return {
        "name": visitor(),
        "named": bool(state().settings.tokens),
        "role": visitor_role(),
        "session": {"expires_at": session.expires_at} if session else None,
        "token": credential(),
        "version": __version__,
    }


def credential() -> Credential:
    if command_user() is not None:
        return Credential.COMMAND
    if proxy_user() is not None:
        return Credential.PROXY
    if not needs_token():
        return Credential.NONE
    return Credential.SHARED if g.get("named_token") is None else Credential.NAMED
