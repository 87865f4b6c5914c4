"""How the fields of a job and of a saved command are declared. Imports nothing of ours.

`option` declares what a client can ask of a job. The request models, the commands, the run form and
the schemas are made from these declarations; `recorded` and `unrecorded` declare the other fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, get_args

Check = Callable[[Any], bool]
# The kind of a value. web/models.py, cli/options.py and page/forms.py have an entry for each kind.
Kind = Literal[
    "command",
    "text",
    "folder",
    "variables",
    "count",
    "seconds",
    "bytes",
    "choice",
    "flag",
    "rules",
    "names",
]
OPTION = "option"  # keys of a field's metadata
PLACES = "places"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """An option of `tailboard submit` and `save`."""

    help: str
    metavar: str | None = None  # None: click's own name of the type
    flag: str | None = None  # None: the name of the field, with two hyphens before it


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A field of the page's run form. static/page_header.html has its label and its input."""

    error: str = ""  # a sentence that the page shows if the text is not a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What the other parts of the program need to know about an option besides its name."""

    kind: Kind
    allowed: str  # ends the sentence "NAME must be …" in errors and in OpenAPI
    limits: Mapping[str, Any]  # of pydantic's Field: ge, le, gt, pattern, max_length
    meaning: str | None  # in OpenAPI's responses, if the name does not make it clear
    default: Any  # MISSING: a request must give the option
    command_line: CommandLine | None  # None: the commands have no such option
    form: FormField | None  # None: the run form has no such field
    choices: tuple[str, ...]  # of the kind "choice"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TypeError(f"no kind of option is called {self.kind!r}")
        if not self.allowed:
            raise TypeError("an option needs a sentence that says what is allowed")
        if (
            self.kind in ("count", "seconds", "bytes")
            and self.form is not None
            and not self.form.error
        ):
            raise TypeError("the form field of a number needs an error message")
        if (self.kind == "choice") != bool(self.choices):
            raise TypeError("an option has choices if it is of the kind 'choice', and only then")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a field appears."""

    record_check: Check | None  # of its value in job.json; None: the file does not have it
    saved_check: Check | None  # of its value in the file of a saved command; None: as above
    is_on_wire: bool


def option(
    default: Any = MISSING,
    *,
    kind: Kind,
    check: Check,
    allowed: str,
    limits: Mapping[str, Any] | None = None,
    meaning: str | None = None,
    record_check: Check | None = None,
    command_line: CommandLine | None = None,
    form: FormField | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field that clients can set. It is in job.json, in saved commands and in requests and
    responses. `check` is for files, which people can edit; `record_check` replaces it for job.json.
    A type as the default, such as dict, makes a new value for each job."""
    declared = Option(
        kind=kind,
        allowed=allowed,
        limits=limits or {},
        meaning=meaning,
        default=default() if isinstance(default, type) else default,
        command_line=command_line,
        form=form,
        choices=choices,
    )
    places = Places(record_check=record_check or check, saved_check=check, is_on_wire=True)
    return _field(default, {OPTION: declared, PLACES: places})


def recorded(default: Any = MISSING, *, check: Check, on_wire: bool = True) -> Any:
    """A field of job.json, or of a saved command's file, that clients cannot set. `check` accepts
    its value. A type as the default, such as list, makes a new value for each object."""
    places = Places(record_check=check, saved_check=check, is_on_wire=on_wire)
    return _field(default, {PLACES: places})


def unrecorded(default: Any = MISSING, *, on_wire: bool = True, is_shown: bool = True) -> Any:
    """A field that these files do not contain: its value comes from elsewhere. Unless `is_shown`,
    the object's repr, which can appear in a log, does not contain it."""
    places = Places(record_check=None, saved_check=None, is_on_wire=on_wire)
    return _field(default, {PLACES: places}, is_shown)


def _field(default: Any, metadata: Mapping[str, Any], is_shown: bool = True) -> Any:
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata, repr=is_shown)
    return field(default=default, metadata=metadata, repr=is_shown)


def options_of(cls: Any) -> dict[str, Option]:
    """The options among the fields of a dataclass, in their order."""
    return {f.name: f.metadata[OPTION] for f in fields(cls) if OPTION in f.metadata}


def places_of(cls: Any) -> dict[str, Places]:
    """Where each field of a dataclass appears. TypeError if a field does not declare it."""
    for each in fields(cls):
        if PLACES not in each.metadata:
            raise TypeError(
                f"{cls.__name__}.{each.name} must be declared by option, recorded or unrecorded"
            )
    return {each.name: each.metadata[PLACES] for each in fields(cls)}
