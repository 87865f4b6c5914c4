"""The run form and the dialogs of saved commands: from a job to a form, and from a form to the
body of a request. Imports nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tailboard.page.client import ApiError
from tailboard.page.rows import JOB_FIELDS
from tailboard.page.shapes import Job, SavedChange
from tailboard.titles import command_text

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
SAVED_FIELDS = ("cron", "zone", "params")  # fields of the dialog that saves, as the API names them


def form_values(job: Job) -> dict[str, str]:
    """The text of each field of the run form, filled from a job."""
    env = job.get("env") or {}
    values = {
        "command": command_text(job.get("command")),
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
    """The body of POST /jobs that the run form describes; and the errors, field -> sentence."""
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
        if given[name]:
            try:
                body[name] = kind(given[name])
            except ValueError:
                wrong[name] = sentence
    return body, wrong


def parse_environment(text: str) -> tuple[dict[str, str], str]:
    """Lines of NAME=value as a mapping. The second value is an error message, or empty."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        return {}, "Each line must be NAME=value."
    return {name: value for name, _, value in pairs}, ""


def is_same_job(body: Job, job: Job) -> bool:
    """Does this body describe the same job? If it does, the page submits a rerun of the job."""
    return parse_form(form_values(job))[0] == body


def form_errors(error: ApiError) -> dict[str, str]:
    """The API's error message, under the field that it begins with, or else under no field."""
    name = str(error).partition(" ")[0]
    return {name if name in FORM_FIELDS else "": str(error)}


def command_of_job(job: Job, changes: SavedChange) -> Job:
    """The body of PUT /saved/NAME that saves the command of a job. A variable of the job's
    environment that becomes a param leaves `env`, and its value is the param's default unless the
    visitor has typed another one."""
    body = {name: job.get(name) for name in JOB_FIELDS if job.get(name) is not None}
    if body.get("name") == job.get("saved"):
        body.pop("name", None)  # the job got its name from the saved command
    env = dict(job.get("env") or {})
    params = []
    for param in changes.get("params", ()):
        known = env.pop(param["name"], None)
        params.append({"name": param["name"], "default": param["default"] or known})
    return body | times_of(changes) | {"env": env, "params": params}


def changed_command(command: Job, change: SavedChange) -> Job:
    """The body of PUT /saved/NAME that changes the times of a saved command, or the defaults of its
    params, and nothing else."""
    defaults = change.get("defaults", {})
    params = [
        param | {"default": defaults.get(param["name"], param["default"])}
        for param in command["params"]
    ]
    return command | times_of(change) | {"params": params}


def times_of(changes: SavedChange) -> Job:
    """The fields of a saved command that say when it runs, if they change."""
    return {name: value for name, value in changes.items() if name in ("cron", "zone", "paused")}


def saved_form_errors(error: ApiError, fields: Iterable[str]) -> dict[str, str]:
    """The API's error message, under the one of `fields` that it begins with, or else under no
    field."""
    name = str(error).partition(" ")[0].rstrip(":")
    return {name if name in fields else "": str(error)}
