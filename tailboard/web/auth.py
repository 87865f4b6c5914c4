"""Which requests are served: authentication, and protection against other sites."""

from __future__ import annotations

import hmac
import re
from ipaddress import ip_address

from flask import Flask, Response, abort, current_app, g, request

from tailboard.access_role import Role
from tailboard.job import Job
from tailboard.sessions import is_session_key
from tailboard.web.operation import Access
from tailboard.web.problems import RoleMissing
from tailboard.web.proxy_user import identify_proxy_user, is_sent_by_proxy, proxy_user
from tailboard.web.requests import has_body
from tailboard.web.route_match import Requirement, match_operations
from tailboard.web.sign_in import find_session
from tailboard.web.state import state
from tailboard.web.tickets import ANY_LOG, Ticket, read_ticket
from tailboard.web.tokens import NamedToken

PROXY_HEADERS = (
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-Ip",
)
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TICKET_ACCESS = (Access.TICKET_OR_TOKEN, Access.ALL_LOGS)
PAGE_AGENT = "tailboard-page"  # the User-Agent of tailboard/page/client.py
OTHER_SITES = ("cross-site", "same-site")  # in Sec-Fetch-Site: not the API's own origin
NAVIGATION_TARGETS = ("document", "empty")  # in Sec-Fetch-Dest; frames have other ones
# A route that no entry of OPERATIONS describes, and a path that no route serves.
UNDECLARED = Requirement(Access.TOKEN, Role.ALL)
UNKNOWN_PATH = Requirement(Access.TOKEN, Role.READ)
# The key in the WSGI environ of a request that a command sends in its own process. No HTTP client
# can set it: a server puts headers there as HTTP_*.
COMMAND_USER = "tailboard.user"


def visitor() -> str | None:
    """The name of the user whom the proxy names, the name behind the request's token, or the user
    of the command that sent the request. None if it is the shared token, or if no token was
    needed."""
    if known := proxy_user():
        return known.user.name
    named: NamedToken | None = g.get("named_token")
    return named.name if named else command_user()


def visitor_role() -> Role:
    """The role of the request's visitor. It is `read` if the request has only a ticket, or needs no
    access at all."""
    role: Role = g.get("role", Role.READ)
    return role


def command_user() -> str | None:
    """The user of the command that sent this request in its own process; None if the request came
    over HTTP. The command can read the storage anyway, so it needs no token."""
    user = request.environ.get(COMMAND_USER)
    return user if isinstance(user, str) and user else None


def cancel_reason() -> str:
    """The reason of a job that this request cancels."""
    if name := visitor():
        return f"cancelled by {name}"
    is_page = request.user_agent.string == PAGE_AGENT
    return "cancelled from the page" if is_page else "cancelled through the API"


def guard(app: Flask) -> dict[str, Requirement]:
    """Make the application authorize each request before anything else happens. Call this after all
    routes are added. Returns what each endpoint requires, which AppState needs: so no API exists
    without authorization. ValueError unless routes and OPERATIONS agree."""
    access = match_operations(app)
    app.before_request(authorize)
    app.after_request(add_security_headers)
    return access


def authorize() -> None:
    """Refuse a request that lacks the access or the role that its route declares. Commands in this
    process need neither. A 401 or 403 takes precedence over every other response, including the
    415 for a body of another type."""
    refuse_other_sites()
    if command_user() is not None:
        g.role = Role.ALL
    else:
        identify_proxy_user()
        if requirement().access is not Access.OPEN:
            g.role = identify_visitor()
            require_role(requirement().role)
    refuse_other_bodies()


def identify_visitor() -> Role:
    """The role of the request's visitor; 401 or 403 if they are unknown. If the settings name no
    token and no proxy, only programs on this machine are served. The user whom a proxy names counts
    more than a token, since the proxy may send one on that it was meant to check itself."""
    if known := proxy_user():
        if known.role is None:
            message = f"{known.user.name} has no role: a line in TAILBOARD_USERS must give one"
            raise RoleMissing(message, requirement().role, None)
        return known.role
    if needs_token():
        return require_token()
    require_this_machine()
    return Role.ALL


def require_role(needed: Role, why: str = "") -> None:
    """403 unless the visitor has this role. `why` follows the role in the message."""
    role, known = visitor_role(), proxy_user()
    if not role.includes(needed):
        whose = known.user.name if known else "this token"
        message = f"this needs the role {needed}{why}; {whose} has the role {role}"
        raise RoleMissing(message, needed, role)


def require_role_for(job: Job) -> None:
    """403 if the visitor must not cancel or rerun this job: with the role `run`, only jobs that
    came from a saved command."""
    if job.saved is None:
        require_role(Role.ALL, f", because job {job.id} did not come from a saved command")


