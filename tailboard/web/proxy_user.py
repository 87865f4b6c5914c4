"""The user whom the proxy names in the headers of this request, and their role."""

from __future__ import annotations

from typing import NamedTuple

from flask import abort, g, request

from tailboard.access_role import Role
from tailboard.proxy_headers import Header, ProxyRefused, ProxyUser
from tailboard.web.state import state

# The key in the WSGI environ of the headers as they arrived: WSGI joins repeated ones.
RAW_HEADERS = "tailboard.headers"


class KnownUser(NamedTuple):
    """A proxy's user, with the role that TAILBOARD_USERS gives them; None if it gives them none."""

    user: ProxyUser
    role: Role | None


def proxy_user() -> KnownUser | None:
    """The user of this request; None if the proxy names none. Call `identify_proxy_user` first."""
    found: KnownUser | None = g.get("proxy_user")
    return found


def identify_proxy_user() -> None:
    """Remember the user whom the proxy names. 403 if one of its headers is wrong, or if they come
    from elsewhere."""
    try:
        user = state().proxy_rules.find_user(raw_headers(), request.remote_addr or "")
    except ProxyRefused as error:
        abort(403, str(error))
    if user is not None:
        state().users.refresh()
        g.proxy_user = KnownUser(user, state().users.known.find(user))


def raw_headers() -> list[Header]:
    """The headers as they arrived. Servers other than ours have no such list; they join repeated
    headers, and drop those with an underscore."""
    raw: list[Header] | None = request.environ.get(RAW_HEADERS)
    if raw is not None:
        return raw
    return [(encode(name), encode(value)) for name, value in request.headers.items()]


def encode(text: str) -> bytes:
    """The bytes of a header. What is not Latin-1, which no server delivers, is in no name."""
    return text.encode("latin-1", "backslashreplace")


def is_sent_by_proxy() -> bool:
    """Does the request have the header with which a proxy names a user, rightly or not? The browser
    of such a user is identified by a cookie, which it also sends for other sites' pages."""
    header = state().settings.user_header
    return bool(header) and header in request.headers
