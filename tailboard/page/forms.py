"""The fields of a job's options in a form: from a job to the form, and from the form to the body of
a request. The run form and the form of saved commands have them. Imports nothing of Streamlit.

The browser does not get the values of environment variables, since they can be secret: it gets
HIDDEN_VALUE for each, and a form that sends it back keeps the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NamedTuple

from tailboard.job import MAX_AFTER, JobOptions
from tailboard.job_option import Kind, options_of
from tailboard.page.client import NOT_SENT, ApiError
from tailboard.page.rows import HIDDEN_VALUE
from tailboard.page.shapes import Job
from tailboard.titles import command_text

# --- What the fields show and accept --------------------------------------------------------------


def show_text(value: str | None) -> str:
    return value or ""


def show_number(value: float | None) -> str:
    return "" if value is None else f"{value:.15g}"  # `:g` alone keeps six digits


def show_flag(value: bool) -> str:
    return "yes" if value else ""


def show_environment(env: Mapping[str, str] | None) -> str:
    return "\n".join(f"{name}={value}" for name, value in (env or {}).items())


def hide_environment(env: Mapping[str, str] | None) -> str:
    return show_environment(dict.fromkeys(env or {}, HIDDEN_VALUE))


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


def parse_flag(text: str) -> bool:
    return bool(text)


def show_rules(rules: Sequence[Mapping[str, Any]] | None) -> str:
    """The rules as JSON, for the form's own code; "" for the default."""
    return "" if rules is None else json.dumps(rules)


def parse_rules(text: str) -> Any:
    return json.loads(text) if text else None


def show_names(names: Sequence[str] | None) -> str:
    return " ".join(names or ())


def parse_names(text: str) -> list[str]:
    """The names in a text, with commas or white space between them."""
    return re.findall(r"[^\s,]+", text)


def parse_environment(text: str) -> dict[str, str]:
    """Lines of NAME=value as a mapping; ValueError with the sentence to show."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("Each line must be NAME=value.")
    return {name: value for name, _, value in pairs}


def keep_hidden(env: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The environment of a form, with the values from `known` for those that the form hides.
    ValueError with the sentence to show if one is unknown."""
    kept = {}
    for name, value in env.items():
        if value == HIDDEN_VALUE and name not in known:
            raise ValueError(f"Enter a value for {name}.")
        kept[name] = known[name] if value == HIDDEN_VALUE else value
    return kept


class FieldKind(NamedTuple):
    """How a form shows the values of a kind of option, and how it reads a text. `parse`
    returns None if the field is empty; its ValueError has the sentence to show at the field, unless
    the option has one of its own."""

    show: Callable[[Any], str]
    parse: Callable[[str], Any]


FIELD_KINDS: dict[Kind, FieldKind] = {
    "command": FieldKind(command_text, parse_command),
    "text": FieldKind(show_text, parse_text),
    "folder": FieldKind(show_text, parse_text),
    "variables": FieldKind(hide_environment, parse_environment),
    "count": FieldKind(show_number, parse_count),
    "seconds": FieldKind(show_number, parse_seconds),
    "bytes": FieldKind(show_number, parse_count),
    "choice": FieldKind(show_text, parse_text),
    "flag": FieldKind(show_flag, parse_flag),
    "rules": FieldKind(show_rules, parse_rules),
    "names": FieldKind(show_names, parse_names),
}


class Field(NamedTuple):
    """A field of an option. Its label and its input are in static/page_header.html, for a job, and
    in static/saved_commands.html."""

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
START_FIELDS = ("not_before", "after", "after_status")
FORM_FIELDS = (*FIELDS, *START_FIELDS)
FIELD_SENTENCES = {  # instead of the API's
    "secrets": "Enter names such as DB_PASSWORD with spaces between them, each once, and none that "
    "the environment has.",
    "cwd": "Use an absolute path, such as /srv/app.",
    "after": f"Enter up to {MAX_AFTER} IDs of jobs, separated by spaces.",
}
KEY_MISSING = "Enter a key: the choice below needs one."


# --- The run form ---------------------------------------------------------------------------------


def form_values(job: Job) -> dict[str, str]:
    """The text of each field of the run form, filled from a job."""
    values = {}
    for name, field in FIELDS.items():
        value = job.get(name)
        values[name] = field.kind.show(field.default if value is None else value)
    return values


def parse_form(
    values: Mapping[str, Any], known_env: Mapping[str, str] | None = None
) -> tuple[Job, dict[str, str]]:
    """The body of POST /jobs that the run form describes; and the errors, field -> sentence.
    `known_env` is the environment of the job that the form was filled from."""
    given = {name: str(values.get(name, "")) for name in FORM_FIELDS}
    body: Job = {}
    wrong: dict[str, str] = {}
    for name, field in FIELDS.items():
        try:
            value = field.kind.parse(given[name])
            if name == "env":
                value = keep_hidden(value, known_env or {})
        except ValueError as error:
            wrong[name] = field.error or str(error)
        else:
            if value is not None:
                body[name] = value
    return body | parse_start(given), wrong


def kept_options(job: Job) -> Job:
    """The options of a job for which the run form has no fields. A job that was made from it has
    them, too."""
    names = JOB_OPTIONS.keys() - FIELDS.keys()
    return {name: job[name] for name in sorted(names) if job.get(name) is not None}


def parse_start(given: Mapping[str, str]) -> Job:
    """What a job waits for, as the API takes it. A rerun or a saved command does not have it."""
    start: Job = {}
    if given["not_before"]:
        start["not_before"] = given["not_before"]
    if after := parse_names(given["after"]):
        start["after"] = after
        if given["after_status"]:
            start["after_status"] = given["after_status"]
    return start


def is_same_job(body: Job, job: Job) -> bool:
    """Does this body describe the same job? If it does, the page submits a rerun of the job."""
    return parse_form(form_values(job), job.get("env"))[0] == body


def form_errors(error: ApiError) -> dict[str, str]:
    """The API's error message, under the field that it begins with, or else under no field."""
    text = str(error)
    if text.startswith(NOT_SENT):
        text = f"{NOT_SENT} Your text is kept; try again."
    name = re.split("[: ]", text, maxsplit=1)[0]
    if name not in FORM_FIELDS:
        return {"": text}
    if text.startswith("after: "):
        return {"after": text.replace("after: there", "There", 1)}
    if name == "if_busy":  # its values are those of a list, so only its key can be wrong
        return {"key": KEY_MISSING}
    return {name: FIELD_SENTENCES.get(name, text)}
