"""Which URLs messages can be sent to, what is said about the others, and what a try answers."""

from __future__ import annotations

import pytest
from receivers import http_receiver, mail_receiver

from tailboard.job import Job
from tailboard.notify.decide import is_own_cancel
from tailboard.notify.message import offset_of_hint, visible_lines
from tailboard.notify.ping import add_to_path
from tailboard.notify.send import send_now
from tailboard.notify.targets import check_target, open_target, resolve, without_secrets
from tailboard.status import Status

NAMED = {"ops": "json://example.org/hook", "anna": "mailto://u:p@example.org"}


@pytest.mark.parametrize(
    ("to", "service"),
    [
        ("ops", "JSON"),
        ("json://example.org/hook", "JSON"),
        ("mailto://user:password@example.org", "E-Mail"),
        ("ntfy://topic", "ntfy"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "Slack"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack"),
    ],
)
def test_a_name_or_a_url_that_apprise_knows_is_accepted(to: str, service: str) -> None:
    check_target(to, NAMED)
    assert open_target(resolve(to, NAMED)).service_name == service


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("nobody", "there is no URL named 'nobody'; known names: anna, ops"),
        ("a b://s3cret", "it is neither a URL nor the name of one"),
        ("foo://s3cret", "Unparseable URL foo://…"),
        ("slack://T1JJ3T3L2/s3cret", "An invalid Slack (third) Token (None) was specified"),
        ("gotify://example.org", "An invalid Gotify Token (None) was specified"),
        ("http://s3cret/", "Unparseable URL http://.*; to POST a message as JSON, write json://"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd", "a file"),
        ("fcm://project/s3cret?mode=oauth2&keyfile=/etc/passwd", "a URL must not name a file"),
    ],
)
def test_any_other_is_refused_with_the_reason(to: str, reason: str) -> None:
    plain = reason.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=plain) as caught:
        check_target(to, NAMED)
    assert "s3cret" not in str(caught.value).replace("http://s3cret/", "")


def test_a_url_cannot_ask_for_redirects_or_more_tries() -> None:
    target = open_target("json://example.org/?redirect=yes&retry=9&overflow=split")
    assert (target.redirects, target.retry) == (False, 0)
    assert not target.asset.http_redirects


@pytest.mark.parametrize(
    ("url", "text", "shown"),
    [
        ("json://me:s3cret@host/hook1", "me:s3cret failed at hook1", "… failed at …"),
        ("json://me:s3%20cret@host/", "s3 cret and s3%20cret at host", "… and … at host"),
        ("tgram://12345:abcdef/678", "bot 12345:abcdef", "bot …"),
        ("json://host/hook1", "a\n  b", "a b"),
        ("json://host/hook1", "cannot use json://host/hook1.", "cannot use json://host/…"),
        ("json://host/", "x" * 400, "x" * 299 + "…"),
    ],
)
def test_the_answer_of_a_try_contains_no_part_of_the_url(url: str, text: str, shown: str) -> None:
    assert without_secrets(text, url) == shown


def test_one_message_can_be_sent_at_once() -> None:
    with http_receiver() as receiver, mail_receiver() as mailbox:
        assert send_now(receiver.json_url("/ok"), "a title", "a text") == (True, "accepted")
        assert receiver.titles("/ok") == ["a title"]
        refused = send_now(receiver.json_url("/refuse/hiddenpath"), "a title", "a text")
        assert not refused.ok and "error=500" in refused.answer
        assert "hiddenpath" not in refused.answer and "s3cretword" not in refused.answer
        assert send_now(mailbox.url("bert@example.org"), "見出し", "a\n  b").ok
        assert [mail["Subject"] for mail in mailbox.mails] == ["見出し"]


@pytest.mark.parametrize(
    ("submitted_by", "reason", "is_own"),
    [
        ("anna", "cancelled by anna", True),
        ("anna", "cancelled by bert", False),
        ("anna", "cancelled from the page", False),
        (None, "cancelled from the page", True),
        (None, "cancelled through the API", True),
        (None, "cancelled by bert", False),
        ("anna", "replaced by 20261130-041024-83s63sf5", True),
        ("anna", "its worker was stopped", False),
        (None, "20261130-041024-83s63sf5 failed", False),
    ],
)
def test_nobody_is_told_what_they_did_themselves(
    submitted_by: str | None, reason: str, is_own: bool
) -> None:
    job = Job(command="", status=Status.CANCELLED, submitted_by=submitted_by, reason=reason)
    assert is_own_cancel(job) == is_own


def test_the_end_of_a_log_is_shown_as_text_of_limited_size() -> None:
    assert visible_lines(b"") == visible_lines(b"\n\n") == []
    assert visible_lines("満杯\x1b[31m red\x1b[0m\r\n10 %\r20 %\n\ta\0b\n".encode()) == [
        "満杯 red",
        "20 %",
        "    ab",
    ]
    assert visible_lines(b"\xff\xfe\n") == ["\ufffd\ufffd"]
    lines = visible_lines(b"".join(b"%d %s\n" % (n, b"x" * 5_000) for n in range(20)))
    assert sum(map(len, lines)) <= 4_000 and lines[-1].startswith("19 x") and len(lines[0]) == 300


def test_the_line_of_a_hint_is_the_last_one_with_this_text() -> None:
    data = "fatal: 満杯\nother\n\x1b[31mfatal: 満杯\x1b[0m\nbye\n".encode()
    assert offset_of_hint("fatal: 満杯", 100, data) == 100 + data.rindex(b"\x1b[31m")
    assert offset_of_hint("another", 100, data) is offset_of_hint(None, 100, data) is None


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/7"),
        ("https://hc-ping.com/key/slug/?create=1#x", "https://hc-ping.com/key/slug/7?create=1"),
        ("http://[::1]:8000", "http://[::1]:8000/7"),
    ],
)
def test_the_exit_code_is_added_to_the_path_of_a_ping_url(url: str, called: str) -> None:
    assert add_to_path(url, "7") == called
