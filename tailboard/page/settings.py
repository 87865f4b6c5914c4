"""The page's settings, read from the environment when the page starts. An invalid one prevents the
start, with a one-line error."""

from __future__ import annotations

import os
import sys

from streamlit.logger import get_logger

from tailboard.env_file import load_env_file
from tailboard.proxy_headers import ProxyRules, parse_networks
from tailboard.settings import (
    API_URL_RE,
    Settings,
    check_proxy_settings,
    parse_origins,
    parse_setting,
)


def read_env_file() -> None:
    """Set the variables of `.env`. Streamlit has read its own variables by now, so in the file they
    have an effect only if `tailboard` or honcho starts the page."""
    try:
        if env_file := load_env_file():
            get_logger(__name__).info("Settings from %s", env_file)
    except ValueError as error:
        sys.exit(str(error))


def url_setting(name: str, default: str) -> str:
    """The URL in a variable, without a slash at its end."""
    text = os.environ.get(name) or default
    if not API_URL_RE.fullmatch(text):
        sys.exit(f"{name} must be a URL like {default}, not {text!r:.200}")
    return text.rstrip("/")


def origins_setting(name: str) -> list[str]:
    """The origins in a variable; none if it is not set."""
    text = os.environ.get(name)
    try:
        return parse_origins(name, text) if text else []
    except ValueError as error:
        sys.exit(str(error))


def text_setting(variable: str) -> str:
    """The text in a variable; "" if it is not set. ValueError if it is invalid."""
    text = os.environ.get(variable, "")
    return str(parse_setting(variable, text)) if text else ""


def proxy_setting() -> ProxyRules:
    """How a proxy names the visitors; without a user header if it does not."""
    try:
        read = Settings(
            user_header=text_setting("TAILBOARD_USER_HEADER"),
            group_header=text_setting("TAILBOARD_GROUP_HEADER"),
            proxy_secret=text_setting("TAILBOARD_PROXY_SECRET"),
            proxies=text_setting("TAILBOARD_PROXIES"),
        )
        check_proxy_settings(read)
        networks = parse_networks("TAILBOARD_PROXIES", read.proxies)
    except ValueError as error:
        sys.exit(str(error))
    if read.user_header and os.environ.get("FORWARDED_ALLOW_IPS"):
        sys.exit(
            "FORWARDED_ALLOW_IPS must not be set together with TAILBOARD_USER_HEADER: it hides the "
            "address from which a request has come"
        )
    return ProxyRules(read.user_header, read.group_header, read.proxy_secret, networks)


read_env_file()
API = url_setting("TAILBOARD_API", "http://127.0.0.1:5000")
PUBLIC_API = url_setting("TAILBOARD_PUBLIC_API", API)  # the URL by which browsers reach the API
# The page's origins, besides the address at which it is served.
LISTED_ORIGINS = origins_setting("TAILBOARD_DASHBOARD")
PROXY = proxy_setting()
