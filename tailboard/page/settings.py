"""The page's settings."""

from __future__ import annotations

import os
import re
import sys

URL = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?", re.ASCII)
# As browsers send it: no path, no capitals, no default port.
ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)


def url_setting(name: str, default: str) -> str:
    """The URL in this variable; an invalid one prevents the start."""
    text = os.environ.get(name) or default
    if not URL.fullmatch(text):
        sys.exit(f"{name} must be a URL like {default}, not {text!r:.200}")
    return text.rstrip("/")


def origins_setting(name: str) -> list[str]:
    """The origins in this variable, with commas between them; others end the start."""
    text = os.environ.get(name)
    origins = [part.strip().removesuffix("/") for part in text.split(",")] if text else []
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            sys.exit(
                f"{name} must be origins as browsers send them, like https://page.example.org "
                f"or http://localhost:8501, with commas between them, not {origin!r:.80}"
            )
    return origins


API = url_setting("TAILBOARD_API", "http://127.0.0.1:5000")
PUBLIC_API = url_setting("TAILBOARD_PUBLIC_API", API)  # as the browser reaches it
# Of the page, besides the address that it is served at.
LISTED_ORIGINS = origins_setting("TAILBOARD_DASHBOARD")
