"""The bodies and query parameters of requests, with their checks.

The description of a field says what is allowed. It ends the sentence of the error: "limit must be a
whole number from 1 to 500". OpenAPI shows it, too."""

from __future__ import annotations

import re
import time
from dataclasses import MISSING
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
)

from tailboard.cron import CRON_FORM, ZONE_FORM
from tailboard.explain.part_name import PartName
from tailboard.job import MAX_AFTER, AfterStatus, JobOptions, is_secret_names
from tailboard.job_option import Option, options_of
from tailboard.notify_rules import (
    MAX_RULES,
    MAX_TARGET,
    TARGET_NAME_RE,
    URL_RE,
    Event,
    is_web_url,
)
from tailboard.order import MAX_LIMIT
from tailboard.saved_command import MAX_PARAMS, PARAM_RE, SAVED_NAMES, SAVED_RE
from tailboard.status import Status
from tailboard.values import (
    ID_RE,
    LINE,
    QUEUE_NAMES,
    QUEUE_RE,
    SECRET_RE,
    first_id,
    parse_time,
    utc,
)
from tailboard.web.request_model import RequestModel

MAX_ENV_BYTES = 64 << 10
MAX_AHEAD = 366 * 86_400  # seconds by which the start of a job can be delayed
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # seconds
RFC_3339 = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
VARIABLE = re.compile(r"^(?!TAILBOARD_|JOB_ID|JOB_ATTEMPT|JOB_STORAGE|JOB_FILES$)[^\x00=]+$")
SINCE = "like 30s, 5m, 2h or 1d, or a timestamp like 2026-11-23T18:00:00Z"
NEEDLE = "1 to 200 characters of one line"
TARGET = f"^(?:{TARGET_NAME_RE.pattern}|{URL_RE.pattern})$"
PLACE = rf"^({ID_RE.pattern})(?:\.([0-9]{{1,19}})\.([0-9]{{1,19}}))?$"
Flag = Annotated[bool, Field(description="0 or 1")]
MOST_SAMPLES = 1_000  # of the usage of a job, in one response
MAX_DIGITS = 4_000  # digits; Python's default limit is 4,300


def text_field(pattern: str | re.Pattern[str], most: int, allowed: str = "") -> Any:
    return Field(pattern=pattern, max_length=most, description=allowed)


def int_field(least: int, most: int) -> Any:
    return Field(ge=least, le=most, description=f"a whole number from {least:,} to {most:,}")


def check_digits(given: Any) -> Any:
    """ValueError unless a number in a query has only digits. Pydantic would also accept `+5`, ` 5`
    and `1_000`."""
    if isinstance(given, str) and not re.fullmatch("[0-9]{1,20}", given):
        raise ValueError
    return given


DIGITS = BeforeValidator(check_digits, json_schema_input_type=int)


def parse_since(given: str) -> float:
    """`since`, an age such as 30s or an RFC 3339 time, as seconds since 1970. ValueError."""
    if age := re.fullmatch(r"([0-9]{1,9})([smhd])", given):
        return time.time() - int(age[1]) * UNITS[age[2]]
    return parse_time(given)


def parse_not_before(given: str) -> str:
    """`not_before`, an RFC 3339 time or a delay such as +10m, as an RFC 3339 time in UTC.
    ValueError if it is neither, or more than MAX_AHEAD away."""
    if ahead := re.fullmatch(r"\+([0-9]{1,9})([smhd])", given):
        then = time.time() + int(ahead[1]) * UNITS[ahead[2]]
    elif RFC_3339.fullmatch(given):
        then = parse_time(given)
    else:
        raise ValueError
    if not 0 <= then <= time.time() + MAX_AHEAD:
        raise ValueError
    return utc(then)


def bounded_env(env: dict[str, str]) -> dict[str, str]:
    """`env` itself; ValueError, which names the largest variable, if it is too large in total."""
    sizes = {name: len(name.encode()) + len(value.encode()) for name, value in env.items()}
    if sum(sizes.values()) > MAX_ENV_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ValueError(f"{sum(sizes.values()):,} bytes are too many; {largest!r} is the largest")
    return env


# Arguments of a program: no NUL, and below the kernel's 128 KiB (MAX_ARG_STRLEN in execve(2)).
Line = Annotated[str, text_field(LINE, 30_000)]
Text = Annotated[str, text_field(r"^[^\x00]*$", 30_000)]


def check_program(words: list[str]) -> list[str]:
    """ValueError if the first word, which names the program, is blank."""
    if not words[0].strip():
        raise ValueError
    return words


