"""Where a request comes from: which visitor has sent it, and whether another site's page has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.logger import get_logger

from tailboard.page.client import Visitor
from tailboard.page.settings import LISTED_ORIGINS, PROXY
from tailboard.proxy_headers import ProxyRefused, ProxyUser

log = get_logger(__name__)

NO_USER = "sign in at the proxy: this page is served only through it"
OTHER_SITE = "requests from another site's page are refused"
HEALTH_PATH = "/_stcore/health"  # it says "ok" and nothing else
OTHER_SITES = ("cross-site", "same-site")  # in Sec-Fetch-Site: not the page's own origin
LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


def locate_visitor(headers: Mapping[str, str], peer: str | None) -> Visitor:
    """The visitor whose browser has sent these headers. `peer` is the address from which it has
    connected, or the address that a proxy on this machine reports; None: this machine."""
    address = "" if peer is None else remote_address(peer)
    forwarded = "Forwarded" in headers or "X-Forwarded-For" in headers
    is_local = bool(LOCAL_HOST.fullmatch(headers.get("Host", ""))) and not forwarded and not address
    user = find_user(headers)
    return Visitor(not is_local or user is not None, address, headers.get("Origin", ""), user)


def find_user(headers: Mapping[str, str]) -> ProxyUser | None:
    """The user whom the proxy has named in the headers of a request that ProxyGuard has accepted.
    Returns None only if no proxy signs visitors in."""
    if not PROXY.user_header:
        return None
    given = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
    user = PROXY.find_user(given, None)  # the peer has been checked
    if user is None:
        raise ProxyRefused(NO_USER)
    return user


def remote_address(text: str) -> str:
    """The IP address in a text; empty if it is a loopback address or not an address."""
    with suppress(ValueError):
        address = ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        return "" if address.is_loopback else str(address)
    return ""


class ProxyGuard:
    """ASGI middleware: if a proxy signs visitors in, refuses every request that does not come from
    the proxy with a user, with 403 and before Streamlit sees it. It never falls back to another
    credential.

    A cookie at the proxy signs the visitor in, and browsers send it with requests of other sites'
    pages, too. Of those, only a link to the page is accepted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if why := describe_refusal(scope):
            await PlainTextResponse(f"{why}\n", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def describe_refusal(scope: Scope) -> str:
    """Why ProxyGuard refuses a request; "" if it does not."""
    if scope["type"] == "lifespan" or scope["path"] == HEALTH_PATH:
        return ""
    try:
        user = PROXY.find_user(scope["headers"], find_peer(scope))
    except ProxyRefused as error:
        log.warning("Refused a request: %s", error)
        return str(error)
    if not PROXY.user_header:
        return ""
    if user is None:
        return NO_USER
    return OTHER_SITE if is_from_other_site(scope) else ""


def find_peer(scope: Scope) -> str | None:
    """The address that has connected; None if it is this machine.

    If that is a loopback address, uvicorn puts the address of X-Forwarded-For in its place, with
    the port 0, which no connection has. An address with a port in that header looks like a peer,
    and is refused unless it is listed."""
    client = scope.get("client")
    return client[0] if client and client[1] != 0 else None


def is_from_other_site(scope: Scope) -> bool:
    """Has another site's page made the browser send this, other than by a link to follow? Browsers
    do not send an Origin with each GET."""
    headers = Headers(scope=scope)
    if headers.get("Sec-Fetch-Site") not in OTHER_SITES:
        return False
    if headers.get("Origin") in LISTED_ORIGINS:
        return False
    is_link = headers.get("Sec-Fetch-Mode") == "navigate" and scope.get("method") in ("GET", "HEAD")
    return not (is_link and headers.get("Sec-Fetch-Dest") == "document")


class OriginGuard:
    """ASGI middleware: refuses requests from other sites' pages with 403, before Streamlit sees
    them, and forbids every site to show the page in a frame.

    Streamlit accepts a WebSocket from any loopback origin, with any port. So a page of a
    development server, of a notebook or behind `ssh -L` could run commands. A request without an
    Origin is accepted: browsers send an Origin with each WebSocket, and any other program could
    send the right one or use the API itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        origin = headers.get("Origin")
        if origin in LISTED_ORIGINS:
            # Streamlit compares Origin and Host, and a proxy can send its own address as Host.
            headers["Host"] = origin.partition("://")[2]
        elif origin is not None and not is_own_origin(origin, headers.get("Host"), scope["scheme"]):
            log.warning(
                "Refused a page of %.200r: it is neither at the requested address, %.200r, nor"
                " listed in TAILBOARD_DASHBOARD",
                origin,
                headers.get("Host"),
            )
            await PlainTextResponse(f"{OTHER_SITE}\n", 403)(scope, receive, send)
            return
        await self.app(scope, receive, forbid_frames(send))


def is_own_origin(origin: str, host: str | None, scheme: str) -> bool:
    """Is this the origin of a page from this server, according to the Host of the request?"""
    if scheme in ("https", "wss"):
        return origin == f"https://{host}"
    return origin in (f"http://{host}", f"https://{host}")  # a proxy does not always report TLS


def forbid_frames(send: Send) -> Send:
    """Add the headers that forbid frames to each HTTP response. A site that shows the page in a
    frame could trick a visitor into clicking on Run. The page itself shows in frames only what
    static/file_frame.js writes there: no address, to which a link in a job's file could lead."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers["Content-Security-Policy"] = "frame-ancestors 'none'; frame-src 'none'"
        await send(message)

    return send_with_headers
