"""The page: run a job, watch its log, see what ran when. `streamlit run dashboard.py`

It knows the API's address and nothing else of ours. Two fragments, which timers in the browser
rerun: the list's goes on, the log's stops once the job shown has ended. A third does errands, which
need the visitor's token. What is drawn is drawn by the modules in static/, which also fetch and
follow logs themselves, by a ticket for reading logs.
In this file: asking the API, what decides (no Streamlit there), the components, the page, and the
server that refuses other sites' pages.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from uuid import uuid4
from zoneinfo import ZoneInfo

import requests
import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.logger import get_logger

log = get_logger(__name__)

URL = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?", re.ASCII)
# As browsers send it: no path, no capitals, no default port.
ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)


def url_setting(name: str, default: str) -> str:
    """The URL in this variable; an invalid one prevents the start."""
    text = os.environ.get(name) or default
    if not URL.fullmatch(text):
        sys.exit(f"{name} must be a URL like {default}, not {text!r:.200}")
    return text.rstrip("/")


def origins_setting(name: str) -> list[str]:
    """The origins in this variable, with commas between them; others end the start."""
    text = os.environ.get(name)
    origins = [part.strip().removesuffix("/") for part in text.split(",")] if text else []
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            sys.exit(
                f"{name} must be origins as browsers send them, like https://page.example.org "
                f"or http://localhost:8501, with commas between them, not {origin!r:.80}"
            )
    return origins


API = url_setting("TAILBOARD_API", "http://127.0.0.1:5000")
PUBLIC_API = url_setting("TAILBOARD_PUBLIC_API", API)  # as the browser reaches it
# Of the page, besides the address that it is served at.
LISTED_ORIGINS = origins_setting("TAILBOARD_DASHBOARD")
TIMEOUT = (2, 5)  # seconds to connect, to answer
TAIL_LINES = 1000
TAIL_BYTES = 256 << 10  # of a log, to a browser that does not reach the API, at each refresh
LIST_LIMIT = 200  # jobs of one page
MOST_CHANGES = 20  # rows and IDs that are sent beside a list before it is sent anew
SEARCH_LIMIT = 50  # lines of one part of a search of all logs
STEP_TIME = 1.0  # seconds of a change of many jobs until the visitor hears how far it is
PREVIOUS_LIMIT = 20  # earlier runs of a job whose durations are shown
TICKET_PERIOD = 300  # seconds until the page has another ticket; each is good for 600
WORKERS_PERIOD = 10  # seconds
INTERVALS = {"off": None, "1 s": 1, "5 s": 5, "10 s": 10}  # seconds between refreshes
DEFAULT_INTERVAL = "5 s"


STATUSES = {
    "queued": {"icon": "◌", "colour": "#64748b"},
    "running": {"icon": "▶", "colour": "#2563eb"},
    "succeeded": {"icon": "✓", "colour": "#15803d"},
    "failed": {"icon": "✕", "colour": "#c81e2b"},
    "cancelled": {"icon": "⊘", "colour": "#92600a"},
    "timed_out": {"icon": "!", "colour": "#b4480a"},
    "lost": {"icon": "?", "colour": "#7c3aed"},
}
Job = dict[str, Any]  # as the API sends it
FILTERS = ("status", "queue", "q", "before")
ROW_FIELDS = (
    *("id", "status", "queue", "submitted_at", "started_at", "finished_at"),
    *("exit_code", "reason", "hint", "attempt", "retries", "worker", "not_before"),
)
FORM_FIELDS = (
    *("command", "name", "cwd", "timeout", "env", "retries", "retry_delay"),
    *("not_before", "queue"),
)
FORM_NUMBERS: dict[str, tuple[type, str]] = {
    "timeout": (float, "The timeout must be a number of seconds."),
    "retries": (int, "Retries must be a whole number."),
    "retry_delay": (float, "The delay must be a number of seconds."),
}
SAVED_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
SAVED_NAMES = (
    "The name must be 1 to 64 of the characters a-z 0-9 _ - . with a letter or digit first."
)
SAVED_FIELDS = ("cron", "zone", "params")  # of the dialog that saves, as the API calls them
JOB_FIELDS = ("command", "name", "queue", "cwd", "env", "timeout", "retries", "retry_delay")
LISTED_TEXT = 2000  # characters of a saved command's line that the page is sent
LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)


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
        if kept is not None and kept.url != API + path:
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
            return requests.request(method, API + path, json=body, headers=headers, timeout=TIMEOUT)
        except (requests.RequestException, ValueError):
            message = f"The API at {API} does not answer. Trying again by itself."
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
        raise ApiError(f"What answers at {API} is not Tailboard's API.") from None


def job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '')}"


def cache_answers(function: Callable[..., Job]) -> Callable[..., Job]:
    """Cache for all visitors. The server and tests import this file and cache nothing; for them
    Streamlit would log a warning."""
    if __name__ != "__main__":
        return function
    return st.cache_data(ttl=600, max_entries=1000, show_spinner=False)(function)


@cache_answers
def cached_request(
    _client: ApiClient,
    token: str,
    path: str,
    method: str = "GET",
    body: Job | None = None,
    period: Any = 0,
) -> dict[str, Any]:
    """An answer that all with this token share, for ten minutes or until `period` is another."""
    return parse_json(_client.request(method, path, body=body))


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
    return cached_request(client, client.token, "/workers", period=period)


def load_failed_today(client: ApiClient, counts: Mapping[str, int], zone: str | None) -> str:
    """How many jobs have failed since the visitor's midnight; "100+" where there are more."""
    today = datetime.now(ZoneInfo(zone) if zone else UTC)
    period = (counts.get("failed"), today.date())
    listing = cached_request(client, client.token, "/jobs?status=failed&limit=100", period=period)
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
        made = cached_request(client, client.token, "/ticket", "POST", body, period)
        return str(made["ticket"])
    return ""


