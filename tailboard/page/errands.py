"""Errands: the requests that the page's server sends to the API for static/errands.js."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from tailboard.client_http import job_path, queue_path, saved_path
from tailboard.page import notices
from tailboard.page.client import SKIPPED, ApiClient, ApiError, Refused, parse_json
from tailboard.page.home import load_home
from tailboard.page.rows import job_row
from tailboard.page.saved_forms import as_sentence, is_same_command, preview_schedule, saved_form
from tailboard.page.shapes import ChangeAnswer, Errand, ErrorAnswer, Job, SchedulePreview

OLDER_LIMIT = 500  # jobs of one part of the list
SEARCH_LIMIT = 50  # lines of one part of a search of all logs, or jobs of one of all jobs
ENDED_BADLY = ("failed", "timed_out", "lost")
STEP_TIME = 1.0  # seconds of a change of many jobs until the browser gets an answer


def load_older(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """A part of the job list, with the jobs before an ID. `searched` counts the jobs of the list's
    status down to its end."""
    answer = load_part(client, errand)
    rows = [job_row(job) for job in answer["jobs"]]
    return {"rows": rows, "next": answer["next"], "searched": answer["searched"]}


def count_jobs(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """The number of jobs in the same part, by status."""
    answer = load_part(client, errand)
    counts = Counter(job["status"] for job in answer["jobs"])
    return {"counts": dict(counts), "next": answer["next"]}


def load_part(client: ApiClient, errand: Errand, limit: int = OLDER_LIMIT) -> dict[str, Any]:
    path = query_path("/jobs", errand, "status", "queue", "by", "q", "before")
    return client.get_json(f"{path}&limit={limit}", "jobs", "next", "searched")


def load_search(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """A part of a search of all logs; its `next` is the `before` of the part that follows."""
    path = query_path("/logs", errand, "q", "status", "queue", "by", "before")
    return client.get_json(f"{path}&limit={SEARCH_LIMIT}", "hits", "next", "searched")


def load_chosen(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Which jobs to run again, cancel or delete. This changes none of them."""
    path = query_path("/bulk", errand, "to", "status", "queue", "by", "q")
    return client.get_json(path, "ids", "left_out", "complete", "bulk")


def change_some(client: ApiClient, errand: Errand) -> ChangeAnswer:
    """Run again, cancel or delete as many of the jobs as STEP_TIME allows."""
    until = time.monotonic() + STEP_TIME
    result: ChangeAnswer = {"tried": 0, "declined": []}
    for job_id in errand["ids"]:
        try:
            result["declined"] += change_one(client, errand["to"], job_id, errand.get("bulk"))
        except ApiError as error:
            if error.may_pass or isinstance(error, Refused):
                return {**result, **describe_error(error)}
            result["declined"].append(describe_declined(error, job_id))
        result["tried"] += 1
        if time.monotonic() > until:
            break
    return result


def describe_declined(error: ApiError, job_id: str) -> str:
    """Why the API did not change a job. The text does not contain the job's ID, so the browser can
    count the jobs with the same reason."""
    if error.status == 404:
        return "it no longer exists"
    return str(error).replace(f"job {job_id}", "it")


def change_one(client: ApiClient, action: str, job_id: str, bulk: str | None = None) -> list[str]:
    """Run one job again, cancel it or delete it. Returns why the API did not queue a rerun, if it
    did not. A rerun has the same Idempotency-Key as one of `tailboard rerun`. So each job is run
    again only once, even if the visitor reloads the page halfway or two visitors do the same.
    `bulk`: the name of the action on many jobs, for the audit log."""
    if action == "delete":
        client.request("DELETE", job_path(job_id), bulk=bulk)
    elif action == "cancel":
        client.request("POST", f"{job_path(job_id)}/cancel", body={}, bulk=bulk)
    else:
        path = f"{job_path(job_id)}/rerun"
        answer = client.request("POST", path, body={}, key=f"rerun {job_id}", bulk=bulk)
        if SKIPPED in answer.headers:
            return ["another job has its key"]
    return []


