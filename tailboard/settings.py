"""The settings from the environment."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from tailboard import values
from tailboard.notify_rules import Rule, parse_rules
from tailboard.proxy_headers import parse_networks
from tailboard.status import FINISHED

MIN_TOKEN = 16  # characters
DAYS_100_YEARS = 36_500
SECONDS_A_YEAR = 366 * 86_400
UNREACHABLE = 30  # seconds without a report until a machine counts as unreachable

# Numeric settings: unit, minimum, maximum (None: no maximum).
SETTING_NUMBERS: dict[str, tuple[str, int, int | None]] = {
    "TAILBOARD_UNREACHABLE": ("seconds", 1, SECONDS_A_YEAR),
    "TAILBOARD_LOST_AFTER": ("seconds", 1, SECONDS_A_YEAR),
    "TAILBOARD_FOLLOWERS": ("followers", 1, 10_000),
    "TAILBOARD_LOG_MAX_BYTES": ("bytes, without a unit,", values.BLOCK, None),
    "TAILBOARD_KEEP_DAYS": ("days", 0, DAYS_100_YEARS),
    "TAILBOARD_KEEP_BYTES": ("bytes, without a unit,", 0, None),
    "TAILBOARD_FILES_MAX_BYTES": ("bytes, without a unit,", 0, None),
    "TAILBOARD_FILES_SENT_BYTES": ("bytes, without a unit,", 0, 512 << 20),
    "TAILBOARD_AUDIT_DAYS": ("days", 0, DAYS_100_YEARS),
}
# If a systemd unit or a compose file refers to an undefined variable, the setting is
# empty. That must not let everybody in.
SETTINGS_NEVER_EMPTY = ("TAILBOARD_TOKEN", "TAILBOARD_TOKENS")
# An origin as browsers send it: no path, no capitals, no default port.
ORIGIN_RE = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)
# The URL of an API: no user, query or fragment.
API_URL_RE = re.compile(
    r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?", re.ASCII
)
# A host name or an IPv4 address, an IPv6 address in brackets, or nothing; and a port.
BIND_RE = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s\[\]:/,]*)):([0-9]{1,5})")

HEADER_NAME_RE = re.compile(
    "[A-Za-z][A-Za-z0-9-]{0,63}"
)  # an underscore could be taken for a hyphen
# Headers that browsers, clients or Tailboard use for something else.
TAKEN_HEADERS_RE = re.compile(
    "(accept|access-control|authorization|connection|content|cookie|expect|forwarded|host|"
    "idempotency|if|origin|proxy|range|referer|sec|tailboard|te|transfer|upgrade|user-agent|"
    "x-forwarded-(for|host|proto)|x-real-ip|x-tailboard)(-.*)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Settings:
    """The values of the TAILBOARD_* variables; docs/settings.md explains them."""

    storage: str = "jobs"
    spool: str = "spool"
    unreachable: int = UNREACHABLE
    lost_after: int = 3_600
    token: str = field(default="", repr=False)
    tokens: str = ""
    followers: int = 64
    dashboard: str = ""  # origins whose pages may read the API, with commas between
    log_max_bytes: int = 1 << 30
    keep_days: int = 30
    keep_bytes: int = 0
    files_max_bytes: int = 1 << 30  # of one job; 0: no limit
    files_sent_bytes: int = 16 << 20  # of one job, that Redis gets
    memory: str = ""  # "rlimit": how max_memory is enforced without cgroups; "": not at all
    webhook: str = ""
    webhook_on: str = "failed,timed_out,lost"
    notify: str = ""  # the rules of jobs that have none, see notify_rules.parse_rules
    page: str = ""  # the URL of the page, for links in messages; see `Settings.page_url`
    job_env: str = ""  # variables that jobs get in any case, with commas between
    secret_key: str = ""  # a file: the key of the values of secret params in Redis
    secrets: str = ""  # the folder of the secrets that jobs name; "": $CREDENTIALS_DIRECTORY
    audit_days: int = 365  # how long the lines of the audit log are kept; 0: no limit
    user_header: str = ""  # the header in which a proxy names the visitor, such as Remote-User
    group_header: str = ""  # the header in which it lists the visitor's groups
    # With which a proxy proves that it has set these headers.
    proxy_secret: str = field(default="", repr=False)
    proxies: str = ""  # addresses and networks of proxies, with commas between; "": loopback
    users: str = ""  # the file with the roles of the users and groups that a proxy names
    # Used elsewhere: by the page, which reads them itself, and when the API starts.
    api: str = ""
    public_api: str = ""
    bind: str = "127.0.0.1:5000"

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> Self:
        """The settings of this environment. ValueError, with a one-sentence message, for a bad
        value or a misspelt name. Other unknown variables may be another program's: see
        `warn_of_foreign_settings`."""
        names = {f"TAILBOARD_{name.upper()}": name for name in SETTING_NAMES}
        given: dict[str, Any] = {}
        for variable, text in env.items():
            if variable in names:
                if is_set(variable, text):
                    given[names[variable]] = parse_setting(variable, text)
            elif meant := _near_miss(variable):
                raise ValueError(f"unknown setting {variable}; did you mean {meant}?")
        settings = cls(**given)
        if settings.lost_after < settings.unreachable:
            raise ValueError(
                f"TAILBOARD_LOST_AFTER must be at least TAILBOARD_UNREACHABLE "
                f"({settings.unreachable}), not {settings.lost_after}"
            )
        check_proxy_settings(settings)
        return settings

    @property
    def default_rules(self) -> list[Rule]:
        """The rules of jobs that have none."""
        return parse_rules(self.notify) if self.notify else []

    @property
    def page_url(self) -> str:
        """The URL of the page, without a slash at its end; "" if it is not known."""
        return self.page or self.dashboard.partition(",")[0]


SETTING_NAMES = tuple(f.name for f in fields(Settings))


def is_set(variable: str, text: str) -> bool:
    """Returns False for an empty value, which counts as not set; ValueError if that would be
    dangerous."""
    if not text and variable in SETTINGS_NEVER_EMPTY:
        raise ValueError(
            f"{variable} must not be empty: give it a value, or remove the variable to serve only "
            "programs on this machine"
        )
    return bool(text)


def parse_setting(variable: str, text: str) -> str | int:
    """The value of a setting. ValueError names the variable and the allowed values. It never
    repeats a value that may be a secret."""
    if text != text.strip():
        raise ValueError(f"{variable} must not begin or end with white space")
    if variable in SETTING_NUMBERS:
        return _parse_number(variable, text)
    if variable in ("TAILBOARD_TOKEN", "TAILBOARD_PROXY_SECRET"):
        _check_token(variable, text)
    if variable in ("TAILBOARD_USER_HEADER", "TAILBOARD_GROUP_HEADER"):
        _check_header_name(variable, text)
    if variable == "TAILBOARD_PROXIES":
        parse_networks(variable, text)
    if variable == "TAILBOARD_SPOOL" and "://" in text:
        raise ValueError(f"{variable} must be a folder on this machine, not a URL")
    if variable == "TAILBOARD_WEBHOOK":
        _check_webhook(variable, text)
    if variable == "TAILBOARD_WEBHOOK_ON":
        return _parse_statuses(variable, text)
    if variable == "TAILBOARD_MEMORY" and text != "rlimit":
        raise ValueError(f"{variable} must be rlimit or unset, not {text!r:.60}")
    if variable == "TAILBOARD_JOB_ENV":
        return _parse_names(variable, text)
    if variable == "TAILBOARD_DASHBOARD":
        return ",".join(parse_origins(variable, text))
    if variable == "TAILBOARD_NOTIFY":
        _check_notify(variable, text)
    if variable == "TAILBOARD_PAGE":
        text = text.rstrip("/")
    urls = ("TAILBOARD_API", "TAILBOARD_PUBLIC_API", "TAILBOARD_PAGE")
    if variable in urls and not API_URL_RE.fullmatch(text):
        raise ValueError(f"{variable} must be a URL like http://127.0.0.1:5000, not {text!r:.200}")
    return text


def _check_token(variable: str, text: str) -> None:
    if not re.fullmatch("[!-~]+", text):
        raise ValueError(
            f"{variable} must consist of ASCII letters, digits and punctuation, without spaces"
        )
    if len(text) < MIN_TOKEN:
        raise ValueError(
            f"{variable} must have at least {MIN_TOKEN} characters; `openssl rand -hex 32` makes "
            "one"
        )


def _check_header_name(variable: str, text: str) -> None:
    if not HEADER_NAME_RE.fullmatch(text) or TAKEN_HEADERS_RE.match(text):
        raise ValueError(
            f"{variable} must be the name of a header that has no other use, in letters, digits "
            f"and hyphens, such as Remote-User, not {text!r:.80}"
        )


def check_proxy_settings(settings: Settings) -> None:
    """ValueError if only some of the settings of a proxy are set: a header that no secret proves
    would let everybody choose a name."""
    if settings.user_header and not settings.proxy_secret:
        raise ValueError(
            "TAILBOARD_USER_HEADER needs TAILBOARD_PROXY_SECRET, which the proxy sends in "
            "X-Tailboard-Proxy to prove that it has set the header"
        )
    for name in ("proxy_secret", "group_header", "proxies", "users"):
        if getattr(settings, name) and not settings.user_header:
            raise ValueError(
                f"TAILBOARD_{name.upper()} needs TAILBOARD_USER_HEADER, the header in which the "
                "proxy names the user, such as Remote-User"
            )
    if settings.user_header and settings.user_header.lower() == settings.group_header.lower():
        raise ValueError("TAILBOARD_GROUP_HEADER must differ from TAILBOARD_USER_HEADER")
    if settings.proxy_secret and settings.proxy_secret == settings.token:
        raise ValueError(
            "TAILBOARD_PROXY_SECRET must differ from TAILBOARD_TOKEN: everybody with that token "
            "could send any name"
        )


def _parse_number(variable: str, text: str) -> int:
    unit, least, most = SETTING_NUMBERS[variable]
    number = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
    if variable == "TAILBOARD_KEEP_BYTES" and 0 < number < values.BLOCK:
        raise ValueError(f"{variable} must be 0 or at least {values.BLOCK:,} bytes, not {text!r}")
    if number < least or (most is not None and number > most):
        bounds = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"{variable} must be a whole number of {unit} {bounds}, not {text!r:.60}")
    return number


def _check_webhook(variable: str, url: str) -> None:
    """ValueError if no POST can be sent to this URL. It does not repeat the URL, which may be a
    secret."""
    from urllib.parse import urlsplit  # imported here: it is rarely needed

    allowed = f"{variable} must be a URL like https://chat.example.org/hooks/1"
    if not re.match("https?://", url, re.IGNORECASE):
        raise ValueError(f"{allowed}; this one does not begin with http:// or https://")
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"{allowed}; this one has a space in it")
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"{allowed}; this one has a wrong host or port")


def _check_notify(variable: str, text: str) -> None:
    try:
        parse_rules(text)
    except ValueError as error:
        raise ValueError(f"{variable} {error}") from None


def _parse_statuses(variable: str, text: str) -> str:
    statuses = [part.strip() for part in text.split(",")]
    for status in statuses:
        if status not in FINISHED:
            allowed = ", ".join(FINISHED)
            raise ValueError(f"{variable} must be one or more of {allowed}, not {status!r:.60}")
    return ",".join(statuses)


def _parse_names(variable: str, text: str) -> str:
    """The names of variables in this text. ValueError does not repeat what is wrong: if somebody
    wrote NAME=VALUE, it may be a secret."""
    names = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
        raise ValueError(
            f"{variable} must be names of environment variables, separated by commas and without "
            "values, such as DB_HOST,DB_PASSWORD"
        )
    return ",".join(names)


def parse_origins(variable: str, text: str) -> list[str]:
    """The comma-separated origins in this text; ValueError if one is invalid."""
    origins = [part.strip().removesuffix("/") for part in text.split(",")]
    for origin in origins:
        if not ORIGIN_RE.fullmatch(origin):
            raise ValueError(
                f"{variable} must be comma-separated origins as browsers send them, such as "
                f"https://page.example.org or http://localhost:8501, not {origin!r:.80}"
            )
    return origins


def parse_bind(bind: str) -> tuple[str, int]:
    """The host and the port of HOST:PORT. ValueError, with a one-sentence message, if the text is
    malformed."""
    found = BIND_RE.fullmatch(bind)
    if not found or not 0 < int(found[3]) < 65_536:
        allowed = "HOST:PORT with a port from 1 to 65535"
        raise ValueError(f"TAILBOARD_BIND must be {allowed}, not {bind!r:.80}")
    return found[1] or found[2] or "0.0.0.0", int(found[3])


def _near_miss(variable: str) -> str | None:
    """The setting that this misspelt name probably means; None if no name is similar."""
    from difflib import get_close_matches  # imported here: it is rarely needed

    name = variable.removeprefix("TAILBOARD_")
    if name == variable:
        return None
    known = [known.upper() for known in SETTING_NAMES]
    close = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"TAILBOARD_{close[0]}" if close else None


def is_redis(storage: str) -> bool:
    """Is this value of TAILBOARD_STORAGE the URL of Redis? Any other value is a folder."""
    return storage.startswith(("redis://", "rediss://"))


def foreign_settings(env: Mapping[str, str]) -> list[str]:
    """The TAILBOARD_* variables that are not settings, sorted. They may belong to another program
    (TAILBOARD_HOME, for example), so each is worth a warning but not an error."""
    known = {f"TAILBOARD_{name.upper()}" for name in SETTING_NAMES}
    return sorted(name for name in env if name.startswith("TAILBOARD_") and name not in known)


def warn_of_foreign_settings(log: logging.Logger, env: Mapping[str, str] = os.environ) -> None:
    """Log a warning for each, in the name of the calling module: Flask's log lines show it."""
    for name in foreign_settings(env):
        reason = "it is not a setting of Tailboard"
        log.warning("ignored variable=%s reason=%r", name, reason, stacklevel=2)
