"""Sending one message at once, to see whether a URL works."""

from __future__ import annotations

from typing import NamedTuple

from tailboard.notify.pool import DeliveryPool


class SendResult(NamedTuple):
    """How it went."""

    ok: bool
    answer: str  # of the service or of Apprise, without secrets


def send_now(url: str, title: str, body: str) -> SendResult:
    """Send one message: one try, in its own process, of at most intervals.SEND_TIME seconds. Any
    thread can call this."""
    pool = DeliveryPool()
    try:
        pool.begin({"url": url, "title": title, "body": body, "kind": "info"})
        while not (answers := pool.wait(1.0)):
            pass
    finally:
        pool.close()
    return SendResult(answers[0].ok, answers[0].text)
