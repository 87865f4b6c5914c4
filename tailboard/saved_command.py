"""A saved command: a job's options, parameters, and a schedule."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tailboard.cron import check_cron, check_zone
from tailboard.errors import TooManySaved
from tailboard.job import SECONDS, Job, JobOptions
from tailboard.job_option import Check, options_of, places_of, recorded, unrecorded
from tailboard.key_template import check_template, fill_key, names_in
from tailboard.notify_rules import mask_rules, mask_target
from tailboard.values import is_bool, is_text, plain_number

SAVED_RE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = "1 to 64 of the characters a-z 0-9 _ - . with a letter or digit first"
PARAM_RE = re.compile(r"(?!JOB_|TAILBOARD_)[A-Z][A-Z0-9_]{0,63}")
VALUE_RE = re.compile("[^\0\ud800-\udfff]*")  # what an environment variable in UTF-8 can contain
PARAM_NAMES = "[A-Z][A-Z0-9_]* of up to 64 characters, and not JOB_… or TAILBOARD_…"
MAX_PARAMS = 32
MAX_VALUE = 30_000  # characters; the kernel takes 128 KiB (MAX_ARG_STRLEN in execve(2))
MAX_SAVED = 1_000  # saved commands
MAX_DEFINITION = 128 << 10  # bytes of one; a command and an env of full length fit
MAX_SAVED_BYTES = 8 << 20  # bytes of all of them: each list and each worker keeps them in memory


def is_list(value: Any) -> bool:
    return isinstance(value, list)


def is_string(value: Any) -> bool:
    return isinstance(value, str)


@dataclass(slots=True, kw_only=True)
class Param:
    """A parameter of a run; the job gets its value as an environment variable of this name."""

    name: str
    label: str | None = None  # for people
    default: str | None = None  # None: a run must give a value
    choices: list[str] | None = None  # None: any text
    secret: bool = False  # its value is never stored in plain text, see folder/secret_params.py

    def check(self) -> None:
        """ValueError if no run could use the param."""
        if not PARAM_RE.fullmatch(self.name):
            raise ValueError(f"params: {self.name[:80]!r} must be named {PARAM_NAMES}")
        if self.secret and (self.default is not None or self.choices is not None):
            raise ValueError(f"params: {self.name} is secret: it has neither a default nor choices")
        if self.default is not None:
            try:
                self.check_value(self.default)
            except ValueError as error:
                raise ValueError(f"params: the default of {error}") from None

    def allowed(self) -> str:
        """What a run must give that has no value: the end of a sentence."""
        if self.secret:
            return "a string; it is secret, so each run must give it"
        return f"one of {', '.join(self.choices)}" if self.choices else "a string"

    def check_value(self, value: Any) -> None:
        """ValueError, which names the param and what is allowed, if a run cannot use the value. It
        does not contain the value of a secret param."""
        if self.secret and not isinstance(value, str):
            raise ValueError(f"{self.name} must be a string, in quotes")
        if self.choices is not None and value not in self.choices:
            shown = f"{value!r:.80}"
            raise ValueError(f"{self.name} must be one of {', '.join(self.choices)}, not {shown}")
        if not isinstance(value, str):
            raise ValueError(f"{self.name} must be a string, in quotes, not {value!r:.80}")
        if not VALUE_RE.fullmatch(value) or len(value) > MAX_VALUE:
            allowed = f"a string of up to {MAX_VALUE:,} characters without NUL or lone surrogates"
            raise ValueError(f"{self.name} must be {allowed}")


@dataclass(slots=True, kw_only=True)
class SavedCommand(JobOptions):
    """Job options that are saved under a name, with the params that each run can set and a
    schedule. If `name` is None, its jobs have the name of the saved command."""

    saved: str = unrecorded()  # its own name
    params: list[Param] = recorded(list, check=is_list)
    # Five fields, or @daily and the like; None: it has no times:
    cron: str | None = recorded(None, check=is_text)
    zone: str = recorded("UTC", check=is_string)  # IANA time zone of the schedule
    paused: bool = recorded(False, check=is_bool)  # scheduled runs are skipped
    # The saved command that starts after each run that has succeeded:
    then: str | None = recorded(None, check=is_text)
    # A URL that is called when a run starts and when it ends; it may contain a secret:
    ping: str | None = recorded(None, check=is_text)
    saved_at: str | None = unrecorded(None)  # RFC 3339; set by the store

    def check(self) -> None:
        """ValueError, with one sentence, if a part is invalid or does not fit another."""
        if not SAVED_RE.fullmatch(self.saved):
            raise ValueError(f"the name of a saved command must be {SAVED_NAMES}")
        if doubled := self.env.keys() & set(self.secrets):
            raise ValueError(f"secrets: {min(doubled)} is already set in env")
        self._check_params()
        self._check_key()
        check_zone(self.zone)
        if self.cron is None:
            return
        check_cron(self.cron)
        for param in self.params:
            if param.secret:
                raise ValueError(f"{param.name} is secret, so this cannot run on a schedule")
            if param.default is None:
                raise ValueError(f"{param.name} needs a default before this can run on a schedule")

    def _check_params(self) -> None:
        if len(self.params) > MAX_PARAMS:
            raise ValueError(f"there can be at most {MAX_PARAMS} params, not {len(self.params)}")
        names: set[str] = set()
        for param in self.params:
            param.check()
            if param.name in names:
                raise ValueError(f"params: {param.name} appears twice")
            if param.name in self.env:
                raise ValueError(f"params: {param.name} is already set in env")
            if param.name in self.secrets:
                raise ValueError(f"params: {param.name} is already one of its secrets")
            names.add(param.name)

    def _check_key(self) -> None:
        if self.key is None:
            return
        for param in self.params:
            if param.secret and param.name in names_in(self.key):
                raise ValueError(f"key must not contain {param.name}, which is secret")
        check_template(self.key, [param.name for param in self.params if not param.secret])
        defaults = {p.name: p.default for p in self.params if p.default is not None}
        if names_in(self.key) <= defaults.keys():
            fill_key(self.key, defaults)

    def _key_of_run(self, values: Mapping[str, str]) -> str | None:
        """The key of a job with these values. `if_busy` alone is about the command's own runs."""
        if self.key is not None:
            return fill_key(self.key, values)
        return self.saved if self.if_busy is not None else None

    def job(self, values: Mapping[str, Any]) -> Job:
        """A job with these values of its params. ValueError if one is missing or unknown."""
        given = dict(values)
        chosen: dict[str, str] = {}
        secret: dict[str, str] = {}
        for param in self.params:
            value = given.pop(param.name, param.default)
            if value is None:
                raise ValueError(f"{param.name} is required: {param.allowed()}")
            param.check_value(value)
            (secret if param.secret else chosen)[param.name] = value
        for unknown in given:
            known = ", ".join(param.name for param in self.params) or "none"
            raise ValueError(f"{self.saved} has no param {unknown[:80]!r}; its params are {known}")
        options = {name: getattr(self, name) for name in options_of(JobOptions)}
        changes = {
            "name": self.name or self.saved,
            "env": self.env | chosen,
            "key": self._key_of_run(chosen),
        }
        own = {"saved": self.saved, "values": chosen, "then": self.then, "pings": bool(self.ping)}
        sealed = {"secret_params": list(secret), "secret_values": secret}
        return Job(**options | changes | own | sealed)

    def secret_names(self) -> list[str]:
        """The names of its secret params."""
        return [param.name for param in self.params if param.secret]

    def definition(self) -> dict[str, Any]:
        """The saved command as JSON in a file: without its name and the time when it was saved."""
        values = asdict(self)
        values |= {name: plain_number(values[name]) for name in SECONDS}
        return {name: values[name] for name in DEFINITION}

    def digest(self) -> str:
        """A text that changes with each change of the definition."""
        text = json.dumps(self.definition(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """The saved command as JSON for clients, with masked URLs."""
        masked = {
            "notify": mask_rules(self.notify),
            "ping": None if self.ping is None else mask_target(self.ping),
        }
        return {"saved": self.saved} | self.definition() | masked | {"saved_at": self.saved_at}


COMMAND_CHECKS: dict[str, Check] = {  # a user may have edited the file
    name: places.saved_check
    for name, places in places_of(SavedCommand).items()
    if places.saved_check
}
DEFINITION = list(COMMAND_CHECKS)


def encode_command(command: SavedCommand) -> bytes:
    """The file of a saved command, for people and for git. ValueError if it is too large."""
    return encode_definition(command.definition())


def encode_definition(definition: Mapping[str, Any]) -> bytes:
    """The same for the definition of a saved command."""
    return json.dumps(definition, indent=2, ensure_ascii=False).encode() + b"\n"


def check_room(name: str, size: int, sizes: Mapping[str, int]) -> None:
    """ValueError if a definition of this size (bytes) is too large; TooManySaved if all of them
    together would exceed a limit. `sizes` has the sizes of all saved commands, by name. A command
    that does not grow is always accepted: it must be possible to pause one that is older than these
    limits."""
    known = sizes.get(name)
    if known is not None and size <= known:
        return
    if size > MAX_DEFINITION:
        raise ValueError(
            f"a saved command must have at most {MAX_DEFINITION:,} bytes as JSON, not {size:,}"
        )
    if known is None and len(sizes) >= MAX_SAVED:
        raise TooManySaved(f"there are already {len(sizes):,} saved commands: delete one first")
    if sum(sizes.values()) - (known or 0) + size > MAX_SAVED_BYTES:
        raise TooManySaved(
            f"all saved commands together must have at most {MAX_SAVED_BYTES:,} bytes as JSON: "
            "delete one first"
        )


def parse_command(data: bytes, name: str) -> SavedCommand:
    """The saved command in the bytes of a file; ValueError says why if it is invalid: a person may
    have edited the file, or git may have changed it."""
    record = json.loads(data)
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    known = {key: record[key] for key in DEFINITION if record.get(key) is not None}
    command = SavedCommand(**{"command": None} | known | {"saved": name})
    for key, is_good in COMMAND_CHECKS.items():
        if not is_good(getattr(command, key)):
            raise ValueError(f"its {key} is invalid")
    command.params = [_parse_param(param) for param in command.params]
    command.check()
    return command


def _parse_param(record: Any) -> Param:
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise ValueError("its params are invalid")
    name, label, default = record["name"], record.get("label"), record.get("default")
    choices = record.get("choices")
    secret = record.get("secret", False)
    if not is_text(label) or not is_text(default) or not _is_choices(choices):
        raise ValueError(f"its param {name[:80]!r} is invalid")
    if not is_bool(secret):
        raise ValueError(f"its param {name[:80]!r} is invalid")
    return Param(name=name, label=label, default=default, choices=choices, secret=secret)


def _is_choices(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