def check_names(names: list[str]) -> list[str]:
    """ValueError if a name is not that of a secret, or appears twice."""
    if not is_secret_names(names):
        raise ValueError
    return names


def check_web_url(url: str | None) -> str | None:
    """ValueError unless an HTTP request can be sent to this URL."""
    if url is not None and not is_web_url(url):
        raise ValueError
    return url


class NotifyRule(BaseModel):
    """A rule of `notify`: which events a person is notified of, and where."""

    model_config = ConfigDict(strict=True, extra="forbid")

    on: Annotated[
        list[Literal[tuple(map(str, Event))]],  # type: ignore[valid-type]
        Field(min_length=1, max_length=len(Event)),
    ]
    to: Annotated[str, text_field(TARGET, MAX_TARGET)]


Words = Annotated[list[Text], Field(min_length=1, max_length=1_000), AfterValidator(check_program)]
Label = Annotated[str | None, text_field(LINE, 200, "a string of 1 to 200 characters")]
QUEUE = text_field(f"^{QUEUE_RE.pattern}$", 32, QUEUE_NAMES)
Offset = Annotated[
    int | None, DIGITS, Field(ge=0, le=1 << 62, description="a whole number of bytes, from 0")
]
LineNumber = Annotated[
    int | None, DIGITS, Field(ge=1, le=10**12, description="the number of a line, from 1")
]
LikeJob = Annotated[
    str | None,
    text_field(
        f"^{ID_RE.pattern}$",
        24,
        "the ID of a job; if `notify` in the body has a URL whose end is hidden, it is replaced by "
        "the one of this job",
    ),
]
Since = Annotated[float, BeforeValidator(parse_since, json_schema_input_type=str)]
Needle = Annotated[str, text_field(r"^[^\n]+$", 200, NEEDLE)]
Filter = Annotated[str, text_field("", 200, "a string of up to 200 characters")]


OPTION_TYPES: dict[str, Any] = {  # for each kind of option
    "command": Line | Words,
    "text": str,
    "folder": str,
    "variables": Annotated[
        dict[Annotated[str, text_field(VARIABLE, 200)], Text], AfterValidator(bounded_env)
    ],
    "count": int,
    "seconds": float,
    "bytes": int,
    "choice": str,  # replaced by the option's choices
    "flag": bool,
    "rules": Annotated[list[NotifyRule], Field(max_length=MAX_RULES)],
    "names": Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": f"^{SECRET_RE.pattern}$"})]],
        AfterValidator(check_names),
    ],
}


class OptionsRequest(RequestModel):
    """A body whose values must have the right JSON types: "1" is not a number."""

    model_config = ConfigDict(strict=True)

    @field_validator("secrets", check_fields=False)
    @classmethod
    def check_secrets(cls, secrets: list[str], info: ValidationInfo) -> list[str]:
        """ValueError if a variable would have two values."""
        if info.data.get("env", {}).keys() & set(secrets):
            raise ValueError
        return secrets


def option_field(option: Option) -> tuple[Any, Any]:
    """The type and the default of an option's field in a request, as `create_model` takes them."""
    value_type = Literal[option.choices] if option.choices else OPTION_TYPES[option.kind]
    if option.default is None:
        value_type = value_type | None
    limits = Field(**option.limits, description=option.allowed)
    default = ... if option.default is MISSING else option.default
    return Annotated[value_type, limits], default


OPTION_FIELDS: dict[str, Any] = {
    name: option_field(option) for name, option in options_of(JobOptions).items()
}
if TYPE_CHECKING:
    JobRequest = OptionsRequest  # mypy cannot follow a class that is made at run time
else:
    JobRequest = create_model(
        "JobRequest",
        __base__=OptionsRequest,
        __doc__="The options of a job, whether it is submitted or saved.",
        **OPTION_FIELDS,
    )


def unique(ids: list[str]) -> list[str]:
    """Each of the IDs once, in their order."""
    return list(dict.fromkeys(ids))


class Submission(JobRequest):
    """The body of POST /jobs."""

    not_before: Annotated[str | None, AfterValidator(parse_not_before)] = Field(
        None,
        description="a timestamp like 2026-11-23T18:00:00Z, or an offset like +30s, +10m, +2h or "
        "+1d from now, "
        "at most 366 days ahead",
    )
    after: Annotated[
        list[Annotated[str, text_field(f"^{ID_RE.pattern}$", 24)]], AfterValidator(unique)
    ] = Field([], max_length=MAX_AFTER, description=f"a list of up to {MAX_AFTER} job IDs")
    after_status: Literal[tuple(AfterStatus)] = Field(  # type: ignore[valid-type]
        AfterStatus.SUCCEEDED, description=f"one of {', '.join(AfterStatus)}"
    )
    submitted_by: Label = None

    @field_validator("if_busy")
    @classmethod
    def check_key(cls, if_busy: str | None, info: ValidationInfo) -> str | None:
        """ValueError if `if_busy` would have no effect."""
        if if_busy is not None and info.data.get("key") is None:
            raise ValueError
        return if_busy


