"""Who may do what."""

from __future__ import annotations

import hmac
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

from flask import Flask, Response, abort, current_app, g, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from tailboard.web.models import TicketRequest
from tailboard.web.operations import Access, match_operations
from tailboard.web.requests import has_body, json_body
from tailboard.web.state import state
from tailboard.web.tokens import NamedToken

TICKET_AGE = 600  # seconds
ANY_LOG = "*"  # what a ticket for all logs is for; no job has this ID
FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
READING = ("GET", "HEAD", "OPTIONS")
OTHER_SITES = ("cross-site", "same-site")  # in Sec-Fetch-Site: not the API's own origin
TICKET_SALT = "tailboard log ticket"


def visitor() -> str | None:
    """The name behind the request's token; None if it is the shared token, if no token was needed,
    or if this is a command and not a request."""
    named: NamedToken | None = g.get("named_token")
    return named.name if named else None


def guard(app: Flask) -> dict[str, Access]:
    """Make the application authorize each request before anything else happens. Call this after all
    routes are added. Returns the access that each endpoint declares, which AppState needs: so no
    API exists without authorization. ValueError unless routes and OPERATIONS agree."""
    access = match_operations(app)
    app.before_request(authorize)
    app.after_request(add_security_headers)
    return access


def authorize() -> None:
    """Refuse a request that lacks the access that its route declares. If no token is set, serve
    only programs of this machine. 401 and 403 come before every other answer, also before the 415
    for a body of another type."""
    refuse_other_sites()
    if required_access() is not Access.OPEN:
        if needs_token():
            require_token()
        else:
            require_this_machine()
    refuse_other_bodies()


def required_access() -> Access:
    """The access that the requested route declares. If no route serves the request, it needs the
    token, so that only clients with the token learn which paths exist. The exception is a method
    that an open path lacks: everybody gets its 405, as everybody may know that path."""
    declared = state().access
    if request.endpoint is not None:
        return declared.get(request.endpoint, Access.TOKEN)
    rules = [rule for rule in current_app.url_map.iter_rules() if rule.rule == request.path]
    if rules and all(declared.get(rule.endpoint) is Access.OPEN for rule in rules):
        return Access.OPEN
    return Access.TOKEN


def needs_token() -> bool:
    return bool(state().settings.token or state().settings.tokens)


def refuse_other_sites() -> None:
    """403 for a request that a page of another site makes the visitor's browser send: the browser
    may be on this machine, or hold a ticket. The dashboard's origins are allowed."""
    origin = request.headers.get("Origin")
    if is_dashboards(origin):
        return
    is_foreign = origin is not None and origin != request.host_url.rstrip("/")
    # Browsers do not always send Origin. Reading is allowed: a link to a log may stand anywhere.
    if request.method not in READING and request.headers.get("Sec-Fetch-Site") in OTHER_SITES:
        is_foreign = True
    if is_foreign:
        abort(403, "requests from another site's page are refused")


def is_dashboards(origin: str | None) -> bool:
    """Is this an origin of the dashboard's page? If no setting lists them, it is the origin in the
    request's ticket: the page's server names it, and no other site gets a ticket."""
    listed = state().origins
    if origin is None or listed:
        return origin in listed
    ticket = request_ticket()
    return ticket is not None and ticket.origin == origin


def require_token() -> None:
    """401 without the token that all share, a named one, or a ticket for what is asked."""
    shared, tokens = state().settings.token, state().tokens
    given = request.headers.get("Authorization", "").encode()
    is_shared = hmac.compare_digest(given, f"Bearer {shared}".encode()) and bool(shared)
    tokens.refresh()
    if given.startswith(b"Bearer "):
        g.named_token = tokens.find(given.removeprefix(b"Bearer "))
    if not is_shared and visitor() is None and request_ticket() is None:
        abort(401, "the token is missing or wrong")


def require_this_machine() -> None:
    """403 for other machines, for what a proxy forwards from them, and for a Host that another
    site's DNS points at this machine (DNS rebinding)."""
    if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:
        abort(403, "without TAILBOARD_TOKEN only this machine is served")
    if not LOOPBACK.fullmatch(request.headers.get("Host", "")):
        abort(403, "without TAILBOARD_TOKEN the Host must be localhost or 127.0.0.1")
    if any(name in request.headers for name in FORWARDING):
        abort(403, "without TAILBOARD_TOKEN no proxy may forward requests")


def refuse_other_bodies() -> None:
    """415 for a body that is not JSON; a request without a body needs no type."""
    if request.method in ("POST", "PUT") and has_body() and request.mimetype != "application/json":
        abort(415, "Content-Type must be application/json")
    if request.content_encoding not in (None, "", "identity"):
        abort(415, "a body with Content-Encoding is not supported")


class Ticket(NamedTuple):
    """What a ticket allows: to read a log, also from a page of this origin."""

    log: str  # a job's ID, or ANY_LOG
    origin: str | None = None


def request_ticket() -> Ticket | None:
    """The valid ticket of this request, if its route accepts tickets and reads the log that this
    one is for. A browser's EventSource and its download links cannot send headers."""
    if "ticket" not in g:
        g.ticket = None  # also for the headers of the 503 if the storage is away
        if required_access() is Access.TICKET_OR_TOKEN and request.args.get("ticket"):
            ticket = read_ticket(request.args["ticket"])
            job_id = (request.view_args or {}).get("job_id")
            g.ticket = ticket if ticket and ticket.log in (ANY_LOG, job_id) else None
    found: Ticket | None = g.ticket
    return found


def read_ticket(given: str) -> Ticket | None:
    """What a ticket allows; None if it is invalid, too old, or its token has been revoked."""
    tokens, secret = state().tokens, state().store.secret()
    tokens.refresh()
    keys = [ticket_key(secret, each) for each in tokens.known]
    if state().settings.token or not state().settings.tokens:
        keys.append(ticket_key(secret, None))
    with suppress(BadSignature):
        signer = URLSafeTimedSerializer(keys, salt=TICKET_SALT)
        match signer.loads(given, max_age=TICKET_AGE):
            case str(log):
                return Ticket(log)
            case [str(log), str(origin)]:
                return Ticket(log, origin)
    return None


def ticket_key(secret: bytes, named: NamedToken | None) -> bytes:
    """The key that signs the tickets of the owner of this token (None: of the shared one). They end
    when the token changes or is revoked. The store's secret is needed: anyone with a ticket could
    test guesses of the shared token against its signature, and a file of hashes need not be
    secret."""
    own = state().settings.token if named is None else named.sha256
    return secret + own.encode()


def make_ticket(log: str) -> tuple[dict[str, Any], int]:
    """A ticket for the log of this job, or for ANY_LOG; also for a page, if the body names its
    origin."""
    origin = TicketRequest.parse(json_body({})).origin
    key = ticket_key(state().store.secret(), g.get("named_token"))
    signer = URLSafeTimedSerializer(key, salt=TICKET_SALT)
    ticket = signer.dumps(log if origin is None else Ticket(log, origin))
    return {"ticket": ticket, "expires_in": TICKET_AGE}, 201


def add_security_headers(response: Response) -> Response:
    """No answer is a page, and only the dashboard's page may read one in a browser."""
    if response.status_code == 308:  # from /jobs//x to /jobs/x; werkzeug adds an HTML page
        response.data = b""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is not None and is_dashboards(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "*"
    return response
