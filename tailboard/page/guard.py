"""Where a request comes from: which visitor has sent it, and whether another site's page has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.logger import get_logger

from tailboard.page.client import Visitor
from tailboard.page.settings import LISTED_ORIGINS

log = get_logger(__name__)

LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


def locate_visitor(headers: Mapping[str, str], peer: str | None) -> Visitor:
    """The visitor whose browser has sent these headers. `peer` is the address from which it has
    connected, or the address that a proxy on this machine reports; None: this machine."""
    address = "" if peer is None else remote_address(peer)
    forwarded = "Forwarded" in headers or "X-Forwarded-For" in headers
    is_local = bool(LOCAL_HOST.fullmatch(headers.get("Host", ""))) and not forwarded and not address
    return Visitor(not is_local, address, headers.get("Origin", ""))


def remote_address(text: str) -> str:
    """The IP address in a text; empty if it is a loopback address or not an address."""
    with suppress(ValueError):
        address = ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        return "" if address.is_loopback else str(address)
    return ""


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
            refusal = PlainTextResponse("requests from another site's page are refused\n", 403)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, forbid_frames(send))


def is_own_origin(origin: str, host: str | None, scheme: str) -> bool:
    """Is this the origin of a page from this server, according to the Host of the request?"""
    if scheme in ("https", "wss"):
        return origin == f"https://{host}"
    return origin in (f"http://{host}", f"https://{host}")  # a proxy does not always report TLS


def forbid_frames(send: Send) -> Send:
    """Add the headers that forbid frames to each HTTP response. A site that shows the page in a
    frame could trick a visitor into clicking on Run."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        await send(message)

    return send_with_headers
