"""Loads what the page shows from the API, in the form in which the page shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import requests
import streamlit as st

from tailboard.client_http import job_path
from tailboard.page import settings
from tailboard.page.client import SKIPPED, ApiClient, ApiError, parse_json
from tailboard.page.notices import load_noticed
from tailboard.page.rows import (
    FILTERS,
    count_slots,
    job_row,
    job_title,
    last_midnight,
    machines_summary,
    saved_row,
)
from tailboard.page.shapes import Filters, Job, Listing, LogTail, Me, NewJob, Totals, WantedLog

TAIL_LINES = 1000
TAIL_BYTES = 256 << 10  # of a log, to a browser that does not reach the API, at each refresh
LIST_LIMIT = 200  # jobs of one page
LIST_NAMES = ("jobs", "counts", "next", "skipped", "searched")  # of its fields
PREVIOUS_LIMIT = 20  # earlier runs of a job whose durations are shown
TICKET_PERIOD = 300  # seconds until the page gets another ticket; each is valid for 600
FAILURES_PERIOD = 5  # seconds
MOST_FAILURES = 50  # names in one answer of GET /attention
WORKERS_PERIOD = 10  # seconds
ME_PERIOD = 2  # seconds: the role can change while the page is open


def fetch_json(
    _client: ApiClient,
    identity: str,
    path: str,
    method: str = "GET",
    body: Job | None = None,
    period: Any = 0,
) -> dict[str, Any]:
    """The API's answer. `identity` and `period` only distinguish the answers that are cached."""
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
    """An answer that all visitors with the same identity share, for ten minutes or until `period`
    changes."""
    return cached_fetch()(client, client.identity, path, method, body, period)


# --- The list and what is beside it ---------------------------------------------------------------


def load_listing(client: ApiClient, filters: Filters) -> Listing:
    """The jobs that match the filters. The session keeps them, so they are rows: whole jobs would
    take a third more of its memory."""
    parameters = {name: filters[name] for name in FILTERS if filters.get(name)}
    answer = client.get_json(listing_path(parameters), *LIST_NAMES, keep="list")
    listing: Listing = {
        "rows": [job_row(job) for job in answer["jobs"]],
        "counts": answer["counts"],
        "next": answer["next"],
        "skipped": answer["skipped"],
        "searched": answer["searched"],
        "more": False,
        "all_counts": answer["counts"],
        "paused": answer.get("paused", []),
    }
    if any(parameters.get(name) for name in ("q", "queue", "by")):
        is_part = parameters.get("status") or parameters.get("before")
        searched = load_every_match(client, parameters) if is_part else answer
        listing["counts"] = dict(Counter(job["status"] for job in searched["jobs"]))
        listing["more"] = searched["next"] is not None
    return listing


