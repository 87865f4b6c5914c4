"""The page's settings."""

from __future__ import annotations

import os
import sys

from tailboard.settings import API_URL_RE, parse_origins


def url_setting(name: str, default: str) -> str:
    """The URL in this variable; an invalid one prevents the start."""
    text = os.environ.get(name) or default
    if not API_URL_RE.fullmatch(text):
        sys.exit(f"{name} must be a URL like {default}, not {text!r:.200}")
    return text.rstrip("/")


def origins_setting(name: str) -> list[str]:
    """The origins in this variable, none if it is not set; invalid ones prevent the start."""
    text = os.environ.get(name)
    try:
        return parse_origins(name, text) if text else []
    except ValueError as error:
        sys.exit(str(error))


API = url_setting("TAILBOARD_API", "http://127.0.0.1:5000")
PUBLIC_API = url_setting("TAILBOARD_PUBLIC_API", API)  # as the browser reaches it
# Of the page, besides the address that it is served at.
LISTED_ORIGINS = origins_setting("TAILBOARD_DASHBOARD")
