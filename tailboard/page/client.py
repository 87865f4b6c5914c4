"""The API's client."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import requests
import streamlit as st

from tailboard.page import settings
from tailboard.page.rows import FILTERS, Job, count_on_day, job_row, job_title, saved_row

TIMEOUT = (2, 5)  # seconds to connect, to answer
TAIL_LINES = 1000
TAIL_BYTES = 256 << 10  # of a log, to a browser that does not reach the API, at each refresh
LIST_LIMIT = 200  # jobs of one page
SEARCH_LIMIT = 50  # lines of one part of a search of all logs
STEP_TIME = 1.0  # seconds of a change of many jobs until the visitor hears how far it is
PREVIOUS_LIMIT = 20  # earlier runs of a job whose durations are shown
TICKET_PERIOD = 300  # seconds until the page has another ticket; each is good for 600
WORKERS_PERIOD = 10  # seconds


class ApiError(Exception):
    """What went wrong, as a sentence for the visitor."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status  # of the API's answer; 0 if there was none

    @property
    def may_pass(self) -> bool:
        """Is it worth while to ask again: was there no answer, or was it another's turn?"""
        return self.status in (0, 503)


class Refused(ApiError):
    """The API lets nobody in who asks like this: 401 if it wants a token and this is not it, 403 if
    it has none."""


class Visitor(NamedTuple):
    """The browser that has opened the page."""

    is_remote: bool  # True unless it is known to run on this machine
    address: str = ""  # empty: of this machine, or not known
    origin: str = ""  # of the page, as the browser has opened it


class ApiClient:
    """The API, as one visitor may use it."""

    def __init__(
        self, token: str, visitor: Visitor, etag_cache: dict[str, requests.Response]
    ) -> None:
        self.token = token
        self.visitor = visitor
        self.etag_cache = etag_cache  # the last answer kept under each name

    def request(
        self, method: str, path: str, keep: str = "", body: Any = None, key: str = ""
    ) -> requests.Response:
        """The API's answer, or ApiError. One kept under a name is sent only if it has changed;
        what is asked again under a `key` is done once."""
        # Of each name the last answer alone: cachecontrol and requests-cache, tried here, keep the
        # answer to every search that was ever typed, 20 MiB after 200 of them.
        kept = self.etag_cache.get(keep)
        if kept is not None and kept.url != settings.API + path:
            kept = None
        answer = self._send(method, path, body, kept, key)
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
        self, method: str, path: str, body: Any, kept: requests.Response | None, key: str
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}".encode()}
        if key:
            headers["Idempotency-Key"] = key.encode()
        if kept is not None:
            headers["If-None-Match"] = kept.headers.get("ETag", "").encode()
        if self.visitor.is_remote:  # without a token of its own, the API refuses what is forwarded
            headers |= forwarding_headers(self.visitor.address)
        try:
            return requests.request(
                method, settings.API + path, json=body, headers=headers, timeout=TIMEOUT
            )
        except (requests.RequestException, ValueError):
            message = f"The API at {settings.API} does not answer. Trying again by itself."
            raise ApiError(message) from None

    def get_json(self, path: str, *names: str, keep: str = "") -> dict[str, Any]:
        return parse_json(self.request("GET", path, keep), *names)

    def post_json(self, path: str, body: Any, *names: str, key: str = "") -> dict[str, Any]:
        return parse_json(self.request("POST", path, body=body, key=key), *names)


def forwarding_headers(address: str) -> dict[str, bytes]:
    """The headers by which a proxy would report the visitor to the API."""
    if address:
        return {"X-Forwarded-For": address.encode()}
    return {"Forwarded": b"for=unknown"}


def parse_json(answer: requests.Response, *names: str) -> dict[str, Any]:
    """An answer's JSON object, which has these names; what is in `jobs` are jobs."""
    try:
        found: dict[str, Any] = answer.json()
        if not all(job["id"] and job["status"] for job in found.get("jobs", ())):
            raise ValueError
        return {name: found[name] for name in names} | found
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ApiError(f"What answers at {settings.API} is not Tailboard's API.") from None


def job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '')}"


