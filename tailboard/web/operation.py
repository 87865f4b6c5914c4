"""What the API's table of operations, operations.py, says about each of them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from tailboard.access_role import Role
from tailboard.audit import Action
from tailboard.web.request_model import RequestModel


class Access(StrEnum):
    """The credentials that a request to a route needs if the settings have a token. Without a token
    in the settings, OPEN routes still serve everybody, and the others serve only programs on the
    API's own machine."""

    OPEN = "nobody is asked"  # anyone who can connect is served
    TICKET_OR_TOKEN = "ticket or token"  # a ticket for the job in the path, or for all logs
    ALL_LOGS = "ticket for all logs, or token"  # the response says something about other jobs
    TOKEN = "token"  # the shared one, a named one, or a session key made for one of them
    TOKEN_ITSELF = "token, not a session key"


class Operation(NamedTuple):
    """One method of one path."""

    access: Access
    role: Role  # the least role that may send it
    id: str  # names the function in generated clients
    tag: str  # one of TAGS in openapi.py
    summary: str
    answers: dict[str, str]  # status -> schemas of answer_schemas() or media types; "": no body
    description: str = ""
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    audit: Action | None = None  # of its line in the audit log; None: it only reads
    keyed: bool = False  # accepts an Idempotency-Key
    conditional: bool = False  # accepts If-Match and If-None-Match
    needs_body: bool = True  # False: `body` can be left out
    headers: Sequence[str] = ()  # of answers with a body, from ANSWER_HEADERS in openapi.py
    errors: tuple[int, ...] = ()  # in addition to those of openapi.error_statuses
