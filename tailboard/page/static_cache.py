"""How long browsers keep the files in static/."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC_PATH = "/app/static/"  # at which Streamlit serves static/
# The loader fetches all files again when any of them has changed, so none is used too long.
KEPT = "max-age=86400"


class StaticCache:
    """ASGI middleware: lets browsers keep the files in static/ for a day. Streamlit sends no
    Cache-Control, so a browser would ask for each of some hundred files at each visit."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_static = scope["type"] == "http" and STATIC_PATH in scope["path"]
        await self.app(scope, receive, keep(send) if is_static else send)


def keep(send: Send) -> Send:
    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in (200, 304):
            MutableHeaders(scope=message)["Cache-Control"] = KEPT
        await send(message)

    return send_with_header
