"""The client of the API, for programs in Python. It needs only the package `requests`.

    from tailboard.client import Client

    client = Client("https://ci.example.org", token="…")  # or TAILBOARD_API and TAILBOARD_TOKEN
    job = client.submit("make test", name="tests")
    for line in client.follow(job["id"]):
        print(line)
    print(client.job(job["id"])["exit_code"])

Jobs, saved commands and queues are the JSON objects of the API, as dicts; /openapi.json describes
their fields. Every method raises ApiError. The commands of `tailboard` use this client, too.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests
from urllib3.exceptions import NewConnectionError

DEFAULT_URL = "http://127.0.0.1:5000"
CONNECT_TIME = 3.0  # seconds for a connection
ANSWER_TIME = 10.0  # seconds without a byte until a request counts as unanswered
WAIT_TIME = 60  # seconds: the longest wait of one request
KEEPALIVE_TIME = 15.0  # seconds without a byte until a stream counts as broken; it has 5 s pings
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries
FINISHED = ("succeeded", "failed", "cancelled", "timed_out", "lost")

Json = dict[str, Any]


class ApiError(Exception):
    """Why a request failed: str(error) is the API's sentence.

    `status`: of the response; 0 if there was none. `problem`: the response's problem details
    (RFC 9457) with `title`, `status` and `detail`; empty if there are none. `is_repeated`: an
    earlier try of the same request got no response, or a 503, so it may have been carried out."""

    def __init__(self, detail: str, status: int = 0, problem: Mapping[str, Any] | None = None):
        super().__init__(detail)
        self.status = status
        self.problem = dict(problem or {})
        self.is_repeated = False


class Unreachable(ApiError):
    """The server does not respond. `is_sent`: it may have received the request, and may have done
    what the request asks for."""

    def __init__(self, detail: str, is_sent: bool) -> None:
        super().__init__(detail)
        self.is_sent = is_sent


class Client:
    """Sends requests to one server.

    A request that gets no response, or a 503, is sent again with growing pauses, for `patience`
    seconds. This is done only if repeating the request cannot do anything twice: `submit`, `rerun`
    and `run_saved` send an Idempotency-Key, for which the server submits one job."""

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

    # --- Jobs ---

    def submit(
        self, command: str | Sequence[str], *, key: str | None = None, **options: Any
    ) -> Json:
        """Submit a job and return it. `command`: a shell command line, or a program with its
        arguments. `options`: the fields of POST /jobs, such as name, queue, cwd, env, timeout,
        retries, not_before. `key`: an Idempotency-Key; calls with the same key submit one job."""
        body = {"command": command if isinstance(command, str) else list(command)}
        body |= {name: value for name, value in options.items() if value is not None}
        return self.json("POST", "/jobs", body=body, key=key or new_key())

    def job(self, job_id: str) -> Json:
        """A job with its attempts. ApiError with status 404 if it does not exist."""
        return self.json("GET", job_path(job_id))

    def jobs(self, *, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """The jobs that match, newest first, at most `limit`. `filters`: the parameters of GET
        /jobs, such as status, queue, q (a text), since, by. `env` and attempts are left out."""
        count = 0
        before = None
        while limit is None or count < limit:
            page_size = 500 if limit is None else min(500, limit - count)
            query = {**filters, "limit": page_size, "before": before}
            page = self.json("GET", "/jobs", query=query)
            yield from page["jobs"]
            count += len(page["jobs"])
            before = page["next"]
            if before is None:
                return

    def wait(self, job_id: str, timeout: float | None = None) -> Json:
        """Wait until the job has ended, and return it. After `timeout` seconds, return it as it is
        then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_TIME if end is None else max(0, min(WAIT_TIME, end - time.monotonic()))
            job = self.json("GET", job_path(job_id), query={"wait": round(left)})
            is_over = end is not None and time.monotonic() >= end
            if job["status"] in FINISHED or is_over:
                return job

    def cancel(self, job_id: str) -> Json:
        """Cancel a queued or running job, and return it; its worker then ends a running one.
        ApiError with status 409 if the job has ended."""
        return self.json("POST", f"{job_path(job_id)}/cancel")

    def rerun(self, job_id: str, *, key: str | None = None) -> Json:
        """Submit a job like this one, and return the new job."""
        return self.json("POST", f"{job_path(job_id)}/rerun", key=key or new_key())

    def delete(self, job_id: str) -> None:
        """Delete a job that has ended, with its log."""
        self._delete(job_path(job_id))

    def bulk(self, action: str, **filters: Any) -> Json:
        """The jobs to which an action on many jobs applies: `ids`, in the order in which to act on
        them, and `left_out`, how many were already rerun. `action`: rerun, cancel or delete.
        `filters`: status, queue, q, since, by. This changes no job."""
        return self.json("GET", "/bulk", query={**filters, "to": action, "all": 1})

    # --- Logs ---

    def logs(self, job_id: str, *, tail: int = 1_000, since: str | None = None) -> str:
        """The end of a job's log: the last `tail` lines, or what was written `since` then (30s, 5m
        or a timestamp). At most 4 MiB; `stream` returns logs of any size."""
        query = {"since": since, "limit_bytes": 4 << 20} if since else {"tail": tail}
        answer = self.request("GET", f"{job_path(job_id)}/logs", query=query)
        return answer.content.decode(errors="replace")

    def follow(self, job_id: str, **place: Any) -> Iterator[str]:
        """The lines of a job's log as the job writes them, without their ends, until the job has
        ended. `place`: where to begin, one of offset (bytes), tail (lines), since; default: the
        beginning. Resumes by offset after a lost connection: no line is lost or repeated."""
        rest = b""
        for data in self.stream(job_id, **place):
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def stream(
        self,
        job_id: str,
        *,
        reconnect_for: float = 300.0,
        on_outage: Callable[[ApiError], None] | None = None,
        **place: Any,
    ) -> Iterator[bytes]:
        """The bytes of a job's log as the job writes them, otherwise like `follow`. If the server
        does not respond for `reconnect_for` seconds, the last error is raised; `on_outage` is
        called once for each outage, with its first error."""
        follower = Follower(self, job_id, place or {"offset": 0})
        return follower.run(reconnect_for, on_outage)

    def read_log(self, job_id: str, **place: Any) -> Iterator[bytes]:
        """The bytes of a job's log from a place on, as in `follow`, up to its current end."""
        query = place or {"offset": 0}
        while True:
            sent = {"limit_bytes": 4 << 20, **query}
            answer = self.request("GET", f"{job_path(job_id)}/logs", query=sent)
            yield answer.content
            following = int(answer.headers.get("X-Log-Next", 0))
            if following >= int(answer.headers.get("X-Log-Size", 0)) or not answer.content:
                return
            query = {"offset": following}

    # --- Saved commands ---

    def saved(self, *, env: bool = False) -> list[Json]:
        """All saved commands, by name. Their `env` is left out, unless `env` is True."""
        query = {"env": 1} if env else None
        found: list[Json] = self.json("GET", "/saved", query=query)["saved"]
        return found

    def saved_command(self, name: str) -> Json:
        """A saved command with all of its fields."""
        return self.json("GET", saved_path(name))

    def save(self, name: str, definition: Mapping[str, Any]) -> bool:
        """Save a command under a name; `definition` has the fields of PUT /saved/NAME. Returns True
        if the name is new, False if an earlier command was replaced."""
        return self.request("PUT", saved_path(name), body=dict(definition)).status_code == 201

    def check_saved(self, name: str, definition: Any) -> Json:
        """The command as `save` would save it. Saves nothing; ApiError with status 400 or 409 if
        `save` would fail."""
        return self.json("PUT", saved_path(name), query={"check": 1}, body=definition)

    def pause_saved(self, name: str, paused: bool = True) -> None:
        """Pause the schedule of a saved command, or resume it; `run_saved` works in any case."""
        found = self.request("GET", saved_path(name))
        body = {**self._json_of(found), "paused": paused}
        try:
            seen = {"If-Match": found.headers["ETag"]}
            self.request("PUT", saved_path(name), body=body, headers=seen)
        except ApiError as error:
            # The version that was read has been replaced, perhaps by an earlier try.
            is_own = error.status == 412 and error.is_repeated
            if not is_own or self.saved_command(name)["paused"] != paused:
                raise

    def delete_saved(self, name: str) -> None:
        """Delete a saved command; its jobs are kept."""
        self._delete(saved_path(name))

    def run_saved(
        self,
        name: str,
        values: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        submitted_by: str | None = None,
    ) -> Json:
        """Submit a job of a saved command with these values of its params, and return the job."""
        query = {"submitted_by": submitted_by}
        path = f"{saved_path(name)}/run"
        return self.json("POST", path, query=query, body=dict(values or {}), key=key or new_key())

    # --- Queues and the server ---

    def queues(self) -> list[Json]:
        """The queues that are paused, have waiting jobs, or are named by a worker."""
        found: list[Json] = self.json("GET", "/queues")["queues"]
        return found

    def pause(self, queue: str, why: str | None = None, by: str | None = None) -> Json:
        """Start no more jobs from a queue until it is resumed. Returns the pause."""
        body = {"why": why, "by": by}
        return self.json("PUT", f"{queue_path(queue)}/pause", body=body)

    def resume(self, queue: str) -> None:
        """End the pause of a queue."""
        self.request("DELETE", f"{queue_path(queue)}/pause")

    def workers(self) -> Json:
        """The workers, machines and paused queues, as GET /workers returns them."""
        return self.json("GET", "/workers")

    def me(self) -> Json:
        """Whose token this is, as GET /me returns it."""
        return self.json("GET", "/me")

    # --- Requests ---

    def _delete(self, path: str) -> None:
        """Delete what has this path. If an earlier try got no response, a 404 means that the server
        carried it out."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status != 404 or not error.is_repeated:
                raise

    def json(self, method: str, path: str, **options: Any) -> Json:
        """The JSON object with which the API responds; the options are those of `request`."""
        return self._json_of(self.request(method, path, **options))

    def _json_of(self, answer: requests.Response) -> Json:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._not_tailboard(answer)
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
    ) -> requests.Response:
        """The API's response to a request for a path such as /jobs. Raises ApiError for a response
        that is not 2xx or 3xx, and Unreachable without a response. Parameters that are None are
        left out. `stream`: the caller reads the body and closes the response."""
        sent = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
        is_repeatable = method in ("GET", "PUT", "DELETE") or key is not None
        is_repeated = False
        end = time.monotonic() + self.patience
        for pause in pauses():
            try:
                return self._send(method, path, query, body, sent, stream, end)
            except ApiError as error:
                error.is_repeated = is_repeated
                was_sent = error.status == 503 or (isinstance(error, Unreachable) and error.is_sent)
                is_repeated = is_repeated or was_sent
                is_passing = error.status in (0, 503) and (is_repeatable or not was_sent)
                if not is_passing or time.monotonic() + pause >= end:
                    raise
            time.sleep(pause)
        raise AssertionError("pauses() does not end")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str],
        stream: bool,
        end: float,
    ) -> requests.Response:
        """One try of `request`, which may last until `end` on the monotonic clock."""
        left = max(0.1, end - time.monotonic())
        try:
            answer = self.session.request(
                method,
                self.url + path,
                params=query,
                json=body,
                headers=headers,
                stream=stream,
                timeout=(min(left, CONNECT_TIME), answer_time(left, query, stream)),
                allow_redirects=False,  # a redirected POST would become a GET
            )
        except (requests.RequestException, ValueError) as error:
            raise self._unreachable(error) from None
        if answer.is_redirect:
            place = answer.headers["Location"]
            raise ApiError(f"the server at {self.url} redirects to {place}: use that address")
        if not answer.ok:
            raise self._refusal(answer)
        return answer

    def _unreachable(self, error: Exception) -> ApiError:
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
            return ApiError(f"{self.url} is not the URL of a server")
        if isinstance(error, requests.exceptions.SSLError):
            return ApiError(f"the server at {self.url} has no valid certificate: {error}")
        is_sent = may_have_arrived(error)
        if is_sent:
            return Unreachable(f"the server at {self.url} does not respond", True)
        return Unreachable(f"cannot connect to the server at {self.url}", False)

    def _refusal(self, answer: requests.Response) -> ApiError:
        """The error in a response that is not 2xx."""
        try:
            problem = answer.json()
            return ApiError(str(problem["detail"]), answer.status_code, problem)
        except (ValueError, KeyError, TypeError, requests.RequestException):
            return self._not_tailboard(answer)

    def _not_tailboard(self, answer: requests.Response) -> ApiError:
        status = f"{answer.status_code} {answer.reason}".strip()
        message = f"the server at {self.url} is not Tailboard's API: it responded with {status}"
        return ApiError(message, answer.status_code)


class BearerToken(requests.auth.AuthBase):
    """Sends the token. Without an `auth`, requests would replace the header by a password from
    ~/.netrc."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            # A header is Latin-1 text, so these are the bytes of the token in UTF-8.
            request.headers["Authorization"] = f"Bearer {self.token}".encode().decode("latin-1")
        return request