def requirement() -> Requirement:
    """What the requested route requires. If no route serves the request, it needs the token, so
    that only clients with the token learn which paths exist. The exception is a method that an open
    path does not have: everybody gets its 405, since the path is no secret. OPTIONS changes
    nothing, whatever the route."""
    declared = state().access
    if request.endpoint is not None:
        found = declared.get(request.endpoint, UNDECLARED)
        return found._replace(role=Role.READ) if request.method == "OPTIONS" else found
    rules = [rule for rule in current_app.url_map.iter_rules() if rule.rule == request.path]
    paths = [declared.get(rule.endpoint, UNDECLARED) for rule in rules]
    if paths and all(each.access is Access.OPEN for each in paths):
        return paths[0]
    return UNKNOWN_PATH


def needs_token() -> bool:
    """Must a request that the proxy names no user for have a token?"""
    return state().needs_token


def refuse_other_sites() -> None:
    """403 for a request that a page of another site makes a visitor's browser send: the browser may
    run on this machine, have a ticket, or have a cookie of the proxy. The dashboard's origins are
    allowed."""
    origin = request.headers.get("Origin")
    if is_dashboard_origin(origin):
        return
    is_foreign = origin is not None and origin != request.host_url.rstrip("/")
    # Browsers do not always send Origin.
    if request.headers.get("Sec-Fetch-Site") in OTHER_SITES and not is_harmless_read():
        is_foreign = True
    if is_foreign:
        abort(403, "requests from another site's page are refused")


def is_harmless_read() -> bool:
    """Can another site's page make a browser send this request without learning anything? Any page
    can link to a log. But what a page embeds must not be what a proxy's user can read."""
    if request.method not in SAFE_METHODS:
        return False
    is_navigation = (
        request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") in NAVIGATION_TARGETS
    )
    return is_navigation or not is_sent_by_proxy()


def is_dashboard_origin(origin: str | None) -> bool:
    """Is this an origin of the dashboard's page? If no setting lists them, the request's ticket
    names it: the page's server asks for the ticket, and no other site can get one."""
    listed = state().origins
    if origin is None or listed:
        return origin in listed
    ticket = request_ticket()
    return ticket is not None and ticket.origin == origin


def require_token() -> Role:
    """The role of the request's shared token, named token, session key or ticket; 401 without one
    for this request. Remembers the named token for `visitor`, and the session."""
    shared, tokens = state().settings.token, state().tokens
    given = request.headers.get("Authorization", "").encode()
    is_shared = hmac.compare_digest(given, f"Bearer {shared}".encode()) and bool(shared)
    tokens.refresh()
    token = given.removeprefix(b"Bearer ") if given.startswith(b"Bearer ") else b""
    named = tokens.find(token) if token else None
    if not is_shared and named is None:
        g.session, named = find_session(token)
        if g.session is not None:
            refuse_session_key()
        elif request_ticket() is not None:
            return Role.READ
        else:
            is_key = is_session_key(token)
            abort(401, "the session has ended" if is_key else "the token is missing or wrong")
    g.named_token = named
    return named.role if named else Role.ALL


def refuse_session_key() -> None:
    """403 if the route needs the token itself: a stolen session key must not make others."""
    if requirement().access is Access.TOKEN_ITSELF:
        abort(403, "a session key cannot start a session: send the token")


def require_this_machine() -> None:
    """403 for other machines, for requests that a proxy forwards, and for a Host name of another
    site that its DNS points at this machine (DNS rebinding)."""
    if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:
        abort(403, "without TAILBOARD_TOKEN only programs on this machine are served")
    if not LOOPBACK.fullmatch(request.headers.get("Host", "")):
        abort(403, "without TAILBOARD_TOKEN the Host header must be localhost or 127.0.0.1")
    if any(name in request.headers for name in PROXY_HEADERS):
        abort(403, "without TAILBOARD_TOKEN no proxy may forward requests")


def refuse_other_bodies() -> None:
    """415 for a body that is not JSON; a request without a body needs no type."""
    if request.method in ("POST", "PUT") and has_body() and request.mimetype != "application/json":
        abort(415, "Content-Type must be application/json")
    if request.content_encoding not in (None, "", "identity"):
        abort(415, "a body with Content-Encoding is not supported")


def request_ticket() -> Ticket | None:
    """The valid ticket of this request, if its route accepts tickets and reads a log that the
    ticket is for."""
    if "ticket" not in g:
        g.ticket = None  # also for the headers of the 503 if the storage is unreachable
        logs = [ANY_LOG]
        if requirement().access is Access.TICKET_OR_TOKEN:
            logs.append((request.view_args or {}).get("job_id", ANY_LOG))
        if requirement().access in TICKET_ACCESS and request.args.get("ticket"):
            ticket = read_ticket(request.args["ticket"])
            g.ticket = ticket if ticket and ticket.log in logs else None
    found: Ticket | None = g.ticket
    return found


def add_security_headers(response: Response) -> Response:
    """Keep browsers from showing a response as a page, and let only the dashboard's page read
    it."""
    if response.status_code == 308:  # from /jobs//x to /jobs/x; werkzeug adds an HTML page
        response.data = b""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    # The files of jobs have a stricter one.
    policy = "default-src 'none'; frame-ancestors 'none'"
    response.headers.setdefault("Content-Security-Policy", policy)
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is not None and is_dashboard_origin(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "*"
    return response
