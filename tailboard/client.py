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

import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tailboard.client_files import read_file, save_file
from tailboard.client_http import (
    TARGETS_PATH,
    ApiError,
    HttpClient,
    Json,
    Outage,
    Unreachable,
    bulk_headers,
    job_path,
    queue_path,
    saved_path,
    target_path,
)
from tailboard.client_stream import Follower, iter_lines, read_log

__all__ = ["ApiError", "Client", "Json", "Unreachable"]

LONGEST_WAIT = 60  # seconds that one request waits for the end of a job
RECONNECT_FOR = 300.0  # seconds that `wait` and `follow` try to reach a server that has failed
PAGE_SIZE = 500  # jobs of one request for a list
COMPLETE_WITHIN = 60.0  # seconds for which `explanation` and `diff` repeat their requests
LOG_BYTES = 4 << 20  # bytes that `logs` returns at most
SKIPPED = "Tailboard-Skipped"  # a header: the ID of the job that is in the way
FINISHED = ("succeeded", "failed", "cancelled", "timed_out", "lost")

OnOutage = Callable[[ApiError], None]


class Client(HttpClient):
    """The jobs, logs, saved commands and queues of one server.

    If a request gets no response, or a 502, 503 or 504, it is repeated for `patience` seconds, as
    far as repeating it cannot do anything twice: `submit`, `rerun` and `run_saved` send an
    Idempotency-Key, for which the server submits one job. Then Unreachable or ApiError is raised.

    Use a client in one thread at a time, and close it, or use it in a `with` statement."""

    # --- Jobs ---

    def submit(
        self, command: str | Sequence[str], *, idempotency_key: str | None = None, **options: Any
    ) -> Json:
        """Submit a job and return it. `command`: a shell command line, or a program with its
        arguments. `options`: the fields of POST /jobs, such as name, queue, cwd, env, timeout,
        retries, not_before, key, if_busy, urgent, after, after_status, notify, warn_after. Calls
        with the same `idempotency_key` submit one job.

        With `if_busy="skip"`, nothing is queued if another job has the key: that job is returned,
        and its `skipped` is True."""
        body = {"command": command if isinstance(command, str) else list(command)}
        body |= {name: value for name, value in options.items() if value is not None}
        return self._submit("/jobs", idempotency_key, body=body)

    def job(self, job_id: str) -> Json:
        """A job with its attempts. ApiError with status 404 if it does not exist."""
        return self._job("GET", job_path(job_id))

    def jobs(self, *, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """The jobs that match, newest first, at most `limit`. `filters`: the parameters of GET
        /jobs, such as status, queue, q (a text), since, by. `env` and attempts are left out."""
        count = 0
        before = None
        while limit is None or count < limit:
            page_size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - count)
            query = {"before": before, **filters, "limit": page_size}
            page = self.json("GET", "/jobs", "jobs", "next", query=query)
            yield from page["jobs"]
            count += len(page["jobs"])
            before = page["next"]
            if before is None:
                return

    def wait(
        self,
        job_id: str,
        timeout: float | None = None,
        *,
        reconnect_for: float = RECONNECT_FOR,
        on_outage: OnOutage | None = None,
    ) -> Json:
        """Wait until the job has ended, and return it. After `timeout` seconds (at most one second
        later), return it as it is then. `reconnect_for` and `on_outage`: as in `stream`."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        outage = Outage(reconnect_for, on_outage)
        job = self.job(job_id)
        while job["status"] not in FINISHED and time.monotonic() < end:
            try:
                left = min(LONGEST_WAIT, end - time.monotonic())
                job = self._wait_once(job_id, max(1, math.ceil(left)))
                outage.end()
            except ApiError as error:
                outage.endure(error)
        return job

    def _wait_once(self, job_id: str, seconds: int) -> Json:
        """The job as soon as it has ended, or as it is after some seconds."""
        # This shows soon whether the server responds: a response that waits may be silent longer.
        job = self._job("GET", job_path(job_id), once=True)
        if job["status"] in FINISHED:
            return job
        query = {"wait": seconds}
        return self._job("GET", job_path(job_id), query=query, is_long=True, once=True)

    def cancel(self, job_id: str, *, bulk: str | None = None) -> Json:
        """Cancel a queued or running job, and return it; its worker then ends a running one.
        ApiError with status 409 if the job has ended. `bulk`: see the method `bulk`."""
        path, headers = f"{job_path(job_id)}/cancel", bulk_headers(bulk)
        try:
            return self._job("POST", path, headers=headers, is_repeatable=True)
        except ApiError as error:
            job = self.job(job_id) if error.status == 409 and error.is_repeated else None
            if job is None or job["status"] != "cancelled":
                raise
        return job  # an earlier try has cancelled it, but its response was lost

    def rerun(
        self,
        job_id: str,
        *,
        with_after: bool = False,
        idempotency_key: str | None = None,
        bulk: str | None = None,
    ) -> Json:
        """Submit a job like this one, and return the new job. `with_after`: also submit the jobs
        again that were cancelled because of this one; `reruns` of the new job lists the IDs of
        theirs. `idempotency_key` and `skipped`: as in `submit`. `bulk`: see the method `bulk`."""
        body = {"with_after": True} if with_after else None
        path, headers = f"{job_path(job_id)}/rerun", bulk_headers(bulk)
        return self._submit(path, idempotency_key, body=body, headers=headers)

    def urgent(self, job_id: str, urgent: bool = True) -> Json:
        """Let a queued job start before all that are not urgent, or no longer, and return it.
        ApiError with status 409 if it is not queued."""
        method = "POST" if urgent else "DELETE"
        return self._job(method, f"{job_path(job_id)}/urgent", is_repeatable=True)

    def delete(self, job_id: str, *, bulk: str | None = None) -> None:
        """Delete a job that has ended, with its log. `bulk`: see the method `bulk`."""
        self._delete(job_path(job_id), headers=bulk_headers(bulk))

    def bulk(self, action: str, **filters: Any) -> Json:
        """The jobs to which an action on many jobs applies: `ids`, in the order in which to act on
        them, and `left_out`, how many were already rerun. `action`: rerun, cancel or delete.
        `filters`: status, queue, q, since, by. This changes no job. Pass its `bulk` to `rerun`,
        `cancel` or `delete` of these jobs: then the audit log has one line for all of them."""
        # This shows soon whether the server responds: the list may take longer.
        self.me()
        query = {**filters, "to": action, "all": 1}
        return self.json("GET", "/bulk", "ids", "left_out", query=query, is_long=True)

    def prunable(self) -> Json:
        """The ended jobs that would be deleted now: `jobs`, each with the reason, their `bytes`,
        and `complete`. This deletes nothing. Pass its `bulk` to `delete` of these jobs."""
        return self.json("GET", "/prune", "jobs", "bytes", "complete", "bulk")

    # --- Logs ---

    def logs(self, job_id: str, *, tail: int = 1_000, since: str | None = None) -> str:
        """The last `tail` lines of a job's log, at most 1 MiB; or what was written `since` then
        (30s, 5m or a timestamp), its first 4 MiB. `read_log` returns logs of any size."""
        query = {"since": since, "limit_bytes": LOG_BYTES} if since else {"tail": tail}
        answer = self.request("GET", f"{job_path(job_id)}/logs", query=query)
        return answer.content.decode(errors="replace")

    def follow(
        self,
        job_id: str,
        *,
        offset: int | None = None,
        tail: int | str | None = None,
        since: str | None = None,
        reconnect_for: float = RECONNECT_FOR,
        on_outage: OnOutage | None = None,
    ) -> Iterator[str]:
        """The lines of a job's log as the job writes them, without the newline, until the job has
        ended. Bytes that are not UTF-8 become U+FFFD. The parameters are those of `stream`."""
        chunks = self.stream(
            job_id,
            offset=offset,
            tail=tail,
            since=since,
            reconnect_for=reconnect_for,
            on_outage=on_outage,
        )
        return iter_lines(chunks)

    def stream(
        self,
        job_id: str,
        *,
        offset: int | None = None,
        tail: int | str | None = None,
        since: str | None = None,
        reconnect_for: float = RECONNECT_FOR,
        on_outage: OnOutage | None = None,
    ) -> Iterator[bytes]:
        """The bytes of a job's log as the job writes them, until the job has ended. Begins at the
        beginning, or at one of these places: `offset` (bytes), the last `tail` lines, or what was
        written `since` then. A line such as "[1000 bytes missing]" replaces a deleted part.

        If the connection is lost or the server restarts, the stream continues at the next byte: no
        byte is lost or repeated. After an outage of `reconnect_for` seconds its last error is
        raised. `on_outage` is called with an error once for each outage that a new connection does
        not end at once."""
        follower = Follower(self, job_id, place_of(offset, tail, since))
        return follower.run(reconnect_for, on_outage)

    def read_log(
        self,
        job_id: str,
        *,
        offset: int | None = None,
        tail: int | str | None = None,
        since: str | None = None,
    ) -> Iterator[bytes]:
        """The bytes of a job's log up to its current end. Begins as `stream` does."""
        return read_log(self, job_id, place_of(offset, tail, since))

    def explanation(self, job_id: str, *parts: str) -> Json:
        """What a job's log says, compared with the logs of its earlier runs, as GET
        /jobs/ID/explain returns it. `parts`: only these, such as "new_lines". Repeats the request
        until nothing is `partial`, for a minute at most."""
        query = {"parts": ",".join(parts) or None}
        return self._complete(f"{job_path(job_id)}/explain", query)

    def diff(self, job_id: str, other: str | None = None) -> Json:
        """The log of a job, compared line by line with that of the job `other`, by default of the
        last earlier success, as GET /jobs/ID/diff returns it, with all `hunks`. ApiError with
        status 404 if there is no success to compare it with. If reading the logs takes more than a
        minute, `partial` is True, and `hunks` is empty."""
        path = f"{job_path(job_id)}/diff"
        found = answer = self._complete(path, {"with": other})
        while answer["more"]:
            query = {"with": found["left"]["id"], "from": len(found["hunks"])}
            answer = self._complete(path, query)
            found["hunks"] += answer["hunks"]
        return found | {"more": False}

    # --- Files ---

    def files(self, job_id: str) -> Json:
        """The files of a job, as GET /jobs/ID/files returns them: `files`, at most 10,000 of them,
        and whether they are `complete`. Each has `path`, `kind`, `size` and `modified`."""
        return self.json("GET", f"{job_path(job_id)}/files", "files", "complete")

    def read_file(self, job_id: str, path: str | bytes) -> Iterator[bytes]:
        """The bytes of a file of a job. `path`: as in `files`; if it is not UTF-8, as bytes.
        ApiError with status 404 if it does not exist, and with 409 if it is not a file, or is only
        on the machine that runs or ran the job."""
        return read_file(self, job_id, path)

    def download_file(self, job_id: str, path: str | bytes, target: str) -> None:
        """Save a file of a job as `target`, which exists only once it is complete. FileExistsError
        if it exists before. `path`: as in `read_file`."""
        folder = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            save_file(folder, os.path.basename(target), self.read_file(job_id, path))
        finally:
            os.close(folder)

    # --- Saved commands ---

    def saved(self, *, env: bool = False) -> list[Json]:
        """All saved commands, by name. Their `env` is left out, unless `env` is True."""
        query = {"env": 1} if env else None
        found: list[Json] = self.json("GET", "/saved", "saved", query=query)["saved"]
        return found

    def saved_command(self, name: str) -> Json:
        """A saved command with all of its fields. ApiError with status 404 if it does not exist."""
        return self.json("GET", saved_path(name), "saved", "command")

    def save(self, name: str, definition: Mapping[str, Any], *, like: str | None = None) -> bool:
        """Save a command under a name; `definition` has the fields of PUT /saved/NAME. Returns True
        if the name is new, False if an earlier command was replaced. `like`: the ID of the job that
        the definition comes from, so that the URLs in its `notify`, whose ends are hidden, are
        kept."""
        query = {"like": like}
        answer = self.request("PUT", saved_path(name), query=query, body=dict(definition))
        return answer.status_code == 201

    def check_saved(self, name: str, definition: Any) -> Json:
        """The command as `save` would save it. Saves nothing; ApiError with status 400 or 409 if
        `save` would fail."""
        return self.json("PUT", saved_path(name), query={"check": 1}, body=definition)

    def pause_saved(self, name: str, paused: bool = True) -> None:
        """Pause the schedule of a saved command, or resume it; `run_saved` works in any case."""
        found = self.request("GET", saved_path(name))
        body = {**self.json_of(found, "saved", "command"), "paused": paused}
        seen = {"If-Match": found.headers.get("ETag", "")}
        try:
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
        idempotency_key: str | None = None,
        submitted_by: str | None = None,
    ) -> Json:
        """Submit a job of a saved command with these values of its params, and return the job.
        `idempotency_key` and `skipped`: as in `submit`."""
        query = {"submitted_by": submitted_by}
        path = f"{saved_path(name)}/run"
        return self._submit(path, idempotency_key, query=query, body=dict(values or {}))

    # --- Notifications ---

    def notifications(self, *, since: str = "1d", limit: int | None = None) -> list[Json]:
        """What was noticed about jobs since then, newest first, and to whom messages about it were
        sent. `since`: 30s, 5m or a timestamp."""
        query = {"since": since, "limit": limit}
        path = "/notifications"
        found: list[Json] = self.json("GET", path, "notifications", query=query)["notifications"]
        return found

    def notify_targets(self) -> list[Json]:
        """The named URLs by name, with `to`, which hides what may be secret."""
        found: list[Json] = self.json("GET", TARGETS_PATH, "targets")["targets"]
        return found

    def set_notify_target(self, name: str, url: str) -> bool:
        """Name a URL, so that rules can have the name instead. Returns True if the name is new."""
        return self.request("PUT", target_path(name), body={"url": url}).status_code == 201

    def remove_notify_target(self, name: str) -> None:
        """Remove the name of a URL."""
        self._delete(target_path(name))

    def test_notification(self, to: str) -> Json:
        """Send a test message to a URL or name. Returns `to`, `ok` and `answer`, the service's
        response in one line."""
        body = {"to": to}
        return self.json("POST", "/notifications/test", "ok", "answer", body=body, is_long=True)

    # --- The audit log ---

    def audit(self, *, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """Who did what, newest first, at most `limit` lines. `filters`: since, by, job. ApiError
        with status 403 unless the token has the role `all`."""
        for page in self.audit_pages(limit=limit, **filters):
            yield from page["entries"]

    def audit_pages(self, *, limit: int | None = None, **filters: Any) -> Iterator[Json]:
        """The same in parts, as GET /audit returns them: also with `damaged`, how many lines cannot
        be read."""
        count = 0
        before = None
        while limit is None or count < limit:
            page_size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - count)
            query = {**filters, "before": before, "limit": page_size}
            page = self.json("GET", "/audit", "entries", "next", "damaged", query=query)
            yield page
            count += len(page["entries"])
            before = page["next"]
            if before is None:
                return

    # --- Queues and the server ---

    def queues(self) -> list[Json]:
        """The queues that have jobs, a limit or a pause, or are named by a worker."""
        found: list[Json] = self.json("GET", "/queues", "queues")["queues"]
        return found

    def limit(self, queue: str, limit: int | None) -> Json:
        """Let at most this many jobs of a queue run at a time; None removes the limit. Returns the
        queue, as `queues` does."""
        return self.json("PUT", queue_path(queue), "queue", "limit", body={"limit": limit})

    def pause(self, queue: str, why: str | None = None, by: str | None = None) -> Json:
        """Start no more jobs from a queue until it is resumed. Returns the pause."""
        body = {"why": why, "by": by}
        return self.json("PUT", f"{queue_path(queue)}/pause", body=body)

    def resume(self, queue: str) -> None:
        """End the pause of a queue."""
        self.request("DELETE", f"{queue_path(queue)}/pause")

    def workers(self) -> Json:
        """The workers, machines and paused queues, as GET /workers returns them."""
        return self.json("GET", "/workers", "workers", "machines", "paused", "storage")

    def me(self) -> Json:
        """Whose token this is, as GET /me returns it: `name` is None for the shared token, or if
        the server needs none."""
        return self.json("GET", "/me", "name")

    # --- Requests ---

    def _job(self, method: str, path: str, **options: Any) -> Json:
        """The job with which the API responds."""
        return self.json(method, path, "id", "status", **options)

    def _submit(self, path: str, key: str | None, **options: Any) -> Json:
        """The job that a request submits. Its `skipped` is True if nothing was queued, and the job
        is another one with its key."""
        answer = self.request("POST", path, key=key or new_key(), **options)
        job = self.json_of(answer, "id", "status")
        return job | {"skipped": SKIPPED in answer.headers}

    def _complete(self, path: str, query: Mapping[str, Any]) -> Json:
        """The response that is not `partial`; the server continues its work in each request."""
        end = time.monotonic() + COMPLETE_WITHIN
        while True:
            found = self.json("GET", path, "partial", query=query, is_long=True)
            if not found["partial"] or time.monotonic() > end:
                return found

    def _delete(self, path: str, **options: Any) -> None:
        """Delete what has this path. If an earlier try got no response, a 404 means that the server
        carried it out."""
        try:
            self.request("DELETE", path, **options)
        except ApiError as error:
            if error.status != 404 or not error.is_repeated:
                raise


def place_of(offset: int | None, tail: int | str | None, since: str | None) -> dict[str, Any]:
    """The parameters of GET /jobs/ID/logs for the place in a log at which to begin."""
    given = {"offset": offset, "tail": tail, "since": since}
    return {name: value for name, value in given.items() if value is not None} or {"offset": 0}


def new_key() -> str:
    """An Idempotency-Key that no other request has."""
    return uuid.uuid4().hex