class Follower:
    """Reads one log as the job writes it, from one connection after another."""

    def __init__(self, client: Client, job_id: str, place: Mapping[str, Any]) -> None:
        self.client, self.job_id = client, job_id
        self.place = dict(place)  # of the next connection; after the first bytes, their offset
        self.at: int | None = None  # the offset of the next byte
        self.has_ended = False

    def run(
        self, reconnect_for: float, on_outage: Callable[[ApiError], None] | None
    ) -> Iterator[bytes]:
        """The bytes until the job has ended."""
        heard_at = None  # on the monotonic clock; None: no connection has succeeded yet
        tries = pauses()
        while not self.has_ended:
            try:
                for data in self._read_one_connection():
                    heard_at, tries = time.monotonic(), pauses()
                    if data:
                        yield data
                continue
            except ApiError as error:
                is_outage = error.status in (0, 503) and heard_at is not None
                if not is_outage or time.monotonic() > (heard_at or 0) + reconnect_for:
                    raise
                pause = next(tries)
                if pause == FIRST_PAUSE and on_outage is not None:
                    on_outage(error)
            time.sleep(pause)

    def _read_one_connection(self) -> Iterator[bytes]:
        """The bytes of one response; an empty text for each sign of life."""
        with self._connect() as answer:
            if self.at is None:
                self._begin_at(int(answer.headers.get("X-Log-Offset", 0)))
            yield b""
            try:
                for name, offset, data in iter_events(answer):
                    yield self._take(name, offset, data)
            except (requests.RequestException, ValueError) as error:
                raise self.client._unreachable(error) from None
        if not self.has_ended:
            raise Unreachable(f"the server at {self.client.url} closed the connection", True)

    def _connect(self) -> requests.Response:
        headers = {"Accept": "text/event-stream"}
        query = {"follow": 1, **self.place}
        path = f"{job_path(self.job_id)}/logs"
        return self.client.request("GET", path, query=query, headers=headers, stream=True)

    def _begin_at(self, offset: int) -> None:
        """Continue from this offset if the connection is lost."""
        self.at = offset
        self.place = {"offset": offset}

    def _take(self, name: str, offset: int | None, data: str) -> bytes:
        """The bytes that an event brings."""
        begin = self.at or 0
        if offset is not None:
            self._begin_at(offset)
        if name == "end":
            self.has_ended = True
        if name == "gap":
            return gap_notice(json.loads(data))
        if name != "message" or not data:
            return b""
        text: str = json.loads(data)
        if "\ufffd" in text and offset is not None:
            return self._exact(begin, offset) or text.encode()
        return text.encode(errors="replace")

    def _exact(self, begin: int, end: int) -> bytes | None:
        """The bytes of the log from `begin` to `end`, which are not all UTF-8; None if they no
        longer exist."""
        query = {"offset": begin, "limit_bytes": end - begin}
        answer = self.client.request("GET", f"{job_path(self.job_id)}/logs", query=query)
        is_whole = answer.headers.get("X-Log-Offset") == str(begin)
        return answer.content if is_whole and len(answer.content) == end - begin else None


