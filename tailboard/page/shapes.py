"""The dictionaries that the page keeps, receives from the browser, and sends to it.

Their keys are an interface: the files in static/ use the same names.
"""

from __future__ import annotations

from typing import Any, NotRequired, Required, TypedDict

Job = dict[str, Any]  # a job, or a saved command, as the API sends it
Filters = dict[str, str]  # name of a filter, see rows.FILTERS -> its text, empty if not set


class Listing(TypedDict):
    """The jobs that match the filters, newest first."""

    rows: list[Job]
    counts: dict[str, int]  # by status; if a search or a queue is chosen, only of its jobs
    next: str | None  # the `before` of the next part; None if there is none
    skipped: int  # jobs with the chosen status that are newer
    searched: int  # jobs with the chosen status that were searched for this part and newer ones
    more: bool  # True if `counts` covers only a part of the jobs that match
    all_counts: dict[str, int]  # by status, of all jobs
    paused: list[dict[str, Any]]  # the pauses of queues, as the API sends them


class RowChanges(TypedDict):
    """How a list differs from the list that the browser has."""

    rows: list[Job]  # that are new or have changed
    gone: list[str]  # IDs of the jobs that are no longer listed


class ListChanges(RowChanges):
    """What the header receives at each refresh to bring the job list up to date."""

    next: str | None
    skipped: int
    searched: int
    counts: dict[str, int]
    more: bool
    since: str  # the number of the list that `rows` and `gone` refer to
    filters: Filters


class SentList(TypedDict):
    """The list that the job list has received in full."""

    number: str  # changes with each new list; empty until the page has one
    filters: Filters | None
    rows: list[Job]


class Me(TypedDict):
    """Who the visitor is."""

    name: str  # of the named token, or of a proxy's user; empty if there is none
    role: str  # read, run or all
    signed_in: bool  # False if the API needs no token
    by_proxy: bool  # True if a proxy has signed the visitor in
    named: bool  # True if visitors can have names


class KeptSession(TypedDict):
    """A session key that the browser is to store."""

    key: str
    expires_at: str


class SignInData(TypedDict):
    """What the component that asks for the token receives."""

    asks: bool  # False: the visitor is signed in, or need not be
    can_sign_in: bool  # False: the API has no token, and only `message` is shown
    message: str
    wrong: str  # an error message
    rejected: str  # the session key that the API has refused; empty if it was none
    keep: KeptSession | None
    number: int  # changes with each answer


class Totals(TypedDict):
    """What the header shows beside the list."""

    counts: dict[str, int]  # by status, of all jobs
    paused: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    machines: str
    slots: dict[str, int]  # `busy` and `all`
    failed_today: str  # a number, "100+", or empty if no job has failed, timed out or was lost
    ticket: str  # for reading logs; empty if the API could not make one
    noticed: list[str] | None  # when people were notified in the last day; None if not known
    me: Me


class WantedLog(TypedDict):
    """Which log the pane shows, and whether the page's server has to bring it."""

    job: str  # empty if no job is chosen
    tail: bool  # True if the browser does not reach the API
    stamped: bool  # True if the lines of this tail begin with their times


class LogTail(TypedDict):
    """The end of a log. Offsets count the bytes of the whole log."""

    text: str
    offset: int  # where `text` begins
    next: int  # where `text` ends
    lines: int | None  # in the whole log; None if the API has not counted them
    stamped: bool


class NewJob(TypedDict, total=False):
    """What came of submitting a job."""

    job: Required[str]  # the ID of the new job, or of the one that has its key
    notice: str  # says that nothing was queued


class SavedStart(TypedDict):
    """A saved command whose form the page opens."""

    name: str
    values: dict[str, str]  # param -> the value to fill in


class HeaderResult(TypedDict, total=False):
    """What came of a click in the header."""

    job: str  # the ID of the new job
    submitted: bool  # True if the run form submitted that job
    wrong: dict[str, str]  # field of the run form -> error message
    edit: dict[str, str]  # field of the run form -> text to fill in
    source: str  # the ID of the job that `edit` was made from
    cancelling: str  # the ID of the job whose cancel the API has accepted
    notice: str  # a sentence to show as a toast
    deleted: str  # the ID of the job that was deleted
    start: SavedStart  # instead of a rerun, for which the visitor must type secret values


