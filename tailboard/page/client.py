"""The client of the API: one request for one visitor, and what can go wrong with it."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import requests
from urllib3.exceptions import NewConnectionError

from tailboard.page import settings

TIMEOUT = (2, 5)  # seconds to connect, to answer
USER_AGENT = "tailboard-page"  # by which the API tells the page's requests from others
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
    has no token and serves only programs of its own machine."""


class Visitor(NamedTuple):
    """The browser that has opened the page."""

    is_remote: bool  # False only if it is known to run on this machine
    address: str = ""  # empty if it is this machine or not known
    origin: str = ""  # of the page, as the browser has opened it


class ApiClient:
    """Sends one visitor's requests to the API."""

    def __init__(
        self, token: str, visitor: Visitor, etag_cache: dict[str, requests.Response]
    ) -> None:
        self.token = token
        self.visitor = visitor
        self.etag_cache = etag_cache  # for each value of `keep`, the last answer

    def request(
        self,
        method: str,
        path: str,
        keep: str = "",
        body: Any = None,
        key: str = "",
        seen: str | None = None,
    ) -> requests.Response:
        """The API's answer. Raises Refused or ApiError.

        With `keep`, a name, the answer is kept, and the API sends it again only if it has changed.
        `key` is an Idempotency-Key: the API does the same request with the same key only once.
        `seen` is the ETag of what the request replaces, or "" if it must replace nothing.
        """
        # The cache keeps only the last answer for each name. cachecontrol and requests-cache, tried
        # here, keep the answer to every search that was ever typed: 20 MiB after 200 searches.
        kept = self.etag_cache.get(keep)
        if kept is not None and kept.url != settings.API + path:
            kept = None
        answer = self._send(method, path, body, kept, condition_headers(key, seen))
        if answer.status_code == 304 and kept is not None:
            return kept
        if answer.status_code in (401, 403):
            raise Refused(parse_json(answer, "detail")["detail"], answer.status_code)
        if not answer.ok:
            raise ApiError(parse_json(answer, "detail")["detail"], answer.status_code)
        if keep:
            self.etag_cache[keep] = answer
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        kept: requests.Response | None,
        conditions: dict[str, bytes],
    ) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {self.token}".encode(),
            "User-Agent": USER_AGENT.encode(),
            **conditions,
        }
        if kept is not None:
            headers["If-None-Match"] = kept.headers.get("ETag", "").encode()
        if self.visitor.is_remote:  # an API without a token refuses forwarded requests
            headers |= forwarding_headers(self.visitor.address)
        try:
            return requests.request(
                method, settings.API + path, json=body, headers=headers, timeout=TIMEOUT
            )
        except (requests.RequestException, ValueError) as error:
            raise Unreachable(method != "GET" and may_have_arrived(error)) from None

    def get_json(self, path: str, *names: str, keep: str = "") -> dict[str, Any]:
        """The JSON object that GET returns. Raises ApiError if it lacks one of `names`."""
        return parse_json(self.request("GET", path, keep), *names)

    def post_json(self, path: str, body: Any, *names: str, key: str = "") -> dict[str, Any]:
        """The JSON object that POST returns. Raises ApiError if it lacks one of `names`."""
        return parse_json(self.request("POST", path, body=body, key=key), *names)


def condition_headers(key: str, seen: str | None) -> dict[str, bytes]:
    """The headers for `key` and `seen` of `ApiClient.request`."""
    headers = {}
    if key:
        headers["Idempotency-Key"] = key.encode()
    if seen:
        headers["If-Match"] = seen.encode()
    elif seen is not None:
        headers["If-None-Match"] = b"*"
    return headers


def may_have_arrived(error: Exception) -> bool:
    """Can the API have received the request that failed with this error? Not if there was no
    connection."""
    cause = error.args[0] if error.args else None
    is_unconnected = isinstance(getattr(cause, "reason", None), NewConnectionError)
    is_late = isinstance(error, requests.ConnectTimeout)
    return not (is_unconnected or is_late or isinstance(error, requests.exceptions.InvalidURL))


def describe_problem(error: ApiError) -> str:
    """Why a refresh failed. Unlike an action of the visitor, it is repeated by itself."""
    if isinstance(error, Unreachable):
        return f"Can't reach the API at {settings.API}. Retrying…"
    return f"{error} Retrying…" if error.may_pass else str(error)


def forwarding_headers(address: str) -> dict[str, bytes]:
    """The headers by which a proxy would report the visitor to the API."""
    if address:
        return {"X-Forwarded-For": address.encode()}
    return {"Forwarded": b"for=unknown"}


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


def job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '')}"


def saved_path(name: str) -> str:
    return f"/saved/{quote(name, '')}"