def gap_notice(gap: Mapping[str, int]) -> bytes:
    """A line that replaces the bytes of a log that no longer exist."""
    missing = gap["to"] - gap["from"]
    message = "the log was truncated" if missing < 0 else f"{missing} bytes missing"
    return f"\n[{message}]\n".encode()


def iter_events(answer: requests.Response) -> Iterator[tuple[str, int | None, str]]:
    """(name, id, data) of each server-sent event; the name is "message" by default, and data is
    empty for a comment, such as a ping."""
    rest = b""
    for chunk in answer.iter_content(None):
        *events, rest = (rest + chunk).split(b"\n\n")
        for event in events:
            fields = dict(line.partition(": ")[::2] for line in event.decode().split("\n"))
            offset = fields.get("id")
            name = fields.get("event", "message")
            yield name, int(offset) if offset else None, fields.get("data", "")


def pauses() -> Iterator[float]:
    """The pauses between tries in seconds: each up to twice as long as the one before. They differ
    by chance, so that many clients of a restarted server do not return at the same moment."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(LONGEST_PAUSE, pause * random.uniform(1.5, 2))


def answer_time(left: float, query: Mapping[str, Any] | None, stream: bool) -> float:
    """Seconds without a byte until a request counts as unanswered. A request that waits, or that
    asks for all jobs of GET /bulk, gets a byte every few seconds, and so does a stream."""
    if stream or (query and (query.get("wait") or query.get("all"))):
        return KEEPALIVE_TIME
    return min(left, ANSWER_TIME)


def may_have_arrived(error: Exception) -> bool:
    """Can the server have received the request that failed with this error? Not if there was no
    connection."""
    cause = error.args[0] if error.args else None
    is_unconnected = isinstance(getattr(cause, "reason", None), NewConnectionError)
    is_late = isinstance(error, requests.ConnectTimeout)
    return not (is_unconnected or is_late or isinstance(error, requests.exceptions.InvalidURL))


def new_key() -> str:
    return uuid.uuid4().hex


def job_path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, '')}"


def saved_path(name: str) -> str:
    return f"/saved/{quote(name, '')}"


def queue_path(queue: str) -> str:
    return f"/queues/{quote(queue, '')}"
