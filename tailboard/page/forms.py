"""The run form and the dialogs of saved commands: from a job to a form, and from a form to the
body of a request. Imports nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from typing import Any, NamedTuple

from tailboard.job import JobOptions
from tailboard.job_option import Kind, options_of
from tailboard.page.client import ApiError
from tailboard.page.shapes import Job, SavedChange
from tailboard.titles import command_text

SAVED_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = (
    "A name has 1 to 64 of the characters a-z 0-9 _ - . and begins with a letter or digit."
)
SAVED_FIELDS = ("cron", "zone", "params")  # fields of the dialog that saves, as the API names them


# --- What the fields of the run form show and accept ----------------------------------------------


def show_text(value: str | None) -> str:
    return value or ""


def show_number(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"  # `:g` alone keeps six digits


def show_environment(env: Mapping[str, str] | None) -> str:
    return "\n".join(f"{name}={value}" for name, value in (env or {}).items())


def parse_text(text: str) -> str | None:
    return text or None


def parse_command(text: str) -> str:
    if not text.strip():
        raise ValueError("Enter a command.")
    return text


def parse_count(text: str) -> int | None:
    return int(text) if text else None


def parse_seconds(text: str) -> float | None:
    return float(text) if text else None


def parse_environment(text: str) -> dict[str, str]:
    """Lines of NAME=value as a mapping; ValueError with the sentence to show."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("Each line must be NAME=value.")
    return {name: value for name, _, value in pairs}


class FieldKind(NamedTuple):
    """How the run form shows the values of a kind of option, and how it reads a text. `parse`
    returns None if the field is empty; its ValueError has the sentence to show at the field, unless
    the option has one of its own."""

    show: Callable[[Any], str]
    parse: Callable[[str], Any]


FIELD_KINDS: dict[Kind, FieldKind] = {
    "command": FieldKind(command_text, parse_command),
    "text": FieldKind(show_text, parse_text),
    "folder": FieldKind(show_text, parse_text),
    "variables": FieldKind(show_environment, parse_environment),
    "count": FieldKind(show_number, parse_count),
    "seconds": FieldKind(show_number, parse_seconds),
}


class Field(NamedTuple):
    """A field of the run form. static/page_header.html has its label and its input."""

    kind: FieldKind
    default: Any  # what the job has if it does not give a value
    error: str  # the sentence to show if the text is wrong; empty: the kind's own sentence


def form_fields() -> dict[str, Field]:
    """The fields that the declaration of the options asks for, by name. KeyError if the form cannot
    show an option's kind."""
    return {
        name: Field(
            kind=FIELD_KINDS[option.kind],
            default=None if option.default is MISSING else option.default,
            error=option.form.error,
        )
        for name, option in JOB_OPTIONS.items()
        if option.form is not None
    }


JOB_OPTIONS = options_of(JobOptions)
FIELDS = form_fields()
FORM_FIELDS = (*FIELDS, "not_before")


# --- The run form ---------------------------------------------------------------------------------


def form_values(job: Job) -> dict[str, str]:
    """The text of each field of the run form, filled from a job."""
    values = {}
    for name, field in FIELDS.items():
        value = job.get(name)
        values[name] = field.kind.show(field.default if value is None else value)
    return values


def parse_form(values: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """The body of POST /jobs that the run form describes; and the errors, field -> sentence."""
    given = {name: str(values.get(name, "")) for name in FORM_FIELDS}
    body: Job = {}
    wrong: dict[str, str] = {}
    for name, field in FIELDS.items():
        try:
            value = field.kind.parse(given[name])
        except ValueError as error:
            wrong[name] = field.error or str(error)
        else:
            if value is not None:
                body[name] = value
    if given["not_before"]:
        body["not_before"] = given["not_before"]
    return body, wrong


def is_same_job(body: Job, job: Job) -> bool:
    """Does this body describe the same job? If it does, the page submits a rerun of the job."""
    return parse_form(form_values(job))[0] == body


def form_errors(error: ApiError) -> dict[str, str]:
    """The API's error message, under the field that it begins with, or else under no field."""
    name = str(error).partition(" ")[0]
    return {name if name in FORM_FIELDS else "": str(error)}


# --- The dialogs of saved commands ----------------------------------------------------------------


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
