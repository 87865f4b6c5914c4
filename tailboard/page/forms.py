"""The run form and the dialogs of saved commands: from a job to a form, and from a form to the
body of a request. Imports nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tailboard.job import JobOptions
from tailboard.job_option import Option, options_of
from tailboard.page.client import ApiError
from tailboard.page.shapes import Job, SavedChange
from tailboard.titles import command_text

JOB_OPTIONS = options_of(JobOptions)
# The options that the run form has a field for. Each is in static/page_header.html, too.
FORM_OPTIONS = {name: option for name, option in JOB_OPTIONS.items() if option.form is not None}
FORM_FIELDS = (*FORM_OPTIONS, "not_before")
NUMBER_TYPES: dict[str, type] = {"count": int, "seconds": float}  # by kind
SAVED_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = (
    "The name must be 1 to 64 of the characters a-z 0-9 _ - . with a letter or digit first."
)
SAVED_FIELDS = ("cron", "zone", "params")  # fields of the dialog that saves, as the API names them


def form_values(job: Job) -> dict[str, str]:
    """The text of each field of the run form, filled from a job."""
    return {name: field_text(option, job.get(name)) for name, option in FORM_OPTIONS.items()}


def field_text(option: Option, value: Any) -> str:
    """The text of a field that shows this value of an option."""
    if option.kind == "command":
        return command_text(value)
    if option.kind == "variables":
        return "\n".join(f"{name}={text}" for name, text in (value or {}).items())
    if option.kind in NUMBER_TYPES:
        number = option.default if value is None else value
        return "" if number is None else f"{number:g}"
    return value or ""


def parse_form(values: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """The body of POST /jobs that the run form describes; and the errors, field -> sentence."""
    given = {name: str(values.get(name, "")) for name in FORM_FIELDS}
    body: Job = {}
    wrong: dict[str, str] = {}
    for name, option in FORM_OPTIONS.items():
        try:
            value = parse_field(option, given[name])
        except ValueError as error:
            wrong[name] = str(error)
        else:
            if value is not None:
                body[name] = value
    if given["not_before"]:
        body["not_before"] = given["not_before"]
    return body, wrong


def parse_field(option: Option, text: str) -> Any:
    """The value of an option in the text of its field; None if the field is empty. ValueError with
    the sentence to show at the field."""
    if option.kind == "variables":
        return parse_environment(text)
    if option.kind == "command" and not text.strip():
        raise ValueError("There is no command yet.")
    if not text:
        return None
    if option.kind not in NUMBER_TYPES:
        return text
    try:
        return NUMBER_TYPES[option.kind](text)
    except ValueError:
        assert option.form is not None
        raise ValueError(option.form.error) from None


def parse_environment(text: str) -> dict[str, str]:
    """Lines of NAME=value as a mapping; ValueError with the sentence to show."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("Each line must be NAME=value.")
    return {name: value for name, _, value in pairs}


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
    body = {name: job.get(name) for name in JOB_OPTIONS if job.get(name) is not None}
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
