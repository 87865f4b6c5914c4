"""Sends one message at once."""

from __future__ import annotations

from typing import NamedTuple


class SendResult(NamedTuple):
    """What became of a message."""

    ok: bool
    answer: str  # one line without secrets


def send_now(url: str, title: str, body: str) -> SendResult:
    """Try once to send a message to a URL."""
    import apprise  # imported here: it takes a while, and is rarely needed

    sender = apprise.Apprise()
    sender.add(url)
    is_sent = bool(sender.notify(title=title, body=body))
    return SendResult(is_sent, "sent" if is_sent else "not sent")
