"""The rules and URLs in requests: hidden ends are restored, and each new URL or name is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import abort

from tailboard.errors import CommandNotFound, JobNotFound
from tailboard.notify.targets import check_target
from tailboard.notify_rules import TARGET_NAME_RE, Rule, unmask_rules, unmask_targets
from tailboard.saved_command import SavedCommand
from tailboard.web.state import state

Rules = Sequence[Rule] | None


def named_urls() -> Mapping[str, str]:
    """The URLs that rules can name; 503 if they cannot be read."""
    try:
        return state().store.notices.targets()
    except ValueError as error:
        abort(503, str(error))


def complete_rules(given: list[Rule] | None, known: Rules, like: str | None) -> list[Rule] | None:
    """The rules of a request with whole URLs: one whose end is hidden is replaced by that of
    `known`, or of the job `like`. 400 if there is none, or if nothing can be sent to one. The known
    ones are not checked again: it must be possible to pause a command after a name was removed."""
    if not given:
        return given
    try:
        known = [*(known or ()), *(rules_of(like) or ())]
        rules = unmask_rules(given, known) or []
        old = {rule["to"] for rule in known}
        for to in dict.fromkeys(rule["to"] for rule in rules if rule["to"] not in old):
            check_target(to, names_for(to))
    except ValueError as error:
        abort(400, f"notify: {error}")
    return rules


def names_for(to: str) -> Mapping[str, str]:
    """The named URLs; empty if this is a URL, which needs none of them."""
    return named_urls() if TARGET_NAME_RE.fullmatch(to) else {}


def rules_of(job_id: str | None) -> Rules:
    """The rules of a job. 400 if there is no such job."""
    if job_id is None:
        return None
    try:
        return state().store.get(job_id).notify
    except JobNotFound as error:
        abort(400, f"like: {error}")


def complete_ping(given: str | None, known: str | None) -> str | None:
    """The ping URL of a request; if its end is hidden, the known one. 400 if that differs."""
    if given is None:
        return None
    try:
        return unmask_targets([given], [] if known is None else [known])[0]
    except ValueError as error:
        abort(400, f"ping: {error}")


def find_command(name: str) -> SavedCommand | None:
    """The saved command; None if there is none."""
    try:
        return state().store.saved.load(name)
    except CommandNotFound:
        return None