def load_previous_runs(client: ApiClient, job: Job) -> list[Job]:
    """Earlier jobs of the same name that succeeded, oldest first."""
    title = job_title(job)
    parameters = {"status": "succeeded", "limit": 100, "before": job["id"], "q": title}
    listing = cached_request(client, client.token, f"/jobs?{urlencode(parameters)}")
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


def locate_visitor(headers: Mapping[str, str], peer: str | None) -> Visitor:
    """The visitor whose browser has sent these headers. `peer` is the address that it has connected
    from, or that a proxy on this machine reports; None: this machine."""
    address = "" if peer is None else remote_address(peer)
    forwarded = "Forwarded" in headers or "X-Forwarded-For" in headers
    is_local = bool(LOCAL_HOST.fullmatch(headers.get("Host", ""))) and not forwarded and not address
    return Visitor(not is_local, address, headers.get("Origin", ""))


def remote_address(text: str) -> str:
    """The IP address in this text; empty if it is not one, or is a loopback address."""
    with suppress(ValueError):
        address = ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        return "" if address.is_loopback else str(address)
    return ""


def is_ended(job: Job | None) -> bool:
    return job is not None and job["status"] not in ("queued", "running")


def log_interval(chosen: str, job: Job | None, error: str) -> float | None:
    """Seconds between refreshes of the log; None once its job has ended, unless something is
    wrong, or no job is shown."""
    if job is None and not error:
        return None
    return None if is_ended(job) and not error else INTERVALS[chosen]


def command_text(job: Job) -> str:
    """A command as one would type it."""
    command = job.get("command") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def job_title(job: Job) -> str:
    """What a job is called: its name, else the first line of its command."""
    first_line = command_text(job).strip().partition("\n")[0][:200]
    return str(job.get("name") or first_line or job["id"])


def job_row(job: Job) -> Job:
    """What the list shows of a job: little, because every visitor gets 200 of them."""
    return {name: job.get(name) for name in ROW_FIELDS} | {"title": job_title(job)}


def list_changes(rows: Iterable[Job], sent: Iterable[Job]) -> dict[str, Any]:
    """What makes these rows of those that were sent before: rows that are new or other, and the IDs
    of those that are gone."""
    before = {row["id"]: row for row in sent}
    rows = list(rows)
    changed = [row for row in rows if before.get(row["id"]) != row]
    gone = before.keys() - {row["id"] for row in rows}
    return {"rows": changed, "gone": sorted(gone)}


