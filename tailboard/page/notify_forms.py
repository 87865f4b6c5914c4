"""Who is notified of the runs of a saved command, in its form. Imports nothing of Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tailboard.notify_rules import mask_rules, mask_target
from tailboard.page.forms import show_number
from tailboard.page.shapes import Job, NotifyForm

SECONDS = ("warn_after", "warn_waiting")
FIELDS = ("notify", *SECONDS, "ping")
WRONG_SECONDS = "Enter a number of seconds, such as 900."
SENTENCES = {  # instead of the API's, if the value has a wrong form
    "warn_after": WRONG_SECONDS,
    "warn_waiting": WRONG_SECONDS,
    "ping": "Enter a URL that begins with http:// or https://.",
}


def notify_form(command: Job) -> NotifyForm:
    """What the form shows of a saved command or of a job."""
    return {
        "rules": command.get("notify"),
        "warn_after": show_number(command.get("warn_after")),
        "warn_waiting": show_number(command.get("warn_waiting")),
        "ping": command.get("ping") or "",
    }


def parse_notify(form: NotifyForm) -> tuple[Job, dict[str, str]]:
    """The fields of PUT /saved/NAME that the form describes; and the errors, field -> sentence."""
    body: Job = {"notify": form["rules"], "ping": form["ping"].strip() or None}
    wrong: dict[str, str] = {}
    for name, text in (("warn_after", form["warn_after"]), ("warn_waiting", form["warn_waiting"])):
        try:
            body[name] = float(text) if text.strip() else None
        except ValueError:
            wrong[name] = WRONG_SECONDS
    return body, wrong


def notify_errors(
    wrong: Mapping[str, str], rules: Sequence[Mapping[str, Any]] | None
) -> dict[str, str]:
    """The same errors, with that of `notify` under the field of the rule that it is about, if that
    can be found out. The field is "rule NUMBER", from 0."""
    sentence = wrong.get("notify")
    if sentence is None or not rules:
        return dict(wrong)
    targets = [rule["to"] for rule in rules]
    found = [number for number, to in enumerate(targets) if is_about(sentence, to)]
    if len(rules) > 1 and len(found) != 1:
        return dict(wrong)
    others = {field: text for field, text in wrong.items() if field != "notify"}
    return others | {f"rule {found[0] if found else 0}": sentence}


def is_about(sentence: str, to: str) -> bool:
    """Does the API's sentence name this `to`? It also lists the names that are known. Of a URL, it
    may show only the scheme."""
    scheme, separator, _ = to.partition("://")
    return f"{scheme}://" in sentence if separator else f"named {to!r}" in sentence


def as_clients_see(body: Job) -> Job:
    """The same fields as the API returns them, with masked URLs."""
    ping = body.get("ping")
    return {
        "notify": mask_rules(body.get("notify")),
        "ping": None if ping is None else mask_target(ping),
    }