class SubmitQuery(RequestModel):
    """The parameters of POST /jobs."""

    like: LikeJob = None


class RerunRequest(RequestModel):
    """The body of POST /jobs/ID/rerun."""

    model_config = ConfigDict(strict=True)

    with_after: Annotated[bool, Field(description="true or false")] = False


class Filters(RequestModel):
    """Which jobs to select. `since`: only those submitted since then; `by`: only those that this
    person or program submitted."""

    status: Status | None = Field(None, description=f"one of {', '.join(Status)}")
    queue: Annotated[str | None, QUEUE] = None
    by: Label = None
    since: Since | None = Field(None, description=SINCE)

    def first_id(self) -> str | None:
        return None if self.since is None else first_id(self.since)


class Listing(Filters):
    """The parameters of GET /jobs."""

    q: Filter = ""
    limit: Annotated[int, DIGITS, int_field(1, 500)] = 50
    results: Flag = False
    before: Annotated[str | None, text_field(f"^{ID_RE.pattern}$", 24, "the ID of a job")] = None
    id: Annotated[
        str | None, text_field("^.+$", 24, "the beginning or the end of an ID, 1 to 24 characters")
    ] = None


class JobQuery(RequestModel):
    """The parameters of GET /jobs/ID."""

    wait: Annotated[int, DIGITS, int_field(0, 300)] = 0


class Attention(RequestModel):
    """The parameters of GET /attention."""

    since: Since = Field(0.0, description=SINCE)


class AuditQuery(RequestModel):
    """The parameters of GET /audit."""

    since: Since | None = Field(None, description=SINCE)
    by: Annotated[str | None, text_field(LINE, 200, "a name of 1 to 200 characters")] = None
    job: Annotated[str | None, text_field(f"^{ID_RE.pattern}$", 24, "the ID of a job")] = None
    limit: Annotated[int, DIGITS, int_field(1, 500)] = 50
    before: Annotated[
        str | None, text_field("^[0-9]{1,16}[.-][0-9]{1,18}$", 36, "the value of `next`")
    ] = None


class TicketRequest(RequestModel):
    """The body of POST /ticket and POST /jobs/ID/ticket."""

    model_config = ConfigDict(strict=True)

    origin: Annotated[
        str | None,
        text_field(
            r"^https?://[A-Za-z0-9._:\[\]-]+$",
            300,
            "the scheme, host and port of a page, like http://127.0.0.1:8501",
        ),
    ] = None


class PauseRequest(RequestModel):
    """The body of PUT /queues/NAME/pause."""

    model_config = ConfigDict(strict=True)

    why: Label = None
    by: Label = None


class QueueRequest(RequestModel):
    """The body of PUT /queues/NAME."""

    model_config = ConfigDict(strict=True)

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = Field(
        description=f"a whole number from 1 to {MAX_LIMIT:,}, or null"
    )


TicketField = Annotated[
    str | None,
    Field(description="a ticket from POST /ticket or POST /jobs/ID/ticket, instead of a token"),
]


class LogQuery(RequestModel):
    """The parameters of GET /jobs/ID/logs."""

    tail: Annotated[int, DIGITS, int_field(0, 1_000_000)] = 1_000
    offset: Offset = None
    line: LineNumber = None
    limit_bytes: Annotated[int, DIGITS, int_field(1, 4 << 20)] = 256 << 10
    since: Since | None = Field(None, description=SINCE)
    timestamps: Flag = False
    follow: Flag = False
    download: Flag = False
    q: Needle | None = Field(None, description=NEEDLE)
    limit: Annotated[int, DIGITS, int_field(1, 1_000)] = 100
    before: Offset = None
    after: Offset = None
    case: Flag = False
    regex: Flag = False
    count: Flag = False
    places: Flag = False
    upto: Offset = None
    ticket: TicketField = None


class UsageQuery(RequestModel):
    """The parameters of GET /jobs/ID/usage."""

    limit: Annotated[int | None, DIGITS, int_field(1, MOST_SAMPLES)] = None
    ticket: TicketField = None


class FilesQuery(RequestModel):
    """The parameters of GET /jobs/ID/files and GET /jobs/ID/files.zip."""

    ticket: TicketField = None


