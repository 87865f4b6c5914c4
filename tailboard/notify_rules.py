"""The rules that say who is notified of which event, and how clients see them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

Rule = dict[str, Any]  # {"on": [events], "to": a URL or the name of one}


class Event(StrEnum):
    """What a person can be notified of."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    RECOVERED = "recovered"  # the first success after one or more bad ends
    LATE = "late"  # it has been running for longer than usual
    SILENT = "silent"  # it has written nothing for longer than usual
    MISSED = "missed"  # a scheduled time passed without a run
    WAITING = "waiting"  # it has been queued for longer than `warn_waiting`


BAD_ENDS = (Event.FAILED, Event.TIMED_OUT, Event.LOST)
MAX_RULES = 20
MAX_TARGET = 2_000  # characters
MAX_NAMED = 200  # URLs that have a name
TARGET_NAME_RE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
TARGET_NAMES = "1 to 64 of the characters a-z 0-9 _ - . with a letter or digit first"
URL_RE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s\x00-\x1f\x7f]+)")
RULES = (
    'a list of up to 20 rules {"on": [events], "to": a URL or its name}, or null for the default; '
    f"the events are {', '.join(Event)}"
)
# In a URL of one of these kinds, what follows the // is a user, a host and a port. In others it can
# be a token or a topic.
KINDS_WITH_HOST = frozenset(
    "http https json jsons xml xmls form forms mailto mailtos gotify gotifys matrix matrixs mmost "
    "mmosts".split()
)
HOST_RE = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")
HIDDEN_END = "\u2026"  # ends a URL that clients see


# --- Checking -------------------------------------------------------------------------------------


def is_rules(value: Any) -> bool:
    """Is this None, or a list of rules?"""
    if value is None:
        return True
    return isinstance(value, list) and len(value) <= MAX_RULES and all(map(is_rule, value))


def is_rule(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"on", "to"}:
        return False
    events, to = value["on"], value["to"]
    are_events = isinstance(events, list) and bool(events) and all(e in list(Event) for e in events)
    return are_events and is_target(to)


def is_target(value: Any) -> bool:
    """Has this the form of a URL, or of the name of one?"""
    if not isinstance(value, str) or len(value) > MAX_TARGET:
        return False
    return bool(TARGET_NAME_RE.fullmatch(value) or URL_RE.fullmatch(value))


def is_web_url(value: str) -> bool:
    """Can an HTTP request be sent to this URL?"""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def parse_rules(text: str) -> list[Rule]:
    """The rules in a setting or an option: JSON, or EVENT,EVENT=TO with spaces between rules.
    ValueError does not repeat the text: it may contain a secret."""
    if text.startswith("["):
        try:
            rules = json.loads(text)
        except (ValueError, RecursionError):
            rules = None
    else:
        pairs = [word.partition("=") for word in text.split()]
        rules = [{"on": events.split(","), "to": to} for events, _, to in pairs]
    if rules is None or not is_rules(rules):
        raise ValueError(
            'must be rules like failed,lost=ops or [{"on": ["failed", "lost"], "to": "ops"}], in '
            f"which the events are {', '.join(Event)}, and what follows them is a URL or its name"
        )
    return list(rules)


# --- Using ----------------------------------------------------------------------------------------


def targets_for(rules: Sequence[Rule], event: str) -> list[str]:
    """Who is notified of an event: the `to` of each rule that names it, each once."""
    return list(dict.fromkeys(rule["to"] for rule in rules if event in rule["on"]))


# --- What clients see -----------------------------------------------------------------------------


def mask_target(to: str) -> str:
    """A target as clients and logs see it: the name, or the scheme of the URL and its host, if that
    is no secret."""
    found = URL_RE.fullmatch(to)
    if found is None:
        return to
    scheme = found[1].lower()
    place = re.split("[/?#]", found[2])[0].rpartition("@")[2] if scheme in KINDS_WITH_HOST else ""
    host = place if HOST_RE.fullmatch(place) else ""  # else: part of a password with a slash in it
    return f"{scheme}://{host}/{HIDDEN_END}" if host else f"{scheme}://{HIDDEN_END}"


def mask_rules(rules: Sequence[Rule] | None) -> list[Rule] | None:
    if rules is None:
        return None
    return [{"on": list(rule["on"]), "to": mask_target(rule["to"])} for rule in rules]


def unmask_targets(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """The targets that a client sends. One that it received masked is replaced by the stored one:
    the first of `known` that looks the same, for the next one the second. ValueError if there is
    none."""
    by_mask: dict[str, list[str]] = {}
    for to in known:
        by_mask.setdefault(mask_target(to), []).append(to)
    found = []
    for to in given:
        if not to.endswith(HIDDEN_END):
            found.append(to)
            continue
        same = by_mask.get(to)
        if not same:
            raise ValueError(f"the end of {to} is hidden: give the whole URL, or the name of one")
        found.append(same.pop(0) if len(same) > 1 else same[0])
    return found


def unmask_rules(given: list[Rule] | None, known: Sequence[Rule] | None) -> list[Rule] | None:
    """The same for rules."""
    if given is None:
        return None
    targets = unmask_targets([rule["to"] for rule in given], [rule["to"] for rule in known or ()])
    return [{"on": rule["on"], "to": to} for rule, to in zip(given, targets, strict=True)]


def check_target_name(name: str) -> None:
    if not TARGET_NAME_RE.fullmatch(name):
        raise ValueError(f"the name of a URL must be {TARGET_NAMES}, not {name[:80]!r}")


def parse_targets(content: Any) -> Mapping[str, str]:
    """The named URLs in the JSON of notify.json; ValueError says what is wrong, without a URL."""
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    if len(content) > MAX_NAMED:
        raise ValueError(f"there can be at most {MAX_NAMED} named URLs, not {len(content):,}")
    for name, url in content.items():
        if not TARGET_NAME_RE.fullmatch(name):  # it may be a URL in the wrong place
            raise ValueError(f"the name of a URL must be {TARGET_NAMES}")
        if not isinstance(url, str) or not URL_RE.fullmatch(url) or len(url) > MAX_TARGET:
            raise ValueError(f"{name} is not a URL of up to {MAX_TARGET:,} characters")
    return content


def with_target(targets: Mapping[str, str], name: str, url: str | None) -> Mapping[str, str]:
    """The named URLs with this change, which `Notices.set_target` describes; ValueError if it is
    invalid."""
    check_target_name(name)
    changed = {**targets, name: url}
    return parse_targets({key: value for key, value in changed.items() if value is not None})
