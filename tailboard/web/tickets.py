"""Tickets, with which a browser can read the logs, files and usage of jobs for a few minutes
without the token. EventSource and download links cannot send headers, so a ticket is a parameter of
the URL."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from flask import g
from itsdangerous import BadSignature, URLSafeTimedSerializer

from tailboard.proxy_headers import ProxyUser
from tailboard.web.models import TicketRequest
from tailboard.web.proxy_user import proxy_user
from tailboard.web.requests import json_body
from tailboard.web.state import state
from tailboard.web.tokens import NamedToken

TICKET_AGE = 600  # seconds
ANY_LOG = "*"  # instead of a job's ID: the ticket is for all logs
TICKET_SALT = "tailboard log ticket"
PROXY_TICKET_SALT = "tailboard log ticket of a proxy's user"


class Ticket(NamedTuple):
    """What a ticket allows: reading the log and the files of a job, also from a page of this
    origin."""

    log: str  # a job's ID, or ANY_LOG
    origin: str | None = None


def make_ticket(log: str) -> tuple[dict[str, Any], int]:
    """The response to a request for a ticket, which allows reading the log of this job, or any log
    (ANY_LOG). If the body names the origin of a page, that page can read the log as well."""
    origin = TicketRequest.parse(json_body({})).origin
    if known := proxy_user():
        ticket = make_proxy_ticket(Ticket(log, origin), known.user)
    else:
        ticket = make_token_ticket(Ticket(log, origin))
    return {"ticket": ticket, "expires_in": TICKET_AGE}, 201


def make_token_ticket(ticket: Ticket) -> str:
    key = ticket_key(state().store.secret(), g.get("named_token"))
    signer = URLSafeTimedSerializer(key, salt=TICKET_SALT)
    return str(signer.dumps(ticket.log if ticket.origin is None else ticket))


def make_proxy_ticket(ticket: Ticket, user: ProxyUser) -> str:
    """A ticket with the user's name and those of their groups that have a role, so that it can be
    found out later whether the user still has one."""
    groups = state().users.known.listed_groups(user.groups)
    return str(proxy_signer().dumps([*ticket, user.name, groups]))


def read_ticket(given: str) -> Ticket | None:
    """What a ticket allows; None if it is invalid or too old, or if its token has been revoked or
    its user no longer has a role."""
    return read_token_ticket(given) or read_proxy_ticket(given)


def read_token_ticket(given: str) -> Ticket | None:
    tokens, secret = state().tokens, state().store.secret()
    tokens.refresh()
    keys = [ticket_key(secret, each) for each in tokens.known]
    if state().settings.token or not state().needs_token:
        keys.append(ticket_key(secret, None))
    with suppress(BadSignature):
        signer = URLSafeTimedSerializer(keys, salt=TICKET_SALT)
        match signer.loads(given, max_age=TICKET_AGE):
            case str(log):
                return Ticket(log)
            case [str(log), str(origin)]:
                return Ticket(log, origin)
    return None


def read_proxy_ticket(given: str) -> Ticket | None:
    if not state().settings.proxy_secret:
        return None
    with suppress(BadSignature):
        match proxy_signer().loads(given, max_age=TICKET_AGE):
            case [str(log), str() | None as origin, str(name), [*groups]]:
                user = ProxyUser(name, tuple(map(str, groups)))
                state().users.refresh()
                if state().users.known.find(user) is not None:
                    return Ticket(log, origin)
    return None


def proxy_signer() -> URLSafeTimedSerializer:
    """Signs the tickets of the proxy's users. They become invalid when the proxy's secret changes.
    Its own salt keeps them apart from the tickets of tokens."""
    key = state().store.secret() + state().settings.proxy_secret.encode()
    return URLSafeTimedSerializer(key, salt=PROXY_TICKET_SALT)


def ticket_key(secret: bytes, named: NamedToken | None) -> bytes:
    """The key that signs the tickets of this token's owner (None: the shared token). The tickets
    become invalid when the token changes or is revoked. The key contains the store's secret:
    otherwise anyone with a ticket could test guesses of the shared token against its signature, and
    anyone who can read the file of hashes could sign tickets."""
    own = state().settings.token if named is None else named.sha256
    return secret + own.encode()
