"""Checks the URLs and names to which rules send messages."""

from __future__ import annotations

from collections.abc import Mapping

from tailboard.notify_rules import TARGET_NAME_RE, mask_target


def check_target(to: str, named: Mapping[str, str]) -> None:
    """ValueError, without a secret, if nothing could be sent to this URL or name. `named`: the
    URLs that have a name."""
    url = resolve(to, named)
    import apprise  # imported here: it takes a while, and is rarely needed

    if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
        raise ValueError(f"Apprise cannot use {mask_target(url)}")


def resolve(to: str, named: Mapping[str, str]) -> str:
    """The URL that a rule means. ValueError if no URL has this name."""
    if not TARGET_NAME_RE.fullmatch(to):
        return to
    if to not in named:
        known = ", ".join(sorted(named)) or "none"
        raise ValueError(f"there is no URL named {to!r}; known names: {known}")
    return named[to]
