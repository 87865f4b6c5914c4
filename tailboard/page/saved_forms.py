"""The form of a saved command: from a saved command or a job to the form, and from the form to the
body of PUT /saved/NAME. Imports nothing of Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from tailboard.cron import check_cron, check_zone, cron_times
from tailboard.page import notify_forms
from tailboard.page.client import ApiError
from tailboard.page.forms import (
    FIELD_SENTENCES,
    FIELDS,
    JOB_OPTIONS,
    form_values,
    parse_form,
)
from tailboard.page.notify_forms import as_clients_see, notify_form, parse_notify
from tailboard.page.rows import HIDDEN_VALUE, shown_values
from tailboard.page.shapes import Job, ParamFields, SavedForm, SchedulePreview
from tailboard.titles import command_text
from tailboard.values import utc

SAVED_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = "Use lowercase letters, digits, - _ and . (1 to 64), with a letter or digit first."
PREVIEWED_TIMES = 5  # of a schedule
# The beginning of an API's sentence that only repeats the field at which the page shows it.
PREFIX_RE = re.compile("(?:params|cron|zone|then|notify|ping): ")
# The param that such a sentence is about: "VERSION needs …", "the default of B …", "'b' must …".
PARAM_RE = re.compile("(?:the default of )?'?([A-Za-z_0-9]+)")


# --- From a job or a saved command to the form ----------------------------------------------------


def saved_form(origin: Job, command: Job | None = None) -> dict[str, Any]:
    """What the form shows of a job that is to be saved, or of a saved command that is edited.
    `command` is the saved command that started the job, if there is one: to save the job replaces
    it, and should keep its schedule."""
    values = form_values(origin)
    if origin.get("name") == origin.get("saved"):
        values["name"] = ""  # its jobs have the name of the saved command
    source = command or origin
    return {
        "values": values,
        "params": origin["params"] if "params" in origin else given_params(origin, command or {}),
        "cron": source.get("cron"),
        "zone": source.get("zone"),
        "paused": bool(source.get("paused")),
        "follower": source.get("then") or "",
        "notify": notify_form(source),
    }


def given_params(job: Job, command: Job) -> list[Job]:
    """The params that a run of a saved command was given, each with its value as the default."""
    declared = {param["name"]: param for param in command.get("params", ())}
    unknown = {"label": None, "choices": None, "secret": False}
    given = [
        unknown | declared.get(name, {}) | {"name": name, "default": value, "secret": False}
        for name, value in shown_values(job).items()
    ]
    secret = {"choices": None, "default": None, "secret": True}
    names = job.get("secret_params") or ()
    return given + [unknown | declared.get(name, {}) | secret | {"name": name} for name in names]


def values_to_start(job: Job) -> dict[str, str]:
    """The values of a run that the form of its saved command shows when it is started again."""
    return {name: value for name, value in shown_values(job).items() if value != HIDDEN_VALUE}


# --- From the form to the body of a request -------------------------------------------------------


def parse_saved_form(form: SavedForm, origin: Job) -> tuple[Job, dict[str, str]]:
    """The body of PUT /saved/NAME that the form describes; and the errors, field -> sentence.
    `origin` is the job or the saved command that the form was filled from, or empty. Options that
    the form does not show stay as they are there."""
    values = form["values"]
    given, wrong = parse_form(values, origin.get("env"))
    if not SAVED_NAME.fullmatch(form["saved"]):
        wrong["saved"] = SAVED_NAMES
    shown = FIELDS.keys() & values.keys()
    kept = {name: origin.get(name) for name in JOB_OPTIONS if name not in shown}
    body = {name: value for name, value in kept.items() if value is not None}
    body |= {name: value for name, value in given.items() if name in shown}
    if origin and values["command"] == plain_lines(command_text(origin["command"])):
        body["command"] = origin["command"]  # which may be a list of a program and its arguments
    env = dict(body.get("env", {}))
    params = [parse_param(param, env) for param in form["params"]]
    times = {"cron": form["cron"] or None, "zone": form["zone"] or "UTC", "paused": form["paused"]}
    if form["follower"]:
        body["then"] = form["follower"]
    notify, wrong_notify = parse_notify(form["notify"])
    return body | times | {"env": env, "params": params} | notify, wrong | wrong_notify


def is_same_command(body: Job, command: Job) -> bool:
    """Is this body already saved as this command? Then the answer to an earlier try was lost."""
    times = ("params", "cron", "zone", "paused")
    given = {name: body.get(name, option.default) for name, option in JOB_OPTIONS.items()}
    given |= {name: body[name] for name in times} | {"then": body.get("then")}
    given |= as_clients_see(body)
    return all(command.get(name) == value for name, value in given.items())


def plain_lines(text: str) -> str:
    """The text as the browser sends it back."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_param(param: ParamFields, env: dict[str, str]) -> Job:
    """A param as the API takes it. It leaves `env`, where its value is the default if the form
    hides it."""
    known = env.pop(param["name"], None)
    named = {"name": param["name"], "label": param["label"].strip() or None}
    if param.get("secret"):
        return named | {"default": None, "choices": None, "secret": True}
    default = None if param["required"] else param["default"]
    return named | {
        "default": known if default == HIDDEN_VALUE else default,
        "choices": [line for line in param["choices"].split("\n") if line] or None,
        "secret": False,
    }


