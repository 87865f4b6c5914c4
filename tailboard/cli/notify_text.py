"""Rules and notifications as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tailboard.durations import format_duration

NOBODY = "nobody"  # the text of no rules


def rule_lines(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rules as `--notify` takes them, such as failed,lost=ops."""
    return [f"{','.join(rule['on'])}={rule['to']}" for rule in rules] or [NOBODY]


def notice_lines(notices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notices, each with a line for each message: to whom, and when it was sent or why not."""
    lines = []
    for notice in notices:
        text = f": {notice['text']}" if notice["text"] else ""
        lines.append(f"{notice['at']}  {notice['event']}{text}")
        lines += [f"  {describe_delivery(delivery)}" for delivery in notice["deliveries"]]
    return lines


def usual_lines(usual: Mapping[str, Any]) -> list[str]:
    """What is usual for a job: durations in words, and since when a running one is silent."""
    seconds = {"takes": "seconds", "late after": "late_after"}
    seconds |= {"longest pause": "longest_pause", "silent after": "silent_after"}
    lines = [
        f"{words} {format_duration(usual[name])}"
        for words, name in seconds.items()
        if usual[name] is not None
    ]
    since = usual["silent_since"]
    return [", ".join(lines), *([f"no output since {since}"] if since else [])]


def describe_delivery(delivery: Mapping[str, Any]) -> str:
    """What became of a message to one URL or name."""
    if delivery["sent_at"]:
        return f"to {delivery['to']}: sent at {delivery['sent_at']}"
    error = delivery["error"] or "no try yet"
    more = "; it will be tried again" if delivery["pending"] and delivery["tries"] else ""
    return f"to {delivery['to']}: not sent: {error}{more}"