def fetch_json(
    _client: ApiClient,
    token: str,
    path: str,
    method: str = "GET",
    body: Job | None = None,
    period: Any = 0,
) -> dict[str, Any]:
    """The API's answer. `token` and `period` only distinguish the answers that are cached."""
    return parse_json(_client.request(method, path, body=body))


@cache
def cached_fetch() -> Callable[..., dict[str, Any]]:
    """fetch_json with a cache for all visitors. It is made at the first visit, because Streamlit
    logs a warning if a cache is made before its server runs."""
    return st.cache_data(ttl=600, max_entries=1000, show_spinner=False)(fetch_json)


def cached_request(
    client: ApiClient,
    path: str,
    method: str = "GET",
    body: Job | None = None,
    period: Any = 0,
) -> dict[str, Any]:
    """An answer that all visitors with the same token share, for ten minutes or until `period`
    changes."""
    return cached_fetch()(client, client.token, path, method, body, period)


def load_listing(client: ApiClient, filters: Mapping[str, str]) -> dict[str, Any]:
    """The rows of the jobs that match, newest first, and how many there are of each status. A
    session keeps it, and whole jobs would take a third more of its memory."""
    parameters = {name: filters[name] for name in FILTERS if filters.get(name)}
    listing = client.get_json(listing_path(parameters), "jobs", "counts", "next", keep="list")
    kept = {name: listing[name] for name in ("counts", "next")}
    kept["rows"] = [job_row(job) for job in listing["jobs"]]
    if not parameters.get("q") and not parameters.get("queue"):
        return kept | {"more": False}
    searched = listing
    if parameters.get("status"):  # whose other matches are counted, too
        every = {name: text for name, text in parameters.items() if name != "status"}
        searched = client.get_json(listing_path(every), "jobs", "next", keep="search")
    counts = Counter(job["status"] for job in searched["jobs"])
    return kept | {"counts": dict(counts), "more": searched["next"] is not None}


def listing_path(parameters: Mapping[str, str]) -> str:
    return f"/jobs?{urlencode({'limit': LIST_LIMIT, **parameters})}"