class FileQuery(FilesQuery):
    """The parameters of GET /jobs/ID/files/PATH."""

    download: Flag = False
    render: Flag = False


PART_NAMES = rf"^({'|'.join(PartName)})(,({'|'.join(PartName)}))*$"


class ExplainQuery(RequestModel):
    """The parameters of GET /jobs/ID/explain."""

    parts: Annotated[
        str,
        text_field(PART_NAMES, 200, f"names, separated by commas, out of {', '.join(PartName)}"),
    ] = ",".join(PartName)
    ticket: str | None = Field(None, description="a ticket from POST /ticket, instead of a token")


class DiffQuery(RequestModel):
    """The parameters of GET /jobs/ID/diff."""

    other: Annotated[str | None, text_field(f"^{ID_RE.pattern}$", 24, "the ID of a job")] = Field(
        None, alias="with"
    )
    begin: Annotated[int, DIGITS, int_field(0, 1_000_000)] = Field(0, alias="from")
    ticket: str | None = Field(None, description="a ticket from POST /ticket, instead of a token")


class Grep(Filters):
    """The parameters of GET /logs."""

    q: Needle
    limit: Annotated[int, DIGITS, int_field(1, 1_000)] = 100
    per_job: Annotated[int, DIGITS, int_field(1, 1_000_000_000)] = 10
    numbers: Flag = True
    before: Annotated[
        str | None, text_field(PLACE, 70, "the value of `next`, or the ID of a job")
    ] = None


class Bulk(Filters):
    """The parameters of GET /bulk."""

    to: Literal["rerun", "cancel", "delete"] = Field(description="rerun, cancel or delete")
    q: Filter = ""
    all: Flag = False


class SavedParam(BaseModel):
    """A param in the body of PUT /saved/NAME."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{PARAM_RE.pattern}$"})]
    label: Label = None
    default: Text | None = None
    choices: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None
    secret: bool = False


class SavedRequest(JobRequest):
    """The body of PUT /saved/NAME."""

    params: list[SavedParam] = Field(
        [],
        max_length=MAX_PARAMS,
        description=f"a list of up to {MAX_PARAMS} objects, each with a name and optionally a "
        "label, a default (a string) and choices (a list of strings), or secret (true)",
    )
    cron: Annotated[str | None, text_field(LINE, 200, CRON_FORM)] = None
    zone: Annotated[str, text_field(LINE, 100, ZONE_FORM)] = "UTC"
    paused: Annotated[bool, Field(description="true or false")] = False
    then: Annotated[
        str | None,
        text_field(f"^{SAVED_RE.pattern}$", 64, f"the name of a saved command, {SAVED_NAMES}"),
    ] = None
    ping: Annotated[
        str | None,
        text_field(
            f"^{URL_RE.pattern}$",
            MAX_TARGET,
            f"an http:// or https:// URL of up to {MAX_TARGET:,} characters, or null",
        ),
        AfterValidator(check_web_url),
    ] = None


class SavedListing(RequestModel):
    """The parameters of GET /saved."""

    env: Flag = False


class SaveQuery(RequestModel):
    """The parameters of PUT /saved/NAME."""

    check: Flag = False
    like: LikeJob = None


class NoticeQuery(RequestModel):
    """The parameters of GET /notifications."""

    since: Since = Field("1d", description=SINCE, validate_default=True)
    limit: Annotated[int, DIGITS, int_field(1, 500)] = 100


class TargetRequest(RequestModel):
    """The body of PUT /notifications/targets/NAME."""

    model_config = ConfigDict(strict=True)

    url: Annotated[
        str,
        text_field(
            f"^{URL_RE.pattern}$",
            MAX_TARGET,
            f"a URL such as mailto://… or ntfys://… of up to {MAX_TARGET:,} characters",
        ),
    ]


class NotificationTest(RequestModel):
    """The body of POST /notifications/test. `saved`: the saved command whose rules have this URL,
    if its end is hidden."""

    model_config = ConfigDict(strict=True)

    to: Annotated[str, text_field(TARGET, MAX_TARGET, "a URL or its name")]
    saved: Annotated[
        str | None,
        text_field(f"^{SAVED_RE.pattern}$", 64, f"the name of a saved command, {SAVED_NAMES}"),
    ] = None


class RunValues(RequestModel):
    """The body of POST /saved/NAME/run. Its fields are the params of the saved command."""


class RunQuery(RequestModel):
    """The parameters of POST /saved/NAME/run."""

    submitted_by: Label = None


def bounded_int(digits: str) -> int:
    """A JSON number; ValueError with our own message if it is too long for Python."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS:,} digits")
    return int(digits)