def load_every_match(client: ApiClient, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The same search for jobs of any status, from the newest on, to count them all."""
    kept = ("queue", "by", "q")
    others = {name: text for name, text in parameters.items() if name in kept}
    return client.get_json(listing_path(others), "jobs", "next", keep="search")


def listing_path(parameters: Mapping[str, str]) -> str:
    return f"/jobs?{urlencode({'limit': LIST_LIMIT, **parameters})}"


def load_totals(client: ApiClient, listing: Listing, zone: str | None) -> Totals:
    """What the header shows beside the list that was just loaded. `zone` is the visitor's time
    zone; None: UTC."""
    counts = listing["all_counts"]
    found = load_workers(client, counts)
    return {
        "counts": counts,
        "paused": listing["paused"],
        "workers": found["workers"],
        "machines": machines_summary(found.get("machines", []), found.get("storage", {})),
        "slots": count_slots(found["workers"]),
        "failed_today": load_failed_today(client, counts, zone),
        "ticket": load_ticket(client),
        "noticed": load_noticed(client),
        "me": load_me(client),
    }


def load_me(client: ApiClient) -> Me:
    """Who the visitor is. The API is asked once every ME_PERIOD."""
    found = cached_request(client, "/me", period=time.time() // ME_PERIOD)
    is_by_proxy = client.visitor.user is not None
    return {
        "name": found.get("name") or "",
        "role": found.get("role") or "all",  # an API of an earlier version has no roles
        "signed_in": bool(client.token) or is_by_proxy,
        "by_proxy": is_by_proxy,
        "named": bool(found.get("named")) or is_by_proxy,
    }


def load_workers(client: ApiClient, counts: Mapping[str, int]) -> dict[str, Any]:
    """The answer of GET /workers: a new one if the number of running jobs has changed, and every
    WORKERS_PERIOD."""
    period = (time.time() // WORKERS_PERIOD, counts.get("running"))
    return cached_request(client, "/workers", period=period)


def load_failed_today(client: ApiClient, counts: Mapping[str, int], zone: str | None) -> str:
    """How many jobs have failed, timed out or were lost since the visitor's midnight: with a plus
    sign if there may be more, empty if there are none."""
    since = last_midnight(datetime.now(ZoneInfo(zone) if zone else UTC))
    ended = [counts.get(status) for status in ("failed", "timed_out", "lost")]
    period = (time.time() // FAILURES_PERIOD, ended)
    found = cached_request(client, f"/attention?since={since}", period=period)
    count = sum(failure["count"] for failure in found["failures"])
    is_part = not found["complete"] or len(found["failures"]) >= MOST_FAILURES
    return f"{count:,}{'+' if is_part else ''}" if count else ""


def load_ticket(client: ApiClient) -> str:
    """A ticket, with which the browser reads logs; empty if the API cannot make one now. A browser
    cannot send the token with a stream or a link. It may read the API's answers only if the ticket
    is for the page's origin."""
    period = time.time() // TICKET_PERIOD
    body = {"origin": client.visitor.origin} if client.visitor.origin else {}
    with suppress(ApiError):
        made = cached_request(client, "/ticket", "POST", body, period)
        return str(made["ticket"])
    return ""


# --- One job and its log --------------------------------------------------------------------------


def load_log(client: ApiClient, wanted: WantedLog) -> tuple[Job, LogTail | None]:
    """The job, and the end of its log if the browser does not get that by itself."""
    job = client.get_json(job_path(wanted["job"]), "id", "status")
    tail = load_tail(client, wanted["job"], wanted["stamped"]) if wanted["tail"] else None
    return job, tail


def load_tail(client: ApiClient, job_id: str, stamped: bool) -> LogTail:
    """The end of a log, for a browser that does not reach the API."""
    path = f"{job_path(job_id)}/logs?tail={TAIL_LINES}&timestamps={stamped:d}"
    answer = client.request("GET", path, keep="log")
    content = answer.content[-TAIL_BYTES:]
    following = next_offset(answer)
    lines = answer.headers.get("X-Log-Lines")
    return {
        "text": content.decode(errors="replace"),
        "offset": following - len(content),
        "next": following,
        "lines": int(lines) if lines else None,
        "stamped": stamped,
    }


def next_offset(answer: requests.Response) -> int:
    """The offset, in bytes, at which the log continues. Raises ApiError if a proxy has removed the
    header."""
    try:
        return int(answer.headers["X-Log-Next"])
    except (KeyError, ValueError):
        raise ApiError(
            f"The answer of {settings.API} lacks the header X-Log-Next, which a proxy must pass on."
        ) from None


def load_previous_runs(client: ApiClient, job: Job) -> list[Job]:
    """Earlier jobs with the same title that succeeded, oldest first."""
    title = job_title(job)
    parameters = {"status": "succeeded", "limit": 100, "before": job["id"], "q": title}
    listing = cached_request(client, f"/jobs?{urlencode(parameters)}")
    same = [job_row(other) for other in listing["jobs"] if job_title(other) == title]
    return same[:PREVIOUS_LIMIT][::-1]


def read_new_job(answer: requests.Response) -> NewJob:
    """The job in the answer to a submission. It is an older one if the API queued nothing, because
    that job has the key of the new one."""
    job = parse_json(answer, "id")
    new: NewJob = {"job": str(job["id"])}
    if SKIPPED in answer.headers:
        new["notice"] = f"Nothing was queued: {job_title(job)} has the key {job.get('key')}."
    return new


# --- Saved commands -------------------------------------------------------------------------------


def load_saved(client: ApiClient) -> list[Job]:
    """All saved commands, by name, each as the page shows it."""
    found = client.get_json("/saved", "saved", keep="saved")
    return [saved_row(command) for command in found["saved"]]
