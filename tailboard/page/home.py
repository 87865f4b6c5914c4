"""Loads the page's home: sections that the browser asks for when they can have changed. If one
cannot be loaded, the others are not affected."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from tailboard.page.client import ApiClient, ApiError
from tailboard.page.loads import load_saved
from tailboard.page.rows import job_row
from tailboard.page.shapes import Errand

RUNNING_LIMIT = 50  # jobs
MOST_VERSIONS = 50  # of the names that are remembered, about 1 MB
SCHEDULE_FIELDS = ("saved", "cron", "zone", "paused", "next_run", "skipped")


def load_home(client: ApiClient, errand: Errand) -> dict[str, Any]:
    """The requested sections, each with a `version` and its `content`, or with an `error`. Sections
    whose version the browser already has are left out."""
    found = {name: load_section(client, errand, name) for name in errand["sections"]}
    known = errand["known"]
    changed = {
        name: section
        for name, section in found.items()
        if "error" in section or section["version"] != known.get(name)
    }
    return {"sections": changed}


def load_section(client: ApiClient, errand: Errand, name: str) -> dict[str, Any]:
    try:
        content = SECTIONS[name](client, errand)
    except ApiError as error:
        return {"error": str(error)}
    version = digest(content)
    if name == "names":
        content = sent_names.changes(content, version, errand["known"].get(name, ""))
    return {"version": version, "content": content}


def digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class SentNames:
    """The versions of the names that browsers have received. Each end of a job changes the names,
    which can have 60 kB, so a browser receives only the rows that have changed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.versions: OrderedDict[str, dict[str, str]] = OrderedDict()  # -> name -> digest

    def changes(self, content: dict[str, Any], version: str, known: str) -> dict[str, Any]:
        """How `content` differs from the version `known`; all of it if that is not remembered.
        The order follows from the rows: static/home_names.js restores it."""
        rows = {row["name"]: digest(row) for row in content["names"]}
        with self.lock:
            before = self.versions.get(known)
            self.versions[version] = rows
            self.versions.move_to_end(version)
            while len(self.versions) > MOST_VERSIONS:
                self.versions.popitem(last=False)
        if before is None:
            return content
        changed = [row for row in content["names"] if before.get(row["name"]) != rows[row["name"]]]
        gone = sorted(before.keys() - rows.keys())
        rest = {name: content[name] for name in ("more", "complete")}
        return {"changed": changed, "gone": gone, **rest}


sent_names = SentNames()


def load_running(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    path = f"/jobs?{urlencode({'status': 'running', 'limit': RUNNING_LIMIT})}"
    found = client.get_json(path, "jobs", "next", keep="running")
    rows = [job_row(job) | {"submitted_by": job.get("submitted_by")} for job in found["jobs"]]
    return {"jobs": rows, "more": found["next"] is not None}


def load_attention(client: ApiClient, errand: Errand) -> dict[str, Any]:
    path = f"/attention?{urlencode({'since': errand['since']})}"
    return client.get_json(path, "failures", "complete", keep="attention")


def load_names(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    return client.get_json("/names", "names", "more", "complete", keep="names")


def load_schedules(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    """The saved commands that have a schedule, each with its last run."""
    scheduled = [command for command in load_saved(client) if command["cron"]]
    return {
        "schedules": [
            {name: command[name] for name in SCHEDULE_FIELDS} | {"runs": command["runs"][:1]}
            for command in scheduled
        ]
    }


def load_waiting(client: ApiClient, _errand: Errand) -> dict[str, Any]:
    return client.get_json("/queues", "queues")


SECTIONS: Mapping[str, Callable[[ApiClient, Errand], dict[str, Any]]] = {
    "running": load_running,
    "attention": load_attention,
    "names": load_names,
    "schedules": load_schedules,
    "queues": load_waiting,
}