# --- Errors ---------------------------------------------------------------------------------------


def saved_form_errors(error: ApiError, params: Iterable[str]) -> dict[str, str]:
    """The API's error message, under the field of the form that it is about, or else under no
    field. The field of a param is "param NAME"."""
    sentence = PREFIX_RE.sub("", str(error), count=1)
    about_param = PARAM_RE.match(sentence)
    if about_param and about_param[1] in params:
        return {f"param {about_param[1]}": as_sentence(sentence)}
    field = re.split("[: ]", str(error), maxsplit=1)[0]
    if field in (*FIELDS, *notify_forms.FIELDS, "cron", "zone", "params", "then"):
        own = FIELD_SENTENCES.get(field)
        if str(error).startswith(f"{field} must be"):
            own = own or notify_forms.SENTENCES.get(field)
        return {field: own or as_sentence(sentence)}
    return {"": as_sentence(sentence)}


def conflict_errors(name: str, is_new: bool) -> dict[str, str]:
    """What the form shows if someone else has changed the saved command in the meantime."""
    if is_new:
        return {"saved": f"There is already a saved command {name}. Save again to replace it."}
    return {
        "": f"Someone else has changed or deleted {name} since you opened it. "
        "Save again to replace their version."
    }


def run_errors(error: ApiError, params: Iterable[str]) -> dict[str, str]:
    """The API's error message, under the param that it begins with, or else under no field."""
    name = str(error).partition(" ")[0]
    return {name if name in params else "": as_sentence(str(error))}


def as_sentence(text: str) -> str:
    """An error message of the API with a capital letter and a full stop. The names of fields and
    params at its beginning stay as they are."""
    begin = text[:1].upper() + text[1:]
    return begin if begin.endswith(".") else f"{begin}."


# --- The schedule ---------------------------------------------------------------------------------


def preview_schedule(cron: str, zone: str, now: float) -> SchedulePreview:
    """The next times of a schedule, or what is wrong with it."""
    for field, check, text in (("zone", check_zone, zone), ("cron", check_cron, cron)):
        try:
            check(text)
        except ValueError as error:
            sentence = PREFIX_RE.sub("", str(error), count=1)
            return {"times": [], "wrong": {field: as_sentence(sentence)}}
    times = islice(cron_times(cron, zone, now), PREVIEWED_TIMES)
    return {"times": [utc(moment) for moment in times], "wrong": {}}


def param_names(form: Mapping[str, Any]) -> list[str]:
    return [str(param["name"]) for param in form.get("params", ())]
