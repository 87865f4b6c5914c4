"""Notifications over HTTP: what was noticed about jobs, the named URLs, and test messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from flask import Response, abort

from tailboard.notices import NoticeRecord
from tailboard.notify.send import SendResult, send_now
from tailboard.notify.targets import check_target, resolve
from tailboard.notify_rules import Event, check_target_name, mask_target, unmask_targets
from tailboard.values import parse_time
from tailboard.web import long_answer
from tailboard.web.audit import note
from tailboard.web.long_answer import NO_BUFFERING, WHITE_SPACE, encode_json
from tailboard.web.models import NoticeQuery, NotificationTest, TargetRequest
from tailboard.web.rules import find_command, named_urls
from tailboard.web.state import state

Shown = dict[str, Any]
MAX_TARGETS = 200  # names
TEST_TITLE = "Tailboard: a test"
TEST_BODY = "Someone has sent this message to see whether notifications arrive here."


# --- What was noticed -----------------------------------------------------------------------------


def recent_notices(query: NoticeQuery) -> Shown:
    """The notices since a time, newest first. Those of pings are left out: each run has two."""
    records = state().store.notices.recent(query.since, query.limit)
    found = [shown for record in records for shown in notices_since(record, query.since)]
    newest_first = sorted(found, key=lambda shown: str(shown["at"]), reverse=True)
    return {"notifications": newest_first[: query.limit]}


def notices_since(record: NoticeRecord, since: float) -> list[Shown]:
    job = {"job": record.job, "title": record.title, "saved": record.saved}
    return [
        job | notice.as_dict()
        for notice in record.notices
        if notice.event in list(Event) and parse_time(notice.at) >= since
    ]


# --- Named URLs -----------------------------------------------------------------------------------


def list_targets() -> list[Shown]:
    """The named URLs by name, without their secrets."""
    return [shown_target(name, url) for name, url in sorted(named_urls().items())]


def shown_target(name: str, url: str) -> Shown:
    return {"name": name, "to": mask_target(url)}


def name_target(name: str, wanted: TargetRequest) -> tuple[Shown, bool]:
    """Name a URL; (the URL as clients see it, whether the name is new). 400 if nothing could be
    sent to it, 409 if there are too many names. A URL whose end is hidden is the one that has the
    name already."""
    known = named_urls()
    try:
        check_target_name(name)
    except ValueError as error:
        abort(400, str(error))
    if name not in known and len(known) >= MAX_TARGETS:
        abort(409, f"there are already {MAX_TARGETS} named URLs: remove one first")
    try:
        [url] = unmask_targets([wanted.url], [known[name]] if name in known else [])
        check_target(url, {})
        state().store.notices.set_target(name, url)
    except ValueError as error:
        abort(400, f"url: {error}")
    return shown_target(name, url), name not in known


def remove_target(name: str) -> None:
    """Remove a name. 404 if there is none."""
    known = named_urls()
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        abort(404, f"there is no URL named {name[:80]!r}; known names: {names}")
    state().store.notices.set_target(name, None)


# --- Tests ----------------------------------------------------------------------------------------


def send_test(wanted: NotificationTest) -> Response:
    """Send a test message, and report what the service answers; white space until it does. 400 if
    nothing could be sent to this URL or name; 503 if too many tests are being sent."""
    named = named_urls()
    try:
        [to] = unmask_targets([wanted.to], targets_of(wanted.saved))
        check_target(to, named)
        url = resolve(to, named)
    except ValueError as error:
        abort(400, f"to: {error}")
    note(target=mask_target(to))
    if not state().tests.acquire(blocking=False):
        abort(503, "too many test messages are being sent; try again in a few seconds")
    test = SentTest(url, state().tests)
    return Response(test.body(to), headers=NO_BUFFERING, mimetype="application/json")


class SentTest:
    """A test message that a thread of its own sends, so that the response can begin before."""

    def __init__(self, url: str, places: threading.Semaphore) -> None:
        """Begin to send. `places` has one that is free again when the message was sent."""
        self.url, self.places = url, places
        self.result = SendResult(False, "the message was not sent")
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def _send(self) -> None:
        try:
            self.result = send_now(self.url, TEST_TITLE, TEST_BODY)
        except OSError as error:
            why = f"the process that sends messages cannot be started: {error.strerror}"
            self.result = SendResult(False, why)
        finally:
            self.places.release()

    def body(self, to: str) -> Iterator[bytes]:
        """White space until the message was sent, then the result as JSON."""
        yield b""  # so that the headers are sent at once
        while self.thread.is_alive():
            self.thread.join(long_answer.SPACE_INTERVAL)
            if self.thread.is_alive():
                yield WHITE_SPACE
        ok, answer = self.result
        yield encode_json({"to": mask_target(to), "ok": ok, "answer": answer})


def targets_of(name: str | None) -> list[str]:
    """The URLs and names in the rules of a saved command."""
    command = None if name is None else find_command(name)
    return [] if command is None else [rule["to"] for rule in command.notify or ()]