def load_workers(client: ApiClient, counts: Mapping[str, int]) -> dict[str, Any]:
    """Who works: at once when they are more or less busy, else a few times a minute."""
    period = (time.time() // WORKERS_PERIOD, counts.get("running"))
    return cached_request(client, "/workers", period=period)


def load_failed_today(client: ApiClient, counts: Mapping[str, int], zone: str | None) -> str:
    """How many jobs have failed since the visitor's midnight; "100+" where there are more."""
    today = datetime.now(ZoneInfo(zone) if zone else UTC)
    period = (counts.get("failed"), today.date())
    listing = cached_request(client, "/jobs?status=failed&limit=100", period=period)
    count = count_on_day(listing["jobs"], today.date(), today)
    if count == len(listing["jobs"]) and listing["next"] is not None:
        return f"{count}+"
    return str(count) if count else ""


def load_ticket(client: ApiClient) -> str:
    """What lets a browser read logs; empty if the API cannot make it now. A browser cannot send the
    token with a stream or a link, and may read what the API sends only for the page's origin."""
    period = time.time() // TICKET_PERIOD
    body = {"origin": client.visitor.origin} if client.visitor.origin else {}
    with suppress(ApiError):
        made = cached_request(client, "/ticket", "POST", body, period)
        return str(made["ticket"])
    return ""


def load_previous_runs(client: ApiClient, job: Job) -> list[Job]:
    """Earlier jobs of the same name that succeeded, oldest first."""
    title = job_title(job)
    parameters = {"status": "succeeded", "limit": 100, "before": job["id"], "q": title}
    listing = cached_request(client, f"/jobs?{urlencode(parameters)}")
    same = [job_row(other) for other in listing["jobs"] if job_title(other) == title]
    return same[:PREVIOUS_LIMIT][::-1]


def load_tail(client: ApiClient, job_id: str, stamped: bool) -> dict[str, Any]:
    """The end of a log, for a browser that does not reach the API."""
    path = f"{job_path(job_id)}/logs?tail={TAIL_LINES}&timestamps={stamped:d}"
    answer = client.request("GET", path, keep="log")
    content = answer.content[-TAIL_BYTES:]
    following = int(answer.headers["X-Log-Next"])
    lines = answer.headers.get("X-Log-Lines")
    return {
        "text": content.decode(errors="replace"),
        "offset": following - len(content),
        "next": following,
        "lines": int(lines) if lines else None,
        "stamped": stamped,
    }


def load_search(client: ApiClient, errand: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a search of all logs; its `next` is the `before` of the part that follows."""
    path = query_path("/logs", errand, "q", "status", "queue", "before")
    return client.get_json(f"{path}&limit={SEARCH_LIMIT}", "hits", "next", "searched")


def load_chosen(client: ApiClient, errand: Mapping[str, Any]) -> dict[str, Any]:
    """Which jobs to run again, cancel or delete; nothing is done to them."""
    path = query_path("/bulk", errand, "to", "status", "queue", "q")
    return client.get_json(path, "ids", "left_out", "complete")


def change_some(client: ApiClient, errand: Mapping[str, Any]) -> dict[str, Any]:
    """Run again, cancel or delete some jobs, as many as STEP_TIME allows: how many were `tried`,
    and what the API said of those that it `declined`. `error` says why it ended early."""
    until = time.monotonic() + STEP_TIME
    result: dict[str, Any] = {"tried": 0, "declined": []}
    for job_id in errand["ids"]:
        try:
            change_one(client, errand["to"], job_id)
        except ApiError as error:
            if error.may_pass or isinstance(error, Refused):
                return result | describe_error(error)
            result["declined"].append(describe_declined(error, job_id))
        result["tried"] += 1
        if time.monotonic() > until:
            break
    return result


def describe_declined(error: ApiError, job_id: str) -> str:
    """Why a job was left as it is, in words that are the same for each."""
    if error.status == 404:
        return "it is gone"
    return str(error).replace(f"job {job_id}", "it")


def change_one(client: ApiClient, action: str, job_id: str) -> None:
    """The key is that of `flask rerun`, too: each of many jobs is run again once, also after a
    reload in the midst of it, and where two do it at a time."""
    if action == "delete":
        client.request("DELETE", job_path(job_id))
    elif action == "cancel":
        client.request("POST", f"{job_path(job_id)}/cancel", body={})
    else:
        client.request("POST", f"{job_path(job_id)}/rerun", body={}, key=f"rerun {job_id}")


def load_queues(client: ApiClient, _asked: Mapping[str, Any]) -> dict[str, Any]:
    return client.get_json("/queues", "queues")


def pause_queue(client: ApiClient, errand: Mapping[str, Any]) -> dict[str, Any]:
    body = {"why": errand["why"]} if errand["why"] else {}
    client.request("PUT", queue_path(errand), body=body)
    return load_queues(client, errand)


def resume_queue(client: ApiClient, errand: Mapping[str, Any]) -> dict[str, Any]:
    client.request("DELETE", queue_path(errand))
    return load_queues(client, errand)


def queue_path(errand: Mapping[str, Any]) -> str:
    return f"/queues/{quote(errand['queue'], '')}/pause"


def query_path(path: str, parameters: Mapping[str, Any], *names: str) -> str:
    """A path with those of some names that have a value."""
    return f"{path}?{urlencode({name: parameters[name] for name in names if parameters.get(name)})}"


def describe_error(error: ApiError) -> dict[str, Any]:
    return {"error": str(error), "busy": error.status == 503, "may_pass": error.may_pass}


ERRANDS: dict[str, Callable[[ApiClient, Mapping[str, Any]], dict[str, Any]]] = {
    "search": load_search,
    "choose": load_chosen,
    "change": change_some,
    "queues": load_queues,
    "pause": pause_queue,
    "resume": resume_queue,
}


def saved_path(name: str) -> str:
    return f"/saved/{quote(name, '')}"


def load_saved(client: ApiClient) -> list[Job]:
    """All saved commands, by name, each as the page shows it."""
    found = client.get_json("/saved", "saved", keep="saved")
    return [saved_row(command) for command in found["saved"]]
