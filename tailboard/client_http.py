"""HTTP for the client of the API: one request, when it is repeated, and what can go wrong with it.

Imports only `requests` and the standard library."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import BadStatusLine, RemoteDisconnected
from ipaddress import ip_address
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import requests
from urllib3.exceptions import NewConnectionError

DEFAULT_URL = "http://127.0.0.1:5000"
CONNECT_TIME = 3.0  # seconds for a connection to one of the server's addresses
ANSWER_TIME = 10.0  # seconds without a byte until a request counts as unanswered
KEEPALIVE_TIME = 15.0  # the same for a response that takes long: the server sends a byte each 5 s
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries
TARGETS_PATH = "/notifications/targets"
PASSING = (502, 503, 504)  # statuses of a busy server, or of a proxy whose server is restarting

Json = dict[str, Any]


class ApiError(Exception):
    """Why a request failed: str(error) is the API's sentence.

    `status`: of the response; 0 if there was none. `problem`: the response's problem details
    (RFC 9457) with `title`, `status` and `detail`; empty if there are none. `is_repeated`: an
    earlier try of the same request may have been carried out, because its response was lost."""

    def __init__(self, detail: str, status: int = 0, problem: Mapping[str, Any] | None = None):
        super().__init__(detail)
        self.status = status
        self.problem = dict(problem or {})
        self.is_repeated = False

    @property
    def may_pass(self) -> bool:
        """Does it make sense to try again? Yes, if the server was busy or did not respond."""
        return self.status in PASSING

    @property
    def is_unclear(self) -> bool:
        """Is it unknown whether the server has done what the request asks for?"""
        return self.status in PASSING


class Unreachable(ApiError):
    """The server does not respond. `is_sent`: it may have received the request, and may have done
    what the request asks for."""

    def __init__(self, detail: str, is_sent: bool) -> None:
        super().__init__(detail)
        self.is_sent = is_sent

    @property
    def may_pass(self) -> bool:
        return True

    @property
    def is_unclear(self) -> bool:
        return self.is_sent


class HttpClient:
    """Sends requests to one server.

    A request that gets no response, or a 502, 503 or 504, is sent again with growing pauses, for
    `patience` seconds. This is done only if repeating the request cannot do anything twice.

    Use it in one thread at a time. It keeps connections open until it is closed."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = 30.0,
        session: requests.Session | None = None,
    ) -> None:
        """`url`: default TAILBOARD_API, or http://127.0.0.1:5000. `token`: default TAILBOARD_TOKEN;
        empty if the server needs none. `session`: for example with certificates."""
        self.url = (url or os.environ.get("TAILBOARD_API") or DEFAULT_URL).rstrip("/")
        self.patience = patience
        given = os.environ.get("TAILBOARD_TOKEN", "") if token is None else token
        self.session = session or requests.Session()
        self.session.auth = BearerToken(given)
        self.proxies = proxies_for(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def json(self, method: str, path: str, *fields: str, **options: Any) -> Json:
        """The JSON object with which the API responds. ApiError if it lacks one of `fields`. The
        options are those of `request`."""
        return self.json_of(self.request(method, path, **options), *fields)

    def json_of(self, answer: requests.Response, *fields: str) -> Json:
        """The JSON object in a response. ApiError if it lacks one of `fields`."""
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(name in found for name in fields):
            raise self.not_tailboard(answer)
        return found

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        is_long: bool = False,
        is_repeatable: bool = False,
        once: bool = False,
    ) -> requests.Response:
        """The API's response to a request for a path such as /jobs. Raises ApiError for a response
        that is not 2xx or 304, and Unreachable without a response.

        `query`: parameters; those that are None are left out. `key`: an Idempotency-Key. `stream`:
        the caller reads the body and closes the response. `is_long`: the response takes long, and
        the server sends white space meanwhile. `is_repeatable`: a POST that may be repeated without
        a key. `once`: send it only once."""
        sent = dict(headers or {})
        if key is not None:
            sent["Idempotency-Key"] = as_header(key)
        options = {"params": query, "json": body, "headers": sent, "stream": stream}
        is_safe = method != "POST" or key is not None or is_repeatable
        end = time.monotonic() + self.patience
        is_repeated = False
        for pause in pauses():
            try:
                timeout = self._timeout(end, stream or is_long)
                return self._send(method, self.url + path, timeout=timeout, **options)
            except ApiError as error:
                error.is_repeated = is_repeated
                is_repeated = is_repeated or error.is_unclear
                can_repeat = error.may_pass and (is_safe or not error.is_unclear)
                if once or not can_repeat or time.monotonic() + pause >= end:
                    raise
            time.sleep(pause)
        raise AssertionError("pauses() does not end")

    def _timeout(self, end: float, is_long: bool) -> tuple[float, float]:
        """Seconds to connect, and seconds without a byte, for a try that begins now. `end`, on the
        monotonic clock: when the patience is over."""
        left = max(0.1, end - time.monotonic())
        # A name can have an IPv6 and an IPv4 address, which are tried one after the other.
        connect = min(left / 2, CONNECT_TIME)
        return connect, KEEPALIVE_TIME if is_long else min(left, ANSWER_TIME)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        """The response to one try."""
        try:
            # A redirected POST would become a GET.
            answer = self.session.request(
                method, url, allow_redirects=False, proxies=self.proxies, **options
            )
        except (requests.RequestException, ValueError) as error:
            raise self.explain(error) from None
        if answer.ok and not answer.is_redirect:
            return answer
        with answer:
            raise self._redirection(answer) if answer.is_redirect else self._refusal(answer)

    def explain(self, error: Exception) -> ApiError:
        """The ApiError for an exception that `requests` has raised."""
        if isinstance(error, UnicodeError):
            return ApiError("the request contains text that is not valid Unicode")
        if isinstance(error, requests.exceptions.InvalidHeader):
            return ApiError("a token or an Idempotency-Key must be one line without spaces around")
        if isinstance(error, requests.exceptions.InvalidJSONError):
            return ApiError(f"the request cannot be sent as JSON: {error}")
        if isinstance(error, NOT_A_URL):
            return ApiError(f"{self.url} is not the URL of a server")
        if isinstance(error, requests.exceptions.SSLError):
            return ApiError(f"no secure connection to {self.url}: {ssl_reason(error)}")
        if isinstance(error, requests.exceptions.ProxyError):
            return Unreachable(f"cannot reach {self.url} through the proxy that is set", False)
        if is_not_http(error):
            return ApiError(f"the server at {self.url} is not Tailboard's API: it sends no HTTP")
        if may_have_arrived(error):
            return Unreachable(f"the server at {self.url} does not respond", True)
        return Unreachable(f"cannot connect to the server at {self.url}", False)

    def _redirection(self, answer: requests.Response) -> ApiError:
        """The error for a redirection, for example from http:// to https://."""
        place = urlsplit(urljoin(answer.url, answer.headers["Location"]))
        path = urlsplit(answer.url).path.removeprefix(urlsplit(self.url).path)
        if not place.path.endswith(path):  # to a form for signing in, perhaps
            return self.not_tailboard(answer)
        base = urlunsplit((place.scheme, place.netloc, place.path.removesuffix(path), "", ""))
        message = f"the server at {self.url} redirects to {base}: use that address"
        return ApiError(message, answer.status_code)

    def _refusal(self, answer: requests.Response) -> ApiError:
        """The error in a response that is not 2xx."""
        try:
            problem = answer.json()
            return ApiError(str(problem["detail"]), answer.status_code, problem)
        except (ValueError, KeyError, TypeError, requests.RequestException):
            return self.not_tailboard(answer)

    def not_tailboard(self, answer: requests.Response) -> ApiError:
        """The error for a response that is not the API's."""
        status = f"{answer.status_code} {answer.reason or ''}".strip()
        message = f"the server at {self.url} is not Tailboard's API: it responds with {status}"
        if answer.status_code in PASSING:
            message = f"the server at {self.url} is not available: {status}"
        return ApiError(message, answer.status_code)