class HeaderAnswer(HeaderResult):
    """The result of the last click, with a number: the header takes each number once."""

    number: Required[int]


class SignInEvent(TypedDict, total=False):
    """A click on "Sign in"."""

    token: str
    keep: bool  # "Keep me signed in"


class SubmitEvent(TypedDict, total=False):
    """A click on Run in the run form."""

    values: dict[str, Any]  # field -> what was typed
    source: str  # the ID of the job that the form was filled from, or empty


class ParamFields(TypedDict):
    """A param in the form of a saved command."""

    name: str
    label: str
    default: str
    required: bool  # True: it has no default, whatever `default` contains
    choices: str  # one per line
    secret: NotRequired[bool]  # True: it has neither a default nor choices


class Origin(TypedDict, total=False):
    """What a form was filled from: a job or a saved command. Empty if it was neither."""

    job: str  # its ID
    saved: str  # its name


class NotifyForm(TypedDict):
    """Who is notified of the runs of a saved command, in its form."""

    rules: list[dict[str, Any]] | None  # as the API takes them
    warn_after: str  # a number of seconds, or empty
    warn_waiting: str
    ping: str  # a URL, or empty


class SavedForm(TypedDict):
    """The form of a saved command."""

    saved: str  # its name
    origin: Origin
    seen: str | None  # the ETag of the command to replace; "": none; None: replace any
    values: dict[str, str]  # field of the run form -> text
    params: list[ParamFields]
    cron: str
    zone: str
    paused: bool
    follower: str  # the saved command that starts after a run that has succeeded, or empty
    notify: NotifyForm


class SavedChange(TypedDict, total=False):
    """What the other dialogs of saved commands send."""

    name: str  # of the saved command
    values: dict[str, Any]  # param -> its value for one run
    paused: bool


class SchedulePreview(TypedDict):
    """The next times of a schedule."""

    times: list[str]  # RFC 3339
    wrong: dict[str, str]  # cron or zone -> error message


class SavedResult(TypedDict, total=False):
    """What came of a click in the saved commands. Empty if all went well and no job was made."""

    job: str  # the ID of the new job
    notice: str  # a sentence to show as a toast
    wrong: dict[str, str]  # field -> error message; of the whole dialog if the field is empty
    conflict: bool  # True if someone else has changed the saved command in the meantime


class SavedAnswer(SavedResult):
    """The result of the last click, with a number: the component takes each number once."""

    to: Required[str]  # run, save, pause or delete
    name: Required[str]  # of the saved command
    number: Required[int]


class UnconfirmedSubmit(TypedDict):
    """A submit that is not known to have reached the API."""

    digest: str  # of its path and its body, which can contain secret values
    key: str  # the Idempotency-Key that it was sent with


class Errand(TypedDict):
    """A request from static/errands.js, whose sender waits for the answer."""

    errand: str  # a name in ERRANDS
    number: int  # which the answer repeats
    q: NotRequired[str]
    status: NotRequired[str]
    queue: NotRequired[str]
    by: NotRequired[str]
    before: NotRequired[str]
    to: NotRequired[str]  # rerun, cancel or delete; or a URL or its name
    ids: NotRequired[list[str]]
    bulk: NotRequired[str | None]  # the name of an action on many jobs, from GET /bulk
    why: NotRequired[str]
    limit: NotRequired[str]  # of a queue, as typed
    urgent: NotRequired[bool]
    job: NotRequired[str]
    saved: NotRequired[str]
    cron: NotRequired[str]
    zone: NotRequired[str]
    sections: NotRequired[list[str]]  # of the home
    known: NotRequired[dict[str, str]]  # section -> the version that the browser has
    since: NotRequired[str]
    command: NotRequired[str]
    name: NotRequired[str]
    key: NotRequired[str]  # an Idempotency-Key, or one that only the page's server uses


class ErrorAnswer(TypedDict):
    """The answer to an errand that failed."""

    error: str
    busy: bool  # True if the API asks its clients to try again later
    may_pass: bool  # True if it makes sense to try again


class ChangeAnswer(TypedDict):
    """The answer to the errand `change`. The last three are present if it ended early."""

    tried: int  # of the jobs, from the first
    declined: list[str]  # why the API did not change a job, for each such job
    error: NotRequired[str]
    busy: NotRequired[bool]
    may_pass: NotRequired[bool]
