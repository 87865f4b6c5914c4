"""To whom messages are sent: names, Apprise's URLs, and how Apprise is kept from what it must not
do."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from tailboard.notify_rules import KINDS_WITH_HOST, TARGET_NAME_RE, URL_RE, mask_target

LONGEST_REASON = 300  # characters
SHORTEST_SECRET = 4  # characters; a shorter part of a URL is not hidden
# Parameters of Apprise's URLs that name a file on the machine that sends, or a URL that is read.
FILE_PARAMETERS = ("template", "keyfile", "subfile", "pgppub", "pgpprv")
NOT_FOLLOWED = ", and redirects are not followed"
CAUSE_RE = re.compile(r"\[Errno -?[0-9]+\] ([A-Za-z ]+)|(Read timed out|timed out)")


def check_target(to: str, named: Mapping[str, str]) -> None:
    """ValueError, with Apprise's own reason, if no message can be sent to this URL; or if there is
    no URL with this name."""
    if URL_RE.fullmatch(to):
        open_target(to)
    else:
        resolve(to, named)


def resolve(to: str, named: Mapping[str, str]) -> str:
    """The URL of a rule's `to`. ValueError if it is a name that no URL has."""
    if URL_RE.fullmatch(to):
        return to
    if not TARGET_NAME_RE.fullmatch(to):
        raise ValueError("it is neither a URL nor the name of one")
    if to not in named:
        known = ", ".join(sorted(named)) or "none"
        raise ValueError(f"there is no URL named {to!r}; known names: {known}")
    return named[to]


def open_target(url: str) -> Any:
    """The object with which Apprise sends to a URL (apprise.NotifyBase). ValueError, with Apprise's
    own reason, if there is none. It follows no redirect and sends each message once: the URL's own
    wishes do not count."""
    import apprise  # imported here: it takes 0.4 s and 30 MB

    _refuse_files(url)
    asset = apprise.AppriseAsset(
        app_id="Tailboard",
        app_desc="Tailboard",
        app_url="",
        http_redirects=False,
        image_url_mask=None,  # else messages would contain images from another server
    )
    with captured_log() as lines:
        try:
            target = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=False)
        except Exception as error:
            raise ValueError(without_secrets(str(error) or type(error).__name__, url)) from None
    if target is None:
        raise ValueError(_explain(lines, url))
    target.redirects, target.retry = False, 0
    _choose_defaults(target, url)
    return target


def _refuse_files(url: str) -> None:
    from apprise import plugins

    parse: Any = plugins.url_to_dict
    with captured_log():
        parsed = parse(url, secure_logging=True)
    given = (parsed or {}).get("qsd") or {}
    for name in FILE_PARAMETERS:
        if given.get(name):
            raise ValueError(f"a URL must not name a file, and this one does with {name}=")


def _choose_defaults(target: Any, url: str) -> None:
    """What the URL does not say: a mail is plain text, so that the lines of a log stay as they are,
    and a text that is too long for a service is cut instead of refused."""
    from apprise import NotifyFormat, OverflowMode

    is_mail = url.lower().startswith(("mailto:", "mailtos:"))
    if is_mail and not re.search(r"[?&]format=", url, re.IGNORECASE):
        target.notify_format = NotifyFormat.TEXT
    if not re.search(r"[?&]overflow=", url, re.IGNORECASE):
        target.overflow_mode = OverflowMode.TRUNCATE


def _explain(lines: list[str], url: str) -> str:
    reason = reason_of(lines, url) or "Apprise does not know this kind of URL"
    if re.match("https?:", url, re.IGNORECASE):
        reason += "; to POST a message as JSON, write json:// or jsons:// instead"
    return reason


# --- What Apprise says ----------------------------------------------------------------------------


class _LinesOfThread(logging.Handler):
    """Collects what this thread logs."""

    def __init__(self) -> None:
        super().__init__()
        self.thread, self.lines = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_ident() != self.thread:
            return
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.lines.append(text.rstrip(" .:"))
        elif found := CAUSE_RE.search(text):  # a detail that Apprise logs only for developers
            self.lines.append((found[1] or found[2]).strip().lower())


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """The lines in which Apprise says, in this thread, what is wrong. They may contain parts of a
    URL, so nothing else logs them."""
    logger, handler = logging.getLogger("apprise"), _LinesOfThread()
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


def reason_of(lines: list[str], url: str) -> str:
    """One line that says what is wrong, without secrets; "" if Apprise has said nothing."""
    reason = ", ".join(dict.fromkeys(lines)).replace("., ", ", ")
    is_redirect = re.search(r"\berror=30[1-8]\b", reason) is not None
    return without_secrets(reason, url) + (NOT_FOLLOWED if is_redirect else "")


def without_secrets(text: str, url: str) -> str:
    """A text on one line, of LONGEST_REASON characters at most, in which the parts of a URL are
    hidden."""
    shown = " ".join(text.split()).replace(url, mask_target(url)).rstrip(" .:")
    shown = re.sub(r"\S\.\.\.\S", "…", shown)  # Apprise hides a text except its ends: "s...t"
    for part in secret_parts(url):
        shown = shown.replace(part, "…")
    return shown if len(shown) <= LONGEST_REASON else shown[: LONGEST_REASON - 1] + "…"


def secret_parts(url: str) -> list[str]:
    """The parts of a URL that may be secret, the longest first: everything but the scheme, and but
    the host if that is no secret."""
    scheme, _, rest = url.partition("://")
    place, *others = re.split("[/?#]", rest, maxsplit=1)
    user, _, host = place.rpartition("@")
    texts = [user, *others] if scheme.lower() in KINDS_WITH_HOST else [user, host, *others]
    parts = {*texts, *(part for text in texts for part in re.split("[/?#&=:@,;+]", text))}
    parts |= {unquote(part) for part in parts}
    parts -= {host if scheme.lower() in KINDS_WITH_HOST else ""}
    return sorted((part for part in parts if len(part) >= SHORTEST_SECRET), key=len, reverse=True)
