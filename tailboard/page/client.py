"""The client of the API: one request for one visitor, and what can go wrong with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import requests

from tailboard import client_http
from tailboard.page import settings
from tailboard.proxy_headers import ProxyUser

PATIENCE = 5.0  # seconds until the API counts as not answering
USER_AGENT = "tailboard-page"  # by which the API tells the page's requests from others
SKIPPED = "Tailboard-Skipped"  # header of an answer if the API queued nothing
NOT_SENT = "Not sent: the API isn't answering."
UNCONFIRMED = (
    "The API isn't answering, and may have received this. Try again: nothing is done twice."
)


class ApiError(Exception):
    """Why a request failed, as a sentence for the visitor."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status  # of the API's answer; 0 if there was none

    @property
    def may_pass(self) -> bool:
        """Does it make sense to try again? Yes, if the API did not answer or was busy."""
        return self.status in (0, 503)


class Unreachable(ApiError):
    """The API does not answer."""

    def __init__(self, is_sent: bool) -> None:
        """`is_sent`: the API may have received the request and changed something."""
        super().__init__(UNCONFIRMED if is_sent else f"{NOT_SENT} Try again.")


class Refused(ApiError):
    """The API refuses this visitor: 401 if it needs a token and got another one or none, 403 if it
    has no token and serves only programs of its own machine, or if it knows no role of the user
    whom a proxy has signed in."""


class Forbidden(ApiError):
    """The visitor's role does not allow this. The visitor stays signed in."""


class Visitor(NamedTuple):
    """The browser that has opened the page."""

    is_remote: bool  # False only if it is known to run on this machine
    address: str = ""  # empty if it is this machine or not known
    origin: str = ""  # of the page, as the browser has opened it
    user: ProxyUser | None = None  # if a proxy has signed the visitor in


class ApiClient:
    """Sends one visitor's requests to the API."""

    def __init__(
        self, token: str, visitor: Visitor, etag_cache: dict[str, requests.Response]
    ) -> None:
        # A proxy's user is never somebody else, whatever the browser has stored or sent.
        self.token = "" if visitor.user else token
        self.visitor = visitor
        self.etag_cache = etag_cache  # for each value of `keep`, the last answer

    @property
    def identity(self) -> str:
        """What the API knows the visitor by. Visitors who share it get the same answers."""
        return repr(self.visitor.user) if self.visitor.user else self.token

    def request(
        self,
        method: str,
        path: str,
        keep: str = "",
        body: Any = None,
        key: str = "",
        seen: str | None = None,
        is_long: bool = False,
        bulk: str | None = None,
    ) -> requests.Response:
        """The API's answer. Raises Refused or ApiError.

        With `keep`, a name, the answer is kept, and the API sends it again only if it has changed.
        `key` is an Idempotency-Key: the API does the same request with the same key only once.
        `seen` is the ETag of what the request replaces, or "" if it must replace nothing.
        `is_long`: the API may take long to answer, and sends white space meanwhile.
        `bulk` is the API's name for the action on many jobs to which the request belongs.
        """
        # The cache keeps only the last answer for each name. cachecontrol and requests-cache, tried
        # here, keep the answer to every search that was ever typed: 20 MiB after 200 searches.
        kept = self.etag_cache.get(keep)
        if kept is not None and kept.url != settings.API + path:
            kept = None
        headers = {"User-Agent": USER_AGENT, **condition_headers(seen)}
        headers |= client_http.bulk_headers(bulk)
        if kept is not None:
            headers["If-None-Match"] = kept.headers.get("ETag", "")
        answer = self._send(method, path, body, key, headers, is_long)
        if answer.status_code == 304 and kept is not None:
            return kept
        if keep:
            self.etag_cache[keep] = answer
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        key: str,
        headers: dict[str, str],
        is_long: bool,
    ) -> requests.Response:
        if self.visitor.is_remote:  # an API without a token refuses forwarded requests
            headers |= forwarding_headers(self.visitor.address)
        if self.visitor.user:
            for name, text in settings.PROXY.headers_of(self.visitor.user).items():
                headers[name] = client_http.as_header(text)
        try:
            with client_http.HttpClient(settings.API, self.token, patience=PATIENCE) as http:
                return http.request(
                    method,
                    path,
                    body=body,
                    key=key or None,
                    headers=headers,
                    is_long=is_long,
                    once=True,
                )
        except client_http.Unreachable as error:
            raise Unreachable(method != "GET" and error.is_sent) from None
        except client_http.ApiError as error:
            if not error.problem:  # from another program, perhaps a proxy
                raise ApiError(str(error)) from None
            raise refusal(error) from None

    def get_json(self, path: str, *names: str, keep: str = "") -> dict[str, Any]:
        """The JSON object that GET returns. Raises ApiError if it lacks one of `names`."""
        return parse_json(self.request("GET", path, keep), *names)

    def post_json(
        self, path: str, body: Any, *names: str, key: str = "", is_long: bool = False
    ) -> dict[str, Any]:
        """The JSON object that POST returns. Raises ApiError if it lacks one of `names`."""
        answer = self.request("POST", path, body=body, key=key, is_long=is_long)
        return parse_json(answer, *names)


def refusal(error: client_http.ApiError) -> ApiError:
    """The exception for an answer of the API that is an error. A 403 because of the visitor's role
    names that role; a visitor without any role cannot even see the page."""
    if error.status == 403 and error.problem.get("role"):
        return Forbidden(str(error), error.status)
    kind = Refused if error.status in (401, 403) else ApiError
    return kind(str(error), error.status)


def condition_headers(seen: str | None) -> dict[str, str]:
    """The headers for `seen` of `ApiClient.request`."""
    if seen is None:
        return {}
    return {"If-Match": seen} if seen else {"If-None-Match": "*"}


def describe_problem(error: ApiError) -> str:
    """Why a refresh failed. Unlike an action of the visitor, it is repeated by itself."""
    if isinstance(error, Unreachable):
        return f"Can't reach the API at {settings.API}. Retrying…"
    return f"{error} Retrying…" if error.may_pass else str(error)


def forwarding_headers(address: str) -> dict[str, str]:
    """The headers by which a proxy would report the visitor to the API."""
    if address:
        return {"X-Forwarded-For": client_http.as_header(address)}
    return {"Forwarded": "for=unknown"}


def parse_json(answer: requests.Response, *names: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises ApiError if it lacks one of `names`, or if an element of
    its `jobs` is not a job: then another program answers at the API's address."""
    try:
        found: dict[str, Any] = answer.json()
        if not all(job["id"] and job["status"] for job in found.get("jobs", ())):
            raise ValueError
        return {name: found[name] for name in names} | found
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ApiError(f"The server at {settings.API} is not the Tailboard API.") from None