def is_list_to_send(
    changes: Mapping[str, Any], filters: Mapping[str, str], sent: Mapping[str, Any]
) -> bool:
    """Is the list to be sent anew, rather than what has changed since it was?"""
    many = len(changes["rows"]) + len(changes["gone"]) > MOST_CHANGES
    return many or filters != sent["filters"]


def job_details(job: Job) -> Job:
    """What the log pane shows of a job. Values of its environment stay here."""
    hidden = ("env", "command")
    shown = {name: value for name, value in job.items() if name not in hidden}
    texts = {"title": job_title(job), "command_text": command_text(job)}
    return shown | texts | {"env_names": sorted(job.get("env") or {})}


def form_values(job: Job) -> dict[str, str]:
    """The form filled from a job."""
    env = job.get("env") or {}
    values = {
        "command": command_text(job),
        "env": "\n".join(f"{name}={text}" for name, text in env.items()),
        "timeout": format_number(job.get("timeout")),
        "retries": format_number(job.get("retries") or 0),
        "retry_delay": format_number(job.get("retry_delay") or 0),
    }
    texts = {name: job.get(name) or "" for name in ("name", "cwd", "queue")}
    return values | texts


def format_number(number: float | None) -> str:
    return "" if number is None else f"{number:g}"


def parse_form(values: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """The form's values as the body of POST /jobs, and what is wrong: field -> sentence."""
    given = {name: str(values.get(name, "")) for name in FORM_FIELDS}
    wrong: dict[str, str] = {}
    if not given["command"].strip():
        wrong["command"] = "There is no command yet."
    env, env_error = parse_environment(given["env"])
    if env_error:
        wrong["env"] = env_error
    body: Job = {"env": env}
    texts = ("command", "name", "cwd", "not_before", "queue")
    body |= {name: given[name] for name in texts if given[name]}
    for name, (kind, sentence) in FORM_NUMBERS.items():
        try:
            body |= {name: kind(given[name])} if given[name] else {}
        except ValueError:
            wrong[name] = sentence
    return body, wrong


def parse_environment(text: str) -> tuple[dict[str, str], str]:
    """Lines of NAME=value as a mapping, and a sentence where a line is none."""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(name and equals for name, equals, _ in pairs):
        return {}, "Each line must be NAME=value."
    return {name: value for name, _, value in pairs}, ""


def is_same_job(body: Job, job: Job) -> bool:
    """Does a filled form ask for what this job was? Then the new one is known as its rerun."""
    return parse_form(form_values(job))[0] == body


def form_errors(error: ApiError) -> dict[str, str]:
    """The API's sentence, at the field that it begins with."""
    name = str(error).partition(" ")[0]
    return {name if name in FORM_FIELDS else "": str(error)}


def count_on_day(jobs: Iterable[Job], day: date, now: datetime) -> int:
    """How many of some jobs ended on a day, in the zone of `now`."""
    ends = [datetime.fromisoformat(job["finished_at"]) for job in jobs if job.get("finished_at")]
    return sum(end.astimezone(now.tzinfo).date() == day for end in ends)


def count_slots(workers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    workers = list(workers)
    return {
        "busy": sum(worker["running"] for worker in workers),
        "all": sum(worker["slots"] for worker in workers),
    }


def machines_summary(machines: list[dict[str, Any]], storage: Mapping[str, Any]) -> str:
    """The machines that share their jobs, in a line each: how busy they are, when a silent one was
    last heard of, and the memory of Redis. Empty where one folder holds all."""
    if not machines:
        return ""
    lines = []
    for machine in machines:
        line = f"{machine['spool']}: {machine['running']} of {machine['slots']} slots busy"
        if machine["state"] == "unreachable":
            line += f", unreachable, last heard of at {machine['heard_at']}"
        lines.append(line)
    limit = f" of {storage['max_bytes'] >> 20} MiB" if storage["max_bytes"] else ""
    lines.append(f"Redis uses {storage['used_bytes'] >> 20} MiB{limit}")
    if storage.get("rolled_back_at"):
        lines.append(f"Redis returned to an older state at {storage['rolled_back_at']}")
    return "\n".join(lines)


def saved_path(name: str) -> str:
    return f"/saved/{quote(name, '')}"


def load_saved(client: ApiClient) -> list[Job]:
    """All saved commands, by name, each as the page shows it."""
    found = client.get_json("/saved", "saved", keep="saved")
    return [saved_row(command) for command in found["saved"]]


def saved_row(command: Job) -> Job:
    """What the page shows of a saved command, cut to what it needs: there may be hundreds."""
    names = ("saved", "params", "cron", "zone", "paused", "next_run", "skipped")
    run_names = ("id", "status", "submitted_at", "started_at", "finished_at")
    runs = [{name: run.get(name) for name in run_names} for run in command.get("runs", ())]
    text = command_text(command)
    if len(text) > LISTED_TEXT:
        text = f"{text[:LISTED_TEXT]}…"
    return {name: command.get(name) for name in names} | {"command_text": text, "runs": runs}


def command_of_job(job: Job, changes: Mapping[str, Any]) -> Job:
    """The body of PUT /saved/NAME that keeps what a job ran. A variable that is asked for at each
    run leaves its environment, and its value there is the default where none was typed."""
    body = {name: job.get(name) for name in JOB_FIELDS if job.get(name) is not None}
    if body.get("name") == job.get("saved"):
        body.pop("name", None)  # it was called after the saved command that it came from
    env = dict(job.get("env") or {})
    params = []
    for param in changes.get("params", ()):
        known = env.pop(param["name"], None)
        params.append({"name": param["name"], "default": param["default"] or known})
    return body | times_of(changes) | {"env": env, "params": params}


def changed_command(command: Job, change: Mapping[str, Any]) -> Job:
    """The body of PUT /saved/NAME that changes its times, or defaults of its params."""
    defaults = change.get("defaults", {})
    params = [
        param | {"default": defaults.get(param["name"], param["default"])}
        for param in command["params"]
    ]
    return command | times_of(change) | {"params": params}


def times_of(changes: Mapping[str, Any]) -> Job:
    return {name: changes[name] for name in ("cron", "zone", "paused") if name in changes}


def saved_form_errors(error: ApiError, fields: Iterable[str]) -> dict[str, str]:
    """The API's sentence, at the field that it begins with."""
    name = str(error).partition(" ")[0].rstrip(":")
    return {name if name in fields else "": str(error)}


STATIC = Path(__file__).with_name("static")


def read_static(name: str) -> str:
    return (STATIC / name).read_text()


def static_files() -> list[str]:
    """All that the page is made of, by its path below static/."""
    found = [path for path in STATIC.rglob("*") if path.is_file()]
    return sorted(path.relative_to(STATIC).as_posix() for path in found)


def is_fetched_anew(name: str) -> bool:
    """Does the loader fetch this file anew on a new version, before anything imports it? For the
    others it has other ways, and Streamlit takes some 8 ms for each file."""
    return name.endswith((".js", ".json")) and name != "loader.js"


def static_version(names: Iterable[str]) -> str:
    """Another text whenever one of the files is another."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{read_static(name)}\0".encode())
    return digest.hexdigest()[:16]


def component_script(name: str, files: list[str], version: str) -> str:
    """The script that loads a component from static/, and never some old and some new files."""
    imported = [file for file in files if is_fetched_anew(file)]
    constants = {"NAME": name, "FILES": imported, "VERSION": version}
    lines = [f"const {key} = {json.dumps(value)};" for key, value in constants.items()]
    return "\n".join([*lines, read_static("loader.js")])


def make_component(name: str, files: list[str], version: str) -> Callable[..., Any]:
    script = component_script(name, files, version)
    component: Callable[..., Any] = st.components.v2.component(name, js=script)
    return component


files = static_files()
version = static_version(files)
page_header = make_component("page_header", files, version)
job_list = make_component("job_list", files, version)
log_pane = make_component("log_pane", files, version)
errands = make_component("errands", files, version)
saved_commands = make_component("saved_commands", files, version)


def set_up_session() -> None:
    state = st.session_state
    state.setdefault("token", "")
    state.setdefault("refused", 0)  # the API's 401 or 403
    state.setdefault("etag_cache", {})
    state.setdefault("listing", {"rows": [], "counts": {}, "next": None, "more": False})
    state.setdefault("sent_list", {"number": "", "filters": None, "rows": []})
    state.setdefault("answer", None)  # to the last thing that the visitor wanted
    state.setdefault("saved", None)  # the saved commands, since somebody has looked at them
    state.setdefault("saved_error", "")
    state.setdefault("saved_answer", None)  # to the last thing that was wanted of one
    state.setdefault("shown_job", None)  # the job whose log is shown, as last heard
    state.setdefault("shown_error", "")
    state.setdefault("unsure", {})  # the last submit, while it is not known to have arrived
    state.setdefault("told", {})  # what came of the last errand
    state.setdefault("revealed", {})  # values of a job's environment that were asked for


def api_client() -> ApiClient:
    """The API, as whoever sits before this browser may use it."""
    state = st.session_state
    visitor = locate_visitor(st.context.headers, st.context.ip_address)
    return ApiClient(state["token"], visitor, state["etag_cache"])


def component_state(component: str, name: str, fallback: Any) -> Any:
    """What a component has set, or sent with the event that is being handled."""
    value = st.session_state.get(component, {}).get(name)
    return fallback if value is None else value


def chosen_interval() -> str:
    chosen = component_state("page_header", "interval", DEFAULT_INTERVAL)
    return chosen if chosen in INTERVALS else DEFAULT_INTERVAL


def chosen_filters() -> dict[str, str]:
    address = {name: st.query_params.get(name, "") for name in FILTERS}
    found: dict[str, str] = component_state("job_list", "filters", address)
    return found


def wanted_log() -> dict[str, Any]:
    address = {"job": st.query_params.get("job", ""), "tail": False, "stamped": False}
    found: dict[str, Any] = component_state("log_pane", "wanted", address)
    return found


def submit_form() -> None:
    """Submit what the form holds; or keep it and say what is wrong."""
    sent = component_state("page_header", "submit", {})
    body, wrong = parse_form(sent.get("values", {}))
    if wrong:
        set_answer(wrong=wrong)
        return
    try:
        set_answer(job=submit_job(api_client(), body, sent.get("source", "")), submitted=True)
    except ApiError as error:
        set_answer(wrong=form_errors(error))


def set_answer(**answer: Any) -> None:
    """Tell the header, which takes each answer once, by its number."""
    last = st.session_state["answer"]
    st.session_state["answer"] = answer | {"number": last["number"] + 1 if last else 1}


def submit_job(client: ApiClient, body: Job, source: str) -> str:
    """The ID of the new job, which is a rerun where the form was filled and not changed."""
    if source and is_same_job(body, client.get_json(job_path(source), "id")):
        return rerun_job(client, source)
    return post_once(client, "/jobs", body)


def rerun_job(client: ApiClient, job_id: str) -> str:
    return post_once(client, f"{job_path(job_id)}/rerun", {})


def post_once(client: ApiClient, path: str, body: Job) -> str:
    """The ID of the new job. Until it is known to have arrived, whoever asks for the same again
    does so under the same key, so that a slow API and a second click make one job."""
    submission = {"path": path, "body": body}
    unsure = st.session_state["unsure"]
    if unsure.get("asked") != submission:
        unsure = {"asked": submission, "key": uuid4().hex}
    st.session_state["unsure"] = unsure
    job_id = str(client.post_json(path, body, "id", key=unsure["key"])["id"])
    st.session_state["unsure"] = {}
    return job_id


def on_rerun() -> None:
    try:
        set_answer(job=rerun_job(api_client(), component_state("page_header", "rerun", "")))
    except ApiError as error:
        set_answer(notice=str(error))


def on_edit() -> None:
    """Fill the form from a job, to be changed."""
    job_id = component_state("page_header", "edit", "")
    try:
        values = form_values(api_client().get_json(job_path(job_id), "id", "command"))
        set_answer(edit=values, source=job_id)
    except ApiError as error:
        set_answer(notice=str(error))


def on_cancel() -> None:
    change("POST", f"{job_path(component_state('page_header', 'cancel', ''))}/cancel")


def on_delete() -> None:
    change("DELETE", job_path(component_state("page_header", "delete", "")))


def change(method: str, path: str) -> None:
    try:
        api_client().request(method, path, body={})
    except ApiError as error:
        set_answer(notice=str(error))


def on_saved_run() -> None:
    """Run a saved command with the values that stand in its fields."""
    event = component_state("saved_commands", "run", {})
    name, values = str(event.get("name", "")), event.get("values", {})
    try:
        job_id = post_once(api_client(), f"{saved_path(name)}/run", values)
        answer_saved("run", name, job=job_id)
    except ApiError as error:
        fields = [param["name"] for param in params_of(name)]
        answer_saved("run", name, wrong=saved_form_errors(error, fields))


def params_of(name: str) -> list[Job]:
    """The params of a saved command that the page shows."""
    shown = st.session_state["saved"] or []
    return [param for command in shown if command["saved"] == name for param in command["params"]]


def on_saved_save() -> None:
    """Keep what a job ran under a name."""
    event = component_state("saved_commands", "save", {})
    name = str(event.get("name", ""))
    if not SAVED_NAME.fullmatch(name):
        answer_saved("save", name, wrong={"name": SAVED_NAMES})
        return
    try:
        client = api_client()
        job = client.get_json(job_path(event.get("job", "")), "id", "command")
        client.request("PUT", saved_path(name), body=command_of_job(job, event))
        answer_saved("save", name)
    except ApiError as error:
        answer_saved("save", name, wrong=saved_form_errors(error, SAVED_FIELDS))


def on_saved_change() -> None:
    change_saved("change", component_state("saved_commands", "change", {}), SAVED_FIELDS)


def on_saved_pause() -> None:
    change_saved("pause", component_state("saved_commands", "pause", {}), ())


def change_saved(to: str, changes: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Change the times of a saved command, or defaults of its params; all else of it stays."""
    name = str(changes.get("name", ""))
    try:
        client = api_client()
        command = client.get_json(saved_path(name), "saved", "params")
        client.request("PUT", saved_path(name), body=changed_command(command, changes))
        answer_saved(to, name)
    except ApiError as error:
        answer_saved(to, name, wrong=saved_form_errors(error, fields))


def on_saved_delete() -> None:
    name = str(component_state("saved_commands", "delete", ""))
    try:
        api_client().request("DELETE", saved_path(name))
        answer_saved("delete", name)
    except ApiError as error:
        answer_saved("delete", name, wrong={"": str(error)})


def answer_saved(to: str, name: str, **answer: Any) -> None:
    """Tell the component of the saved commands, which takes each answer once, by its number."""
    last = st.session_state["saved_answer"]
    number = last["number"] + 1 if last else 1
    st.session_state["saved_answer"] = answer | {"to": to, "name": name, "number": number}


def on_reveal() -> None:
    """Show one value of the environment of the job shown."""
    job_id = wanted_log()["job"]
    name = component_state("log_pane", "reveal", "")
    with suppress(ApiError):
        job = api_client().get_json(job_path(job_id), "env")
        values = st.session_state["revealed"].get(job_id, {})
        st.session_state["revealed"] = {job_id: values | {name: job["env"].get(name, "")}}


def on_ask() -> None:
    """Do an errand, and tell what came of it, or why nothing did."""
    errand = component_state("errands", "ask", {})
    try:
        result = ERRANDS[errand["errand"]](api_client(), errand)
    except ApiError as error:
        result = describe_error(error)
    st.session_state["told"] = result | {"number": errand["number"]}


def refresh_only() -> None:
    """The event says that something has changed: the fragment's rerun is the answer."""


def show_list(every: float | None) -> None:
    """The header and the list, which a timer draws again and again."""
    state = st.session_state
    client, filters = api_client(), chosen_filters()
    problem = ""
    try:
        state["listing"] = load_listing(client, filters)
    except Refused as error:
        ask_for_token(error)
    except ApiError as error:
        problem = str(error)
    show_header(client, problem, what_changed(state["listing"], filters))
    sent = state["sent_list"]
    data = {"number": sent["number"], "rows": sent["rows"]}
    job_list(key="job_list", data=data, on_filters_change=refresh_only)
    show_saved(client, problem)
    if INTERVALS[chosen_interval()] != every:
        st.rerun()


def what_changed(listing: Mapping[str, Any], filters: dict[str, str]) -> dict[str, Any]:
    """How the list differs from the one that the job list has been given, which is another where
    too much differs. Since that one, and not since the last refresh: so it does not matter whether
    a browser has missed some. What is given again unchanged Streamlit does not send again."""
    state = st.session_state
    rows = listing["rows"]
    changes = list_changes(rows, state["sent_list"]["rows"])
    if is_list_to_send(changes, filters, state["sent_list"]):
        state["sent_list"] = {"number": uuid4().hex, "filters": filters, "rows": rows}
        changes = list_changes(rows, rows)
    totals = {name: listing[name] for name in ("next", "counts", "more")}
    return changes | totals | {"since": state["sent_list"]["number"], "filters": filters}


def show_header(client: ApiClient, problem: str, changes: dict[str, Any]) -> None:
    """The header; its data is another at each refresh, and so tells that there was one. It brings
    what has changed in the list, too."""
    state = st.session_state
    data = {
        "statuses": STATUSES,
        "problem": problem,
        "refreshed": time.time(),
        "api": PUBLIC_API,
        "intervals": list(INTERVALS),
        "interval": chosen_interval(),
        "answer": state["answer"],
        "changes": changes,
    }
    page_header(
        key="page_header",
        data=data | load_totals(client, problem),
        on_submit_change=submit_form,
        on_rerun_change=on_rerun,
        on_edit_change=on_edit,
        on_cancel_change=on_cancel,
        on_delete_change=on_delete,
        on_refresh_change=refresh_only,
        on_interval_change=refresh_only,
    )


def show_saved(client: ApiClient, problem: str) -> None:
    """The saved commands, which are asked for while somebody looks at them."""
    state = st.session_state
    is_wanted = component_state("saved_commands", "wanted", "saved" in st.query_params)
    if is_wanted and not problem:
        try:
            state["saved"], state["saved_error"] = load_saved(client), ""
        except ApiError as error:
            state["saved_error"] = str(error)
    saved_commands(
        key="saved_commands",
        data={
            "wanted": is_wanted,
            "commands": state["saved"],
            "error": state["saved_error"],
            "answer": state["saved_answer"],
        },
        on_wanted_change=refresh_only,
        on_run_change=on_saved_run,
        on_save_change=on_saved_save,
        on_change_change=on_saved_change,
        on_pause_change=on_saved_pause,
        on_delete_change=on_saved_delete,
    )


def load_totals(client: ApiClient, problem: str) -> dict[str, Any]:
    """How many jobs and workers there are, and the ticket; as last heard while the API is away."""
    state = st.session_state
    if not problem:
        with suppress(ApiError):
            counts = state["etag_cache"]["list"].json()["counts"]
            found = load_workers(client, counts)
            state["totals"] = {
                "counts": counts,
                "paused": state["etag_cache"]["list"].json().get("paused", []),
                "workers": found["workers"],
                "machines": machines_summary(found.get("machines", []), found.get("storage", {})),
                "slots": count_slots(found["workers"]),
                "failed_today": load_failed_today(client, counts, st.context.timezone),
                "ticket": load_ticket(client),
            }
    nothing = {"counts": {}, "workers": [], "machines": "", "failed_today": "", "ticket": ""}
    nothing |= {"paused": [], "slots": count_slots([])}
    totals: dict[str, Any] = state.get("totals", nothing)
    return totals


def show_log(every: float | None) -> None:
    """The pane with a log, which a timer draws again until its job has ended."""
    state = st.session_state
    wanted = wanted_log()
    data: dict[str, Any] = {"id": wanted["job"], "wanted": wanted, "job": None, "tail": None}
    state["shown_job"], state["shown_error"], previous = None, "", []
    if wanted["job"]:
        try:
            state["shown_job"], data["tail"] = load_log(api_client(), wanted)
            previous = load_previous_runs(api_client(), state["shown_job"])
        except ApiError as error:
            state["shown_error"] = str(error)
    if state["shown_job"]:
        data["job"] = job_details(state["shown_job"])
    data |= {"past": previous, "error": state["shown_error"], "every": INTERVALS[chosen_interval()]}
    data["revealed"] = state["revealed"].get(wanted["job"], {})
    log_pane(
        key="log_pane",
        data=data,
        on_wanted_change=refresh_only,
        on_ended_change=refresh_only,
        on_reveal_change=on_reveal,
    )
    if shown_interval() != every:
        st.rerun()


def show_errands() -> None:
    """What the browser asks for and waits for, in a fragment of its own: its answers may be large,
    and are sent once."""
    errands(key="errands", data=st.session_state["told"], on_ask_change=on_ask)


def load_log(client: ApiClient, wanted: Mapping[str, Any]) -> tuple[Job, dict[str, Any] | None]:
    """The job, and the end of its log where the browser does not get that by itself."""
    job = client.get_json(job_path(wanted["job"]), "id", "status")
    tail = load_tail(client, wanted["job"], wanted["stamped"]) if wanted["tail"] else None
    return job, tail


def shown_interval() -> float | None:
    state = st.session_state
    return log_interval(chosen_interval(), state["shown_job"], state["shown_error"])


def ask_for_token(error: Refused) -> None:
    st.session_state["refused"] = error.status
    st.rerun()


def show_token_form() -> None:
    """Ask for the token, and show nothing else."""
    state = st.session_state
    with st.container(key="token"):
        if state["refused"] == 403:
            st.error(
                "This page is open to other machines only with a token: "
                "set TAILBOARD_TOKEN or TAILBOARD_TOKENS."
            )
        elif state["token"]:
            st.error("That is not the token.")
        with st.form("door"):
            token = st.text_input("Token", type="password")
            if st.form_submit_button("Open"):
                state["token"], state["refused"] = token, 0
                st.rerun()


def main() -> None:
    st.set_page_config("Tailboard", "📋", layout="wide")
    st.html(f"<style>{read_static('page.css')}</style>")
    set_up_session()
    if st.session_state["refused"]:
        show_token_form()
        return
    list_interval = INTERVALS[chosen_interval()]
    st.fragment(show_list, run_every=list_interval)(list_interval)
    interval = shown_interval()
    st.fragment(show_log, run_every=interval)(interval)
    st.fragment(show_errands)()


class OriginGuard:
    """ASGI middleware: refuses requests from other sites' pages with 403, before Streamlit sees
    them, and forbids every site to show the page in a frame.

    Streamlit accepts a WebSocket from any loopback origin, whatever its port. So a page of a
    development server, of a notebook or behind `ssh -L` could run commands. A request without an
    Origin is accepted: browsers send one with each WebSocket, and any other program could send the
    right one, or ask the API itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        origin = headers.get("Origin")
        if origin in LISTED_ORIGINS:
            # Streamlit compares the two, and a proxy may have sent its own address as Host.
            headers["Host"] = origin.partition("://")[2]
        elif origin is not None and not is_own_origin(origin, headers.get("Host"), scope["scheme"]):
            log.warning(
                "Refused a page of %.200r: neither the address that was asked, %.200r, nor in"
                " TAILBOARD_DASHBOARD",
                origin,
                headers.get("Host"),
            )
            refusal = PlainTextResponse("requests from another site's page are refused\n", 403)
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, forbid_frames(send))


def is_own_origin(origin: str, host: str | None, scheme: str) -> bool:
    """Is this the origin of a page that this server has sent, as the request's Host names it?"""
    if scheme in ("https", "wss"):
        return origin == f"https://{host}"
    return origin in (f"http://{host}", f"https://{host}")  # https: a proxy may not report its TLS


def forbid_frames(send: Send) -> Send:
    """Each HTTP response gets the headers that keep the page out of frames: a site that frames it
    could make a visitor click on Run."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Frame-Options"] = "DENY"
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        await send(message)

    return send_with_headers


if __name__ == "__main__":
    main()  # Streamlit runs this file for each visit
else:
    # `streamlit run` finds this name in the source, imports the file once and serves what it holds.
    app = st.App(__file__, middleware=[Middleware(OriginGuard)])
