"""The run form and the form of a saved command."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tailboard.page.client import ApiError
from tailboard.page.rows import JOB_FIELDS, Job, command_text

FORM_FIELDS = (
    *("command", "name", "cwd", "timeout", "env", "retries", "retry_delay"),
    *("not_before", "queue"),
)
FORM_NUMBERS: dict[str, tuple[type, str]] = {
    "timeout": (float, "The timeout must be a number of seconds."),
    "retries": (int, "Retries must be a whole number."),
    "retry_delay": (float, "The delay must be a number of seconds."),
}
SAVED_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = (
    "The name must be 1 to 64 of the characters a-z 0-9 _ - . with a letter or digit first."
)
SAVED_FIELDS = ("cron", "zone", "params")  # of the dialog that saves, as the API calls them


def form_values(job: Job) -> dict[str, str]:
    """The form filled from a job."""
    env = job.get("env") or {}
    values = {
        "command": command_text(job),
        "env": "\n".join(f"{name}={text}" for name, text in env.items()),
        "timeout": format_number(job.get("timeout")),
        "retries": format_number(job.get("retries") or 0),
        "retry_delay": format_number(job.get("retry_delay") or 0),
    }
    texts = {name: job.get(name) or "" for name in ("name", "cwd", "queue")}
    return values | texts


def format_number(number: float | None) -> str:
    return "" if number is None else f"{number:g}"


def parse_form(values: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """The form's values as the body of POST /jobs, and what is wrong: field -> sentence."""
    given = {name: str(values.get(name, "")) for name in FORM_FIELDS}
    wrong: dict[str, str] = {}
    if not given["command"].strip():
        wrong["command"] = "There is no command yet."
    env, env_error = parse_environment(given["env"])
    if env_error:
        wrong["env"] = env_error
    body: Job = {"env": env}
    texts = ("command", "name", "cwd", "not_before", "queue")
    body |= {name: given[name] for name in texts if given[name]}
    for name, (kind, sentence) in FORM_NUMBERS.items():
        try:
            body |= {name: kind(given[name])} if given[name] else {}
        except ValueError:
            wrong[name] = sentence
    return body, wrong


def parse_environment(text: str) -> tuple[dict[str, str], str]:
    """Lines of NAME=value as a mapping, and a sentence where a line is none."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        return {}, "Each line must be NAME=value."
    return {name: value for name, _, value in pairs}, ""


def is_same_job(body: Job, job: Job) -> bool:
    """Does a filled form ask for what this job was? Then the new one is known as its rerun."""
    return parse_form(form_values(job))[0] == body


def form_errors(error: ApiError) -> dict[str, str]:
    """The API's sentence, at the field that it begins with."""
    name = str(error).partition(" ")[0]
    return {name if name in FORM_FIELDS else "": str(error)}


def command_of_job(job: Job, changes: Mapping[str, Any]) -> Job:
    """The body of PUT /saved/NAME that keeps what a job ran. A variable that is asked for at each
    run leaves its environment, and its value there is the default where none was typed."""
    body = {name: job.get(name) for name in JOB_FIELDS if job.get(name) is not None}
    if body.get("name") == job.get("saved"):
        body.pop("name", None)  # it was called after the saved command that it came from
    env = dict(job.get("env") or {})
    params = []
    for param in changes.get("params", ()):
        known = env.pop(param["name"], None)
        params.append({"name": param["name"], "default": param["default"] or known})
    return body | times_of(changes) | {"env": env, "params": params}


def changed_command(command: Job, change: Mapping[str, Any]) -> Job:
    """The body of PUT /saved/NAME that changes its times, or defaults of its params."""
    defaults = change.get("defaults", {})
    params = [
        param | {"default": defaults.get(param["name"], param["default"])}
        for param in command["params"]
    ]
    return command | times_of(change) | {"params": params}


def times_of(changes: Mapping[str, Any]) -> Job:
    return {name: changes[name] for name in ("cron", "zone", "paused") if name in changes}


def saved_form_errors(error: ApiError, fields: Iterable[str]) -> dict[str, str]:
    """The API's sentence, at the field that it begins with."""
    name = str(error).partition(" ")[0].rstrip(":")
    return {name if name in fields else "": str(error)}