class BearerToken(requests.auth.AuthBase):
    """Sends the token. Without an `auth`, requests would replace the header by a password from
    ~/.netrc."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            requests.utils.check_header_validity(("Authorization", self.token))
            request.headers["Authorization"] = as_header(f"Bearer {self.token}")
        return request


class Outage:
    """For a client that waits for a job: how long it tries to reach a server that has failed."""

    def __init__(self, limit: float, report: Callable[[ApiError], None] | None) -> None:
        """`limit`: seconds. `report`: is called once for each outage, after its second failure. The
        first one can be a lost connection, which is replaced at once."""
        self.limit, self.report = limit, report
        self.end()

    def end(self) -> None:
        """The server has responded."""
        self.began_at: float | None = None  # on the monotonic clock
        self.failures = 0
        self.pauses = pauses()

    def endure(self, error: ApiError) -> None:
        """Pause until the next try. Raises the error if another try makes no sense."""
        now = time.monotonic()
        self.began_at = now if self.began_at is None else self.began_at
        if not error.may_pass or now > self.began_at + self.limit:
            raise error
        self.failures += 1
        if self.failures == 2 and self.report is not None:
            self.report(error)
        time.sleep(next(self.pauses))


NOT_A_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
)


def may_have_arrived(error: Exception) -> bool:
    """Can the server have received the request that failed with this error of `requests`? Not if
    there was no connection."""
    is_unconnected = isinstance(getattr(cause_of(error), "reason", None), NewConnectionError)
    unsent = (requests.ConnectTimeout, requests.exceptions.ProxyError, *NOT_A_URL)
    return not is_unconnected and not isinstance(error, unsent)


def is_not_http(error: Exception) -> bool:
    """Has the server sent something else than HTTP, as one for SSH or Redis does?"""
    found = getattr(cause_of(error), "args", ())
    return any(
        isinstance(each, BadStatusLine) and not isinstance(each, RemoteDisconnected)
        for each in found
    )


def ssl_reason(error: Exception) -> str:
    """Why TLS failed, without the addresses of objects that surround it."""
    reason = getattr(cause_of(error), "reason", None) or error
    inner = cause_of(reason)
    code = getattr(inner, "reason", None)
    if code == "WRONG_VERSION_NUMBER":
        return "the server does not use TLS, so its URL begins with http://"
    return str(getattr(inner, "verify_message", None) or code or reason)


def cause_of(error: BaseException) -> object:
    """The error that an error of `requests` or urllib3 wraps."""
    return error.args[0] if error.args else None


def as_header(text: str) -> str:
    """The text for a header. A header is Latin-1, so these characters are its bytes in UTF-8."""
    return text.encode(errors="replace").decode("latin-1")


def proxies_for(url: str) -> dict[str, str]:
    """What `requests` needs so that no proxy of the environment is used for this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return {}
    return {"no_proxy": host} if is_this_machine(host) else {}


def is_this_machine(host: str) -> bool:
    """Is this host name or address the loopback of this machine?"""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def pauses() -> Iterator[float]:
    """The pauses between tries in seconds: each up to twice as long as the one before. They differ
    by chance, so that many clients of a restarted server do not return at the same moment."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(LONGEST_PAUSE, pause * random.uniform(1.5, 2))


def bulk_headers(bulk: str | None) -> dict[str, str]:
    """The header of a request that is part of the bulk action of this name, if it is one."""
    return {} if bulk is None else {"Tailboard-Bulk": bulk}


def job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '', errors='replace')}"


def saved_path(name: str) -> str:
    return f"/saved/{quote(name, '', errors='replace')}"


def queue_path(queue: str) -> str:
    return f"/queues/{quote(queue, '', errors='replace')}"


def target_path(name: str) -> str:
    return f"{TARGETS_PATH}/{quote(name, '', errors='replace')}"
