"""The API's description of itself: it is complete, and the API does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from conftest import Processes
from flask import Flask

import api
from storage import FolderStore, Job, Param, SavedCommand


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return api.create_app({"STORAGE": str(tmp_path / "jobs"), "TOKEN": "s3cret"})


def test_every_route_and_method_is_described(app: Flask) -> None:
    routes = {
        (method.lower(), re.sub("<(.*?)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = app.test_client().get("/openapi.json", headers={"Authorization": "Bearer s3cret"})
    paths = described.get_json()["paths"]
    assert routes == {(method, path) for path, methods in paths.items() for method in methods}


def test_the_description_needs_the_token(app: Flask) -> None:
    assert app.test_client().get("/openapi.json").status_code == 401


@pytest.mark.timeout(180)
def test_the_api_does_what_its_description_says(
    storage: FolderStore, processes: Processes, tmp_path: Path
) -> None:
    """Made-up requests to all of it, but for `follow`, which need not end."""
    url = processes.api()
    described = requests.get(f"{url}/openapi.json", timeout=20).json()
    logs = described["paths"]["/jobs/{job_id}/logs"]["get"]
    logs["parameters"] = [each for each in logs["parameters"] if each["name"] != "follow"]
    job = storage.submit(Job(command="true"))
    param = Param(name="A", default="b")
    storage.save_command(SavedCommand(saved="saved", command="true", params=[param], cron="@daily"))
    there = {"job_id": job.id, "name": "saved"}  # which are asked for now and then
    for methods in described["paths"].values():
        for operation in methods.values():
            for each in operation["parameters"]:
                if each["name"] in there and each["in"] == "path":
                    each["schema"]["examples"] = [there[each["name"]]]
    del described["paths"]["/healthz"]  # which is unwell, since no worker runs
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json")),
        *("--url", url, "--checks", f"{checks},response_schema_conformance"),
        *("--max-examples", "15", "--max-time", "10", "--workers", "2"),
        "--generation-deterministic",
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        *("--phases", "examples,coverage,fuzzing"),
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=170)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    assert "Traceback" not in processes.text()
