"""The API's description of itself: it is complete, and the API does what it says."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import requests
from conftest import BY_HAND, BY_WORKER, TOKEN, Processes, Site
from flask import Flask
from web import UNKNOWN

import api
from storage import WorkerStore
from tailboard.folder.folder_store import FolderStore
from tailboard.job import Job
from tailboard.notices import Delivery, Notice, NoticeRecord
from tailboard.saved_command import Param, SavedCommand
from tailboard.usage import USAGE_RECORD
from tailboard.values import utc
from tailboard.web import operations as operations_module
from tailboard.web.operation import Access
from tailboard.workers import WorkerInfo


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return api.create_app({"STORAGE": str(tmp_path / "jobs"), "TOKEN": TOKEN})


def test_every_route_and_method_is_described(app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(.*?)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = app.test_client().get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
    paths = described.get_json()["paths"]
    assert routes == {(method, path) for path, methods in paths.items() for method in methods}


def test_each_route_that_takes_a_key_describes_its_422(app: Flask) -> None:
    described = app.test_client().get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
    keyed = {
        path: "422" in operation["responses"]
        for path, methods in described.get_json()["paths"].items()
        for operation in methods.values()
        if "Idempotency-Key" in [each["name"] for each in operation["parameters"]]
    }
    assert keyed == {"/jobs": True, "/jobs/{job_id}/rerun": True, "/saved/{name}/run": True}


def test_the_description_needs_the_token(app: Flask) -> None:
    assert app.test_client().get("/openapi.json").status_code == 401


@pytest.mark.timeout(180)
def test_the_api_does_what_its_description_says(
    storage: FolderStore, processes: Processes, tmp_path: Path
) -> None:
    """Sends generated requests to all operations, without `follow`, which need not end, and with
    short waits."""
    url = processes.api()
    described = requests.get(f"{url}/openapi.json", timeout=20).json()
    logs = described["paths"]["/jobs/{job_id}/logs"]["get"]
    logs["parameters"] = [each for each in logs["parameters"] if each["name"] != "follow"]
    [wait] = [
        each
        for each in described["paths"]["/jobs/{job_id}"]["get"]["parameters"]
        if each["name"] == "wait"
    ]
    wait["schema"]["maximum"] = 1
    job = storage.submit(Job(command="true"))
    param = Param(name="A", default="b")
    storage.saved.save(SavedCommand(saved="saved", command="true", params=[param], cron="@daily"))
    there = {"job_id": job.id, "name": "saved"}  # which are sometimes requested
    for methods in described["paths"].values():
        for operation in methods.values():
            for each in operation["parameters"]:
                if each["name"] in there and each["in"] == "path":
                    each["schema"]["examples"] = [there[each["name"]]]
    del described["paths"]["/healthz"]  # which is unhealthy, since no worker runs
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json")),
        *("--url", url, "--checks", f"{checks},response_schema_conformance"),
        # One worker: in two threads at a time, Python 3.11 fails in ast.parse (SystemError).
        *("--max-examples", "15", "--max-time", "10", "--workers", "1"),
        "--generation-deterministic",
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        *("--phases", "examples,coverage,fuzzing"),
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=170)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    assert "Traceback" not in processes.text()


# --- A client that is generated from the description ----------------------------------------------


class Generated:
    """A client that openapi-python-client has generated. Each operation is a module."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package = package
        self.models: Any = importlib.import_module(f"{package}.models")
        self.root: Any = importlib.import_module(package)
        paths = [path for path in folder.glob("api/*/*.py") if path.stem != "__init__"]
        self.tags = {path.stem: path.parent.name for path in paths}

    def operation(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.api.{self.tags[name]}.{name}")

    def connect(self, site: Site) -> Any:
        """A client with the site's token, if it has one."""
        if site.headers:
            return self.root.AuthenticatedClient(base_url=site.url, token=TOKEN)
        return self.root.Client(base_url=site.url)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    folder = tmp_path_factory.mktemp("generated")
    app = api.create_app({"STORAGE": folder / "jobs"})
    (folder / "openapi.json").write_text(app.test_client().get("/openapi.json").text)
    (folder / "options.yml").write_text(
        "post_hooks: []\n"  # the code need not be readable
        "content_type_overrides: {application/zip: application/octet-stream}\n"
    )
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning"),
        *("--path", str(folder / "openapi.json"), "--config", str(folder / "options.yml")),
        *("--meta", "none", "--output-path", str(folder / "tailboard_client")),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sys.path.insert(0, str(folder))
    yield Generated("tailboard_client", folder / "tailboard_client")
    sys.path.remove(str(folder))


def undescribed(answer: object) -> list[str]:
    """The fields of a response that its description lacks, with the names of their schemas."""
    if isinstance(answer, list):
        return [name for item in answer for name in undescribed(item)]
    if not attrs.has(type(answer)):
        return []
    found = []
    kind = type(answer).__name__
    for field in attrs.fields(type(answer)):
        value = getattr(answer, field.name)
        if field.name != "additional_properties":
            found += undescribed(value)
        elif kind not in MAPPINGS:
            found += [f"{kind}.{name}" for name in value]
    return found


# Objects whose fields have any names.
MAPPINGS = ("JobEnv", "JobValues", "ListedJobValues", "SavedCommandEnv", "GetOpenapiResponse200")


class Caller:
    """Calls operations through the generated client."""

    def __init__(self, generated: Generated, client: Any) -> None:
        self.generated, self.client = generated, client
        self.called: set[str] = set()

    def __call__(self, name: str, *path: str, expect: int = 200, **given: Any) -> Any:
        """The client's parsed response, which must have this status."""
        operation: Any = self.generated.operation(name)
        answer = operation.sync_detailed(*path, client=self.client, **given)
        assert answer.status_code == expect, answer.content
        assert undescribed(answer.parsed) == []
        self.called.add(name)
        return answer.parsed


@pytest.fixture
def call(generated: Generated, served: Site) -> Iterator[Caller]:
    with generated.connect(served) as client:
        yield Caller(generated, client)


def test_a_generated_client_can_call_every_operation(
    generated: Generated, served: Site, call: Caller
) -> None:
    job_id = call_jobs(generated.models, served, call)
    call_logs(call, job_id)
    call_files(served, call, job_id)
    call_queues(generated.models, call)
    call_saved_commands(generated.models, call)
    call_notifications(generated.models, served, call)
    call_service(served, call)
    assert call.called == set(generated.tags)


def call_jobs(models: Any, served: Site, call: Caller) -> str:
    """The ID of a job that has ended, with a log."""
    body = models.Submission(command="echo hello; exit 3", queue=BY_WORKER, name="generated")
    key = uuid.uuid4().hex
    job = call("submit_job", body=body, idempotency_key=key, expect=201)
    assert job.id == call("submit_job", body=body, idempotency_key=key, expect=201).id
    assert job.submitted_at.utcoffset().total_seconds() == 0
    served.wait(job.id)
    assert call("get_job", job.id, wait=60).attempts[0].exit_code == 3
    assert [each.id for each in call("list_jobs", id=job.id[-8:]).jobs] == [job.id]
    listed = call("list_jobs", status=models.Status.FAILED, q="generated", since="1d", limit=1)
    assert [each.id for each in listed.jobs] == [job.id] and listed.counts.failed >= 1
    assert "generated" in [each.name for each in call("list_names").names]
    assert call("get_job", job.id).retention.delete_at.tzinfo
    assert call("list_prunable").jobs == []
    assert call("list_failures", since="1d").failures[0].newest.finished_at
    again = call("rerun_job", job.id, expect=201)
    assert again.rerun_of == job.id
    served.wait(again.id)
    chosen = call("choose_jobs", to=models.ChooseJobsTo.RERUN, status=models.Status.FAILED, all_=1)
    assert again.id in chosen.ids and job.id not in chosen.ids
    waiting = call("submit_job", body=models.Submission(command="true", queue=BY_HAND), expect=201)
    assert waiting.queued_before >= 0
    assert call("make_job_urgent", waiting.id).urgent is True
    assert call("make_job_ordinary", waiting.id).urgent is False
    busy = models.Submission(
        command="true", queue=BY_HAND, key=waiting.id, if_busy=models.SubmissionIfBusyType0.SKIP
    )
    keyed = call("submit_job", body=busy, expect=201)
    assert call("submit_job", body=busy).id == keyed.id
    rerun = call("rerun_job", waiting.id, body=models.RerunRequest(with_after=True), expect=201)
    assert rerun.reruns == []
    for each in (keyed, rerun):
        call("cancel_job", each.id, expect=202)
    assert call("cancel_job", waiting.id, expect=202).status == models.Status.CANCELLED
    assert call("cancel_job", waiting.id, expect=409).detail
    assert call("delete_job", waiting.id, expect=204) is None
    assert waiting.id in call("get_job", waiting.id, expect=404).detail
    call_usage(models, served, call)
    return str(job.id)


def call_usage(models: Any, served: Site, call: Caller) -> None:
    running = served.job_maker.running()
    sample = USAGE_RECORD.pack(time.time() + 1, 2.5, 1024)
    Path(running.folder, "usage").write_bytes(sample)
    found = call("read_usage", running.job.id, limit=5).samples
    assert [(each.cpu, each.cpu_seconds, each.memory_bytes) for each in found] == [
        (None, 2.5, 1024)
    ]
    assert call("get_job", running.job.id).usage.memory_bytes == 1024
    assert call("list_jobs", status=models.Status.RUNNING).jobs[0].usage.at.tzinfo
    served.job_maker.finish(running)


def call_logs(call: Caller, job_id: str) -> None:
    assert call("read_log", job_id) == call("read_log", job_id, follow=True) == "hello\n"
    assert call("read_log", job_id, offset=1, limit_bytes=2) == "el"
    assert call("read_log", job_id, tail=1, timestamps=True).endswith("Z hello\n")
    assert json.loads(call("read_log", job_id, q="ell"))["matches"][0]["line"] == 1
    assert json.loads(call("read_log", job_id, q="ell", count=True))["count"] == 1
    assert call("read_log", job_id, download=True) == "hello\n"
    assert call("read_log", job_id, offset=100, expect=416).detail
    hits = call("search_logs", q="hello", since="1d", per_job=1, numbers=False).hits
    assert job_id in [hit.job.id for hit in hits]
    assert call("explain_job", job_id).compared_with == []
    assert call("compare_jobs", job_id, with_=job_id, from_=0).hunks[0].left_lines == ["hello"]
    assert "no earlier run" in call("compare_jobs", job_id, expect=404).detail
    assert call("create_log_ticket", job_id, expect=201).expires_in > 0
    assert call("create_ticket", expect=201).ticket


def call_files(served: Site, call: Caller, job_id: str) -> None:
    folder = served.job_maker.log(job_id).parent / "files"
    folder.mkdir()
    (folder / "report.bin").write_bytes(b"hello")
    [file] = call("list_files", job_id).files
    assert file.path == "report.bin" and file.size == 5
    assert call("read_file", job_id, "report.bin", download=True).payload.read() == b"hello"
    assert (
        "render must be 0"
        in call("read_file", job_id, "report.bin", render=True, expect=400).detail
    )
    assert call("download_files", job_id).payload.read().startswith(b"PK")


def call_queues(models: Any, call: Caller) -> None:
    queue = f"q-{uuid.uuid4().hex[:8]}"
    limited = call("change_queue", queue, body=models.QueueRequest(limit=2))
    assert limited in call("list_queues").queues and limited.limit == 2
    assert call("change_queue", queue, body=models.QueueRequest(limit=None)).limit is None
    pause = call("pause_queue", queue, body=models.PauseRequest(why="to see"))
    assert pause.why == "to see" and pause.since.tzinfo
    assert pause in [each.paused for each in call("list_queues").queues]
    assert pause in call("list_workers").paused
    assert call("resume_queue", queue, expect=204) is None


def call_saved_commands(models: Any, call: Caller) -> None:
    name = f"s-{uuid.uuid4().hex[:8]}"
    param = models.SavedParam(name="TARGET", default="a", choices=["a", "b"])
    body = models.SavedRequest(command="echo", queue=BY_HAND, params=[param], cron="@yearly")
    assert call("save_command", name, body=body, expect=201).next_run.month == 1
    assert call("save_command", name, body=body).saved == name
    values = models.RunValues.from_dict({"TARGET": "b"})
    job = call("run_saved_command", name, body=values, submitted_by="ana", expect=201)
    assert job.saved == name and job.env["TARGET"] == "b"
    shown = call("get_saved_command", name)
    assert shown.last_run.id == job.id and shown.params[0].choices == ["a", "b"]
    assert name in [each.saved for each in call("list_saved_commands", env=True).saved]
    assert call("save_command", f"{name}-2", body=body, check=True).saved_at is None
    assert call("delete_saved_command", name, expect=204) is None
    call("cancel_job", job.id, expect=202)


def call_notifications(models: Any, served: Site, call: Caller) -> None:
    job_id = served.job_maker.ended(b"")
    notice = Notice(event="failed", at=utc(), deliveries=[Delivery(to="ops")])
    record = NoticeRecord(job=job_id, title="true", notices=[notice])
    served.job_maker.storage.notices.save(record)
    [listed] = [each for each in call("list_notifications").notifications if each.job == job_id]
    assert listed.deliveries[0].to == "ops" and listed.at.tzinfo
    assert call("get_job", job_id).notifications[0].event == "failed"
    url = models.TargetRequest(url=f"json://{served.url.removeprefix('http://')}/nowhere")
    name = f"t-{uuid.uuid4().hex[:8]}"
    named = call("set_target", name, body=url, expect=201)
    assert call("set_target", name, body=url) == named
    assert named in call("list_targets").targets
    tested = call("test_target", body=models.NotificationTest(to=name))
    assert (tested.ok, tested.to) == (False, name)
    rule = models.NotifyRule(on=[models.NotifyRuleOnItem.FAILED], to=name)
    submission = models.Submission(command="true", queue=BY_HAND, notify=[rule])
    job = call("submit_job", body=submission, expect=201)
    assert job.notify == [rule]
    call("cancel_job", job.id, expect=202)
    assert call("remove_target", name, expect=204) is None


def call_service(served: Site, call: Caller) -> None:
    seen = call("list_workers")
    assert seen.workers[0].slots == 4 and seen.storage.kind == "folder"
    is_well = served.get("/healthz").ok  # jobs of other tests may wait for a worker
    health = call("get_health", expect=200 if is_well else 503)
    assert health.status == ("ok" if is_well else "unhealthy")
    assert "tailboard_workers" in call("get_metrics")
    assert call("get_openapi")["openapi"].startswith("3.1")
    assert call("get_root").openapi == "/openapi.json"
    audit = call("read_audit", limit=500)
    actions = {line.action for line in audit.entries}
    assert {"submit", "rerun", "cancel", "save", "limit", "set"} <= actions
    assert audit.damaged == 0 and audit.entries[0].at.tzinfo
    me = call("get_me")
    assert (me.name, me.named, me.session) == (None, False, None)
    assert call("start_session", expect=409).detail and call("end_session", expect=404).detail


def test_the_description_has_every_field_of_machines(
    generated: Generated, store_url: str, store: WorkerStore
) -> None:
    store.heartbeat(WorkerInfo(name="w", host="h", pid=1, slots=2, queues=["a"]), 0)
    store.counts()  # which lets its machine report
    app = api.create_app({"STORAGE": store_url})
    answer = app.test_client().get("/workers").get_json()
    seen = generated.models.Workers.from_dict(answer)
    assert undescribed(seen) == []
    assert bool(seen.machines) == store_url.startswith("redis")
    app.extensions["tailboard"].store.close()


def test_a_generated_client_reads_a_log_with_a_ticket(generated: Generated, locked: Site) -> None:
    job_id = locked.job_maker.ended(b"hello\n")
    with generated.connect(locked) as client:
        created = Caller(generated, client)("create_log_ticket", job_id, expect=201)
    with generated.root.Client(base_url=locked.url) as client:
        call = Caller(generated, client)
        assert call("read_log", job_id, ticket=created.ticket) == "hello\n"
        assert call("read_log", job_id, expect=401).detail


def test_a_generated_client_signs_in_and_out(generated: Generated, locked: Site) -> None:
    with generated.connect(locked) as client:
        made = Caller(generated, client)("start_session", expect=201)
    with generated.root.AuthenticatedClient(base_url=locked.url, token=made.key) as client:
        call = Caller(generated, client)
        assert call("get_me").session.expires_at == made.expires_at
        call("end_session", expect=204)
        assert call("get_me", expect=401).detail


def test_each_operation_needs_what_its_description_says(locked: Site) -> None:
    """Without a token, only operations that need none return something other than 401. A ticket is
    accepted only by the operations whose description says so."""
    described = locked.get("/openapi.json").json()
    ticket = locked.post("/ticket").json()["ticket"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            path = re.sub("{.*?}", "20261129-120000-abcdefgh", path)
            bare = requests.request(method, locked.url + path, timeout=30)
            with_ticket = requests.request(
                method, f"{locked.url}{path}?ticket={ticket}", timeout=30
            )
            needed = [name for each in operation["security"] for name in each]
            assert (bare.status_code == 401) == bool(needed), path
            assert (with_ticket.status_code != 401) == (needed != ["token"]), path


# Access -> whether the API serves a request without a token, with a ticket, and with a token.
SERVED = {
    Access.OPEN: (True, True, True),
    Access.TICKET_OR_TOKEN: (False, True, True),
    Access.ALL_LOGS: (False, True, True),
    Access.TOKEN: (False, False, True),
    Access.TOKEN_ITSELF: (False, False, True),
}
SECURITY = {
    Access.OPEN: [],
    Access.TICKET_OR_TOKEN: [{"token": []}, {"ticket": []}],
    Access.ALL_LOGS: [{"token": []}, {"ticket": []}],
    Access.TOKEN: [{"token": []}],
    Access.TOKEN_ITSELF: [{"token": []}],
}


def test_each_route_asks_for_the_access_that_it_declares(locked: Site) -> None:
    described = locked.get("/openapi.json").json()["paths"]
    ticket = locked.post("/ticket").json()["ticket"]
    for (method, path), operation in operations_module.OPERATIONS.items():
        url = locked.url + re.sub("{.*?}", UNKNOWN, path)
        answers = (
            requests.request(method, url, timeout=30),
            requests.request(method, url, params={"ticket": ticket}, timeout=30),
            requests.request(method, url, headers=locked.headers, timeout=30),
        )
        served = tuple(answer.status_code not in (401, 403) for answer in answers)
        assert served == SERVED[operation.access], (method, path)
        assert described[path][method]["security"] == SECURITY[operation.access], (method, path)


def test_the_description_of_an_api_without_a_token_requires_none(site: Site) -> None:
    described = site.get("/openapi.json").json()["paths"]
    for (method, path), operation in operations_module.OPERATIONS.items():
        security = described[path][method]["security"]
        nothing_needed = [] if operation.access is Access.OPEN else [{}]
        assert security == SECURITY[operation.access] + nothing_needed, (method, path)


def test_a_route_that_is_added_later_needs_the_token(app: Flask) -> None:
    """It has no entry in OPERATIONS, so nothing declares that it needs less."""
    app.add_url_rule("/later", view_func=lambda: "done")
    client = app.test_client()
    assert client.get("/later").status_code == 401
    assert client.get("/later", headers={"Authorization": f"Bearer {TOKEN}"}).text == "done"


def test_a_route_without_an_entry_prevents_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(operations_module.OPERATIONS, ("put", "/queues/{queue}/pause"))
    with pytest.raises(api.CannotStart) as refused:
        api.create_app({"STORAGE": folder})
    route = "PUT /queues/{queue}/pause"
    sentence = f"the route {route} declares no access: OPERATIONS has no entry for it"
    assert refused.value.message == sentence


def test_an_entry_without_a_route_prevents_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = operations_module.OPERATIONS["get", "/queues"]
    monkeypatch.setitem(operations_module.OPERATIONS, ("get", "/nowhere"), entry)
    with pytest.raises(api.CannotStart) as refused:
        api.create_app({"STORAGE": folder})
    assert refused.value.message == "OPERATIONS has GET /nowhere, which no route serves"


def test_every_operation_has_a_summary(app: Flask) -> None:
    described = app.test_client().get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
    found = described.get_json()
    operations = [each for methods in found["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    assert {tag for each in operations for tag in each["tags"]} == {
        tag["name"] for tag in found["tags"]
    }
    for each in operations:
        assert each["summary"] and each["responses"]["default"], each
        for parameter in each["parameters"]:
            assert parameter["description"], (each["operationId"], parameter["name"])