def load_jobs(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """A small part of the jobs that match a search, for the palette."""
    found = load_part(client, errand, SEARCH_LIMIT)
    return {"jobs": [job_row(job) for job in found["jobs"]], "next": found["next"]}


def load_last_failure(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    """The newest job that ended badly; None if there is none."""
    jobs: list[Job] = []
    for status in ENDED_BADLY:
        jobs += client.get_json(f"/jobs?status={status}&limit=1", "jobs")["jobs"]
    return {"job": max((job_row(job) for job in jobs), key=lambda row: row["id"], default=None)}


def load_queues(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    return client.get_json("/queues", "queues")


def pause_queue(client: ApiClient, errand: Errand) -> dict[str, Any]:
    body = {"why": errand["why"]} if errand["why"] else {}
    client.request("PUT", pause_path(errand), body=body)
    return load_queues(client, errand)


def resume_queue(client: ApiClient, errand: Errand) -> dict[str, Any]:
    client.request("DELETE", pause_path(errand))
    return load_queues(client, errand)


def limit_queue(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Set the limit of a queue from the text that the visitor has typed. The API refuses a text
    that is not a number."""
    text = errand["limit"]
    limit = int(text) if re.fullmatch("[0-9]{1,9}", text) else text or None
    try:
        client.request("PUT", queue_path(errand["queue"]), body={"limit": limit})
    except ApiError as error:
        if error.status != 400:
            raise
        sentence = as_sentence(str(error)).replace("null", "empty")
        raise ApiError(sentence, error.status) from None
    return load_queues(client, errand)


def set_urgent(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Let a queued job start before all that are not urgent, or no longer."""
    path = f"{job_path(errand['job'])}/urgent"
    if errand["urgent"]:
        client.request("POST", path, body={})
    else:
        client.request("DELETE", path)
    return {"urgent": errand["urgent"]}


def load_saved_form(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """The form of a saved command, filled from a job or from the saved command that is edited."""
    origin, seen = load_origin(client, errand)
    command: Job = {}
    if errand.get("job") and origin.get("saved"):
        with suppress(ApiError):  # it may have been deleted
            command, _ = load_origin(client, {"saved": origin["saved"]})
    return saved_form(origin, command) | {"seen": seen}


def load_environment(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """The values that a form hides."""
    return {"env": load_origin(client, errand)[0].get("env", {})}


def load_origin(client: ApiClient, origin: Mapping[str, Any]) -> tuple[Job, str]:
    """The job or the saved command that a form was filled from, and its ETag; both are empty if it
    was filled from neither."""
    if not origin.get("job") and not origin.get("saved"):
        return {}, ""
    is_saved = bool(origin.get("saved"))
    path = saved_path(origin["saved"]) if is_saved else job_path(origin["job"])
    answer = client.request("GET", path)
    found = parse_json(answer, "command", "saved" if is_saved else "id")
    return found, answer.headers.get("ETag", "")


def find_origin(client: ApiClient, origin: Mapping[str, Any]) -> Job:
    """The same job or saved command; empty if it was deleted."""
    try:
        return load_origin(client, origin)[0]
    except ApiError as error:
        if error.status == 404:
            return {}
        raise


def put_saved(
    client: ApiClient, name: str, body: Job, seen: str | None, origin: Mapping[str, Any]
) -> bool:
    """Save a command that was made from `origin`. Returns False if it is not the one with the ETag
    `seen`, because someone else has changed it."""
    path = saved_path(name)
    if origin.get("job") and body.get("notify"):
        path = with_like(path, origin["job"])
    try:
        client.request("PUT", path, body=body, seen=seen)
    except ApiError as error:
        if error.status != 412:
            raise
        return is_saved(client, name, body)
    return True


def is_saved(client: ApiClient, name: str, body: Job) -> bool:
    """Is exactly this saved? Then only the answer to an earlier try was lost."""
    with suppress(ApiError):
        return is_same_command(body, load_origin(client, {"saved": name})[0])
    return False


def load_schedule(_client: ApiClient, errand: Errand) -> SchedulePreview:
    return preview_schedule(errand["cron"], errand["zone"], time.time())


def pause_path(errand: Errand) -> str:
    return f"{queue_path(errand['queue'])}/pause"


def run_command(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """Submit a job. A repeated errand with the same key submits no second one."""
    body = {"command": errand["command"], "name": errand["name"]}
    return {"id": client.post_json("/jobs", body, "id", key=errand["key"])["id"]}


def with_like(path: str, job_id: str) -> str:
    """A path at which the API completes the hidden URLs of a body from those of a job."""
    return query_path(path, {"like": job_id}, "like")


def query_path(path: str, parameters: Mapping[str, object], *names: str) -> str:
    """A path with those of the named parameters that have a value."""
    return f"{path}?{urlencode({name: parameters[name] for name in names if parameters.get(name)})}"


def describe_error(error: ApiError) -> ErrorAnswer:
    return {
        "error": str(error),
        "busy": error.status == 503,
        "may_pass": error.may_pass,
    }


ERRANDS: dict[str, Callable[[ApiClient, Errand], Mapping[str, object]]] = {
    "older": load_older,
    "count": count_jobs,
    "search": load_search,
    "choose": load_chosen,
    "change": change_some,
    "jobs": load_jobs,
    "last_failure": load_last_failure,
    "queues": load_queues,
    "pause": pause_queue,
    "resume": resume_queue,
    "limit": limit_queue,
    "urgent": set_urgent,
    "saved_form": load_saved_form,
    "environment": load_environment,
    "schedule": load_schedule,
    "home": load_home,
    "run": run_command,
    "notices": notices.load_notices,
    "targets": notices.load_targets,
    "try_target": notices.tests.result,
}
