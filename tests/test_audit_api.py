"""The audit log of the API: which request writes which line, and which writes none."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import BY_HAND, TOKEN, Site, serve_site
from flask.testing import FlaskClient
from web import UNKNOWN, is_problem, token_line

from api import create_app
from tailboard.audit import Action, Actor
from tailboard.status import Status
from tailboard.web import bulk_memory
from tailboard.web.bulk_memory import BulkMemory
from tailboard.web.operations import OPERATIONS

ANNA, BEN = "annas-own-token", "bens-own-token"
NAMED = {"by": "anna", "via": "named", "from": "127.0.0.1"}
Line = dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API with the shared token and named tokens; requests come from anna."""
    base = tmp_path_factory.mktemp("audit")
    tokens = base / "tokens"
    tokens.write_text(token_line("anna", ANNA) + token_line("ben", BEN))
    with serve_site(base, TAILBOARD_TOKEN=TOKEN, TAILBOARD_TOKENS=str(tokens)) as site:
        site.headers["Authorization"] = f"Bearer {ANNA}"
        yield site
        assert "audit:" not in site.processes.text()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def read(site: Site, **query: Any) -> list[Line]:
    answer = site.get("/audit", params={"limit": 500} | query, headers=bearer(TOKEN))
    assert answer.status_code == 200, answer.text
    found: list[Line] = answer.json()["entries"]
    return found


class Lines:
    """The lines that were written since the last look, oldest first, without their times."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen = len(read(site))

    def new(self) -> list[Line]:
        found = read(self.site)[::-1]
        new, self.seen = found[self.seen :], len(found)
        return [{name: value for name, value in line.items() if name != "at"} for line in new]


@pytest.fixture
def lines(site: Site) -> Lines:
    return Lines(site)


def submit(site: Site, **fields: Any) -> str:
    answer = site.post("/jobs", {"command": "true", "queue": BY_HAND} | fields)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


# --- Each action has a line -----------------------------------------------------------------------


def test_actions_on_jobs(site: Site, lines: Lines) -> None:
    job = submit(site)
    assert lines.new() == [{"action": "submit", **NAMED, "job": job}]
    site.post(f"/jobs/{job}/urgent")
    site.ask("DELETE", f"/jobs/{job}/urgent")
    site.post(f"/jobs/{job}/cancel")
    again = site.post(f"/jobs/{job}/rerun").json()["id"]
    site.ask("DELETE", f"/jobs/{job}")
    assert lines.new() == [
        {"action": "urgent", **NAMED, "job": job},
        {"action": "ordinary", **NAMED, "job": job},
        {"action": "cancel", **NAMED, "job": job},
        {"action": "rerun", **NAMED, "job": again, "rerun_of": job},
        {"action": "delete", **NAMED, "job": job},
    ]
    assert [line["action"] for line in read(site, job=job)] == [
        *("delete", "rerun", "cancel", "ordinary", "urgent", "submit")
    ]


def test_actions_on_saved_commands_name_the_changed_fields(site: Site, lines: Lines) -> None:
    def put(**fields: Any) -> None:
        body = {"command": "true", "queue": BY_HAND, "cron": "@yearly"} | fields
        assert site.ask("PUT", "/saved/nightly", json=body).ok

    put()
    put(env={"PASSWORD": "hunter2"}, command="make")
    put(env={"PASSWORD": "hunter2"}, command="make", paused=True)
    put(env={"PASSWORD": "hunter2"}, command="make")
    put(env={"PASSWORD": "hunter2"}, command="true", paused=True)
    job = site.post("/saved/nightly/run").json()["id"]
    site.ask("DELETE", "/saved/nightly")
    saved = {**NAMED, "saved": "nightly"}
    assert lines.new() == [
        {"action": "save", **saved},
        {"action": "save", **saved, "fields": ["command", "env"]},
        {"action": "pause", **saved},
        {"action": "resume", **saved},
        {"action": "save", **saved, "fields": ["command", "paused"]},
        {"action": "run", **saved, "job": job},
        {"action": "delete", **saved},
    ]


def test_actions_on_queues_and_targets(site: Site, lines: Lines) -> None:
    site.ask("PUT", "/queues/deploys", json={"limit": 2})
    site.ask("PUT", "/queues/deploys", json={"limit": None})
    site.ask("PUT", "/queues/deploys/pause", json={"why": "freeze"})
    site.ask("DELETE", "/queues/deploys/pause")
    url = f"json://{site.url.removeprefix('http://')}/hunter2"
    site.ask("PUT", "/notifications/targets/ops", json={"url": url})
    site.post("/notifications/test", {"to": "ops"})
    site.post("/notifications/test", {"to": url})
    site.ask("DELETE", "/notifications/targets/ops")
    queue, target = {**NAMED, "queue": "deploys"}, {**NAMED, "target": "ops"}
    found = lines.new()
    [of_url] = [line for line in found if line.get("target", "").startswith("json://")]
    found.remove(of_url)
    assert found == [
        {"action": "limit", **queue, "limit": 2},
        {"action": "limit", **queue, "limit": None},
        {"action": "pause", **queue},
        {"action": "resume", **queue},
        {"action": "set", **target},
        {"action": "test", **target},
        {"action": "remove", **target},
    ]


def test_signing_in_and_out(site: Site, lines: Lines) -> None:
    key = site.post("/sessions").json()["key"]
    submit_answer = site.post("/jobs", {"command": "true", "queue": BY_HAND}, headers=bearer(key))
    site.ask("DELETE", "/sessions/current", headers=bearer(key))
    assert lines.new() == [
        {"action": "sign_in", **NAMED},
        {"action": "submit", **NAMED, "job": submit_answer.json()["id"]},
        {"action": "sign_out", **NAMED},
    ]


def test_the_log_contains_no_secret(site: Site) -> None:
    """The other tests of this file have sent these, in an environment and in a URL."""
    files = list((site.folder / "audit").iterdir())
    text = "".join(path.read_text() for path in files)
    assert text and not any(word in text for word in ("hunter2", ANNA, BEN, TOKEN, "tbs_"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((site.folder / "audit").stat().st_mode) == 0o700


def test_the_line_says_how_the_request_came(site: Site, lines: Lines) -> None:
    body = {"command": "true", "queue": BY_HAND}
    sent = {"User-Agent": "tailboard-page", "X-Forwarded-For": "192.0.2.7" * 30}
    job = site.post("/jobs", body, headers=bearer(TOKEN) | sent).json()["id"]
    shared = {"action": "submit", "by": None, "via": "shared", "from": "127.0.0.1", "job": job}
    page = {"forwarded_for": ("192.0.2.7" * 30)[:100], "agent": "page"}
    assert lines.new() == [shared | page]


def test_a_visitor_whom_a_proxy_names_is_in_the_line(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("* all\n")
    proxy = {"USER_HEADER": "Remote-User", "PROXY_SECRET": "s" * 40, "USERS": users}
    client = create_app({"STORAGE": tmp_path / "jobs", "TOKEN": TOKEN} | proxy).test_client()
    sent = {"Remote-User": "dora", "X-Tailboard-Proxy": "s" * 40, "X-Forwarded-For": "192.0.2.7"}
    made = client.post("/jobs", json={"command": "true"}, headers=sent)
    assert made.status_code == 201, made.text
    [line] = client.get("/audit", headers=bearer(TOKEN)).get_json()["entries"]
    assert (line["by"], line["via"], line["from"]) == ("dora", "proxy", "127.0.0.1")
    assert line["forwarded_for"] == "192.0.2.7" and "s" * 40 not in str(line)


def test_without_a_token_the_line_has_no_name(tmp_path: Path) -> None:
    client = create_app({"STORAGE": tmp_path / "jobs"}).test_client()
    assert client.post("/jobs", json={"command": "true"}).status_code == 201
    [line] = client.get("/audit").get_json()["entries"]
    assert (line["by"], line["via"], line["from"]) == (None, "none", "127.0.0.1")


# --- What has no line -----------------------------------------------------------------------------


def test_a_request_that_changes_nothing_has_no_line(site: Site, lines: Lines) -> None:
    key = {"Idempotency-Key": "only once"}
    body = {"command": "true", "queue": BY_HAND}
    first = site.post("/jobs", body, headers=key)
    assert site.post("/jobs", body, headers=key).json()["id"] == first.json()["id"]
    again = [site.post(f"/jobs/{first.json()['id']}/rerun", headers={"Idempotency-Key": "r"})
             for _ in range(2)]  # fmt: skip
    busy = {"key": "k", "if_busy": "skip"}
    holder = submit(site, **busy)
    assert submit(site, **busy) == holder
    site.post("/ticket")
    site.post(f"/jobs/{holder}/ticket")
    site.ask("PUT", "/saved/checked", json={"command": "true"}, params={"check": 1})
    assert [(line["action"], line["job"]) for line in lines.new()] == [
        ("submit", first.json()["id"]),
        ("rerun", again[0].json()["id"]),
        ("submit", holder),
    ]


def test_a_refused_or_failed_request_has_no_line(site: Site, lines: Lines) -> None:
    for method, path, body, status in (
        ("POST", "/jobs", {"command": ""}, 400),
        ("POST", f"/jobs/{UNKNOWN}/cancel", None, 404),
        ("DELETE", "/saved/nowhere", None, 404),
        ("DELETE", "/sessions/current", None, 404),
        ("PUT", "/queues/A!", {"limit": 1}, 400),
        ("POST", "/nowhere", {}, 404),
        ("PATCH", "/jobs", {}, 405),
    ):
        assert site.ask(method, path, json=body).status_code == status
    body = {"command": "true", "queue": BY_HAND}
    assert site.post("/jobs", body, headers=bearer("wrong")).status_code == 401
    assert site.post("/jobs", body, headers={"Origin": "http://evil.example"}).status_code == 403
    site.get("/jobs")
    assert lines.new() == []


def test_an_action_has_a_line_even_if_its_response_is_an_error(tmp_path: Path) -> None:
    """The job is queued, but the response cannot be made, because its notices cannot be read."""
    client = create_app({"STORAGE": tmp_path / "jobs"}).test_client()
    first = client.post("/jobs", json={"command": "true"}).get_json()["id"]
    client.put("/saved/nightly", json={"command": "true"})
    (tmp_path / "jobs" / "notices").write_text("a file is in the way of the folder")
    paths = ["/jobs", f"/jobs/{first}/urgent", f"/jobs/{first}/rerun", "/saved/nightly/run"]
    for path in [*paths, f"/jobs/{first}/cancel"]:
        body = {"command": "true"} if path == "/jobs" else {}
        assert client.post(path, json=body).status_code == 503
    assert client.post(f"/jobs/{UNKNOWN}/cancel").status_code == 404
    (tmp_path / "jobs" / "notices").unlink()
    found = client.get("/audit?limit=5").get_json()["entries"]
    assert [line["action"] for line in found] == ["cancel", "run", "rerun", "urgent", "submit"]
    jobs = client.get("/jobs").get_json()["jobs"]
    assert {line["job"] for line in found} == {job["id"] for job in jobs}


def test_a_rerun_that_is_repeated_after_a_crash_names_the_jobs_that_were_missing(
    tmp_path: Path,
) -> None:
    client = create_app({"STORAGE": tmp_path / "jobs"}).test_client()
    root, _ = cancel_with_child(client)
    sent = {"json": {"with_after": True}, "headers": {"Idempotency-Key": "k"}}
    made = client.post(f"/jobs/{root}/rerun", **sent).get_json()
    assert len(made["reruns"]) == 1
    line = client.get("/audit?limit=1").get_json()["entries"][0]
    assert (line["job"], line["dependents"]) == (made["id"], 1)
    client.post(f"/jobs/{root}/rerun", **sent)
    assert client.get("/audit?limit=1").get_json()["entries"] == [line]
    client.post(f"/jobs/{made['reruns'][0]}/cancel")
    assert client.delete(f"/jobs/{made['reruns'][0]}").status_code == 204
    repeated = client.post(f"/jobs/{root}/rerun", **sent).get_json()  # as if it had been lost
    again = client.get("/audit?limit=1").get_json()["entries"][0]
    assert (again["action"], again["job"], again["dependents"]) == ("rerun", repeated["id"], 1)


def cancel_with_child(client: FlaskClient) -> tuple[str, str]:
    """The IDs of a job that was cancelled, and of one that waited for it and therefore was, too."""
    store = client.application.extensions["tailboard"].store
    root = client.post("/jobs", json={"command": "true"}).get_json()["id"]
    child = client.post("/jobs", json={"command": "true", "after": [root]}).get_json()["id"]
    client.post(f"/jobs/{root}/cancel")
    store.listen([])
    while store.claim("w", "h") is not None:
        pass
    assert store.get(child).status is Status.CANCELLED
    store.close()
    return root, child


def test_each_operation_that_is_no_get_says_whether_it_has_a_line() -> None:
    undeclared = [op.id for (method, _), op in OPERATIONS.items()
                  if (op.audit is None) != (method == "get")]  # fmt: skip
    assert not undeclared, "an operation without audit=… (Action.NOTHING: it changes nothing)"
    silent = {op.id for op in OPERATIONS.values() if op.audit is Action.NOTHING}
    assert silent == {"createTicket", "createLogTicket"}


# --- Bulk actions ---------------------------------------------------------------------------------


def choose(site: Site, **query: str) -> Line:
    answer: Line = site.get("/bulk", params=query).json()
    return answer


def cancel(site: Site, job: str, bulk: str, **headers: str) -> int:
    sent = {"Tailboard-Bulk": bulk} | headers
    return site.post(f"/jobs/{job}/cancel", headers=sent).status_code


def some(site: Site, queue: str, count: int = 3) -> list[str]:
    return [submit(site, queue=queue) for _ in range(count)]


@pytest.mark.parametrize("all_", ["0", "1"])
def test_a_bulk_action_has_one_line(site: Site, lines: Lines, all_: str) -> None:
    queue = f"bulk-{all_}"
    jobs = some(site, queue)
    chosen = choose(site, to="cancel", queue=queue, q="tru", since="1h", all=all_)
    lines.new()
    assert [cancel(site, job, chosen["bulk"]) for job in chosen["ids"]] == [202] * 3
    [line] = lines.new()
    assert line.pop("filter").pop("since").endswith("Z")
    assert line == {"action": "cancel", **NAMED, "count": 3, "first_job": jobs[0],
                    "last_job": jobs[2]}  # fmt: skip
    assert read(site, job=jobs[1])[0]["count"] == 3


@pytest.mark.parametrize("to", ["rerun", "delete"])
def test_bulk_reruns_and_deletions_have_one_line(site: Site, lines: Lines, to: str) -> None:
    jobs = [site.job_maker.ended(status=Status.FAILED, queue=f"b-{to}") for _ in range(2)]
    chosen = choose(site, to=to, queue=f"b-{to}")
    for job in jobs:
        sent = {"Tailboard-Bulk": chosen["bulk"]}
        path, method = (
            (f"/jobs/{job}/rerun", "POST") if to == "rerun" else (f"/jobs/{job}", "DELETE")
        )
        assert site.ask(method, path, headers=sent).ok
    [line] = lines.new()
    assert (line["action"], line["count"], line["filter"]) == (to, 2, {"queue": f"b-{to}"})


def test_a_bulk_action_can_hide_no_other_action(site: Site, lines: Lines) -> None:
    jobs, other = some(site, "hide"), submit(site, queue="hide-2")
    bulk = choose(site, to="cancel", queue="hide")["bulk"]
    lines.new()
    assert cancel(site, jobs[0], bulk) == 202
    assert [line.get("count") for line in lines.new()] == [3]

    def is_seen(job: str, bulk: str = bulk, **headers: str) -> None:
        assert cancel(site, job, bulk, **headers) == 202
        [line] = lines.new()
        assert (line["action"], line["job"]) == ("cancel", job)

    is_seen(other)  # it was not chosen
    is_seen(submit_(site, lines), "b_0123456789abcdef")  # unknown, or forgotten
    is_seen(submit_(site, lines), "")
    is_seen(jobs[1], **bearer(BEN))  # another visitor
    assert site.ask("DELETE", f"/jobs/{jobs[0]}", headers={"Tailboard-Bulk": bulk}).ok
    assert [line["action"] for line in lines.new()] == ["delete"]  # another action
    assert site.post(f"/jobs/{jobs[1]}/rerun", headers={"Tailboard-Bulk": bulk}).ok
    assert [line["action"] for line in lines.new()] == ["rerun"]
    assert cancel(site, jobs[2], bulk) == 202
    assert lines.new() == []


def test_a_bulk_rerun_does_not_hide_the_jobs_that_waited(tmp_path: Path) -> None:
    client = create_app({"STORAGE": tmp_path / "jobs"}).test_client()
    root, child = cancel_with_child(client)
    bulk = client.get("/bulk?to=rerun").get_json()["bulk"]
    sent = {"json": {"with_after": True}, "headers": {"Tailboard-Bulk": bulk}}
    made = client.post(f"/jobs/{root}/rerun", **sent).get_json()
    assert len(made["reruns"]) == 1
    line = client.get("/audit?limit=1").get_json()["entries"][0]
    assert (line["action"], line["rerun_of"], line["dependents"]) == ("rerun", root, 1)
    again = client.post(f"/jobs/{child}/rerun", headers=sent["headers"])
    assert again.status_code == 201
    assert client.get("/audit?limit=1").get_json()["entries"][0]["count"] == 2


def submit_(site: Site, lines: Lines) -> str:
    job = submit(site)
    lines.new()
    return job


def test_the_second_cancel_of_a_chosen_job_has_a_line(site: Site, lines: Lines) -> None:
    held = site.job_maker.running(queue="twice")
    bulk = choose(site, to="cancel", queue="twice")["bulk"]
    assert [cancel(site, held.job.id, bulk) for _ in range(2)] == [202, 202]
    assert [line.get("count", line.get("job")) for line in lines.new()] == [1, held.job.id]
    site.job_maker.finish(held, Status.CANCELLED)


def test_a_bulk_action_that_failed_has_no_line(site: Site, lines: Lines) -> None:
    [job] = some(site, "failing", 1)
    bulk = choose(site, to="cancel", queue="failing")["bulk"]
    site.post(f"/jobs/{job}/cancel")
    lines.new()
    assert cancel(site, job, bulk) == 409
    assert lines.new() == []
    assert choose(site, to="cancel", queue="failing")["bulk"] is None


def test_few_bulk_actions_are_remembered_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, anna = BulkMemory(), Actor("anna", "named", None)

    def remember(*ids: str) -> str:
        name = memory.remember(Action.CANCEL, anna, {}, ids)
        assert name is not None
        return name

    def knows(name: str, job: str) -> bool:
        return memory.subject_of(name, Action.CANCEL, anna, job) is not None

    first = remember("a", "b")
    assert knows(first, "a")
    for _ in range(bulk_memory.MOST_BULKS):
        last = remember("c")
    assert not knows(first, "b") and knows(last, "c")
    monkeypatch.setattr(bulk_memory, "MOST_IDS", 5)
    large, small = remember(*"defg"), remember("h")
    assert knows(large, "d") and knows(small, "h")
    remember("i", "j", "k")
    assert not knows(large, "e")
    assert memory.remember(Action.CANCEL, anna, {}, list("klmnop")) is None
    old = remember("q")
    clock = time.monotonic
    monkeypatch.setattr(bulk_memory.time, "monotonic", lambda: clock() + bulk_memory.LONGEST + 1)
    assert not knows(old, "q")


# --- Reading --------------------------------------------------------------------------------------


def test_the_log_is_read_page_by_page(site: Site) -> None:
    jobs = [submit(site) for _ in range(3)]
    found: list[str] = []
    before = None
    while len(found) < 3:
        query = {"limit": 1, "by": "anna"} | ({"before": before} if before else {})
        page = site.get("/audit", params=query).json()
        found += [line["job"] for line in page["entries"]]
        assert page["damaged"] == 0
        before = page["next"]
    assert found == jobs[::-1]
    assert read(site, since="0s") == [] and read(site, by="nobody") == []
    assert [line["job"] for line in read(site, since="1h", job=jobs[0])] == [jobs[0]]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"since": "x"}, "since must be like 30s"),
        ({"job": "x"}, "job must be the ID of a job"),
        ({"limit": "0"}, "limit must be a whole number from 1 to 500"),
        ({"before": "x"}, "before must be the value of `next`"),
        ({"before": "1-1"}, "before must be the value of `next`"),
        ({"by": ""}, "by must be a name of 1 to 200 characters"),
        ({"who": "anna"}, "unknown field 'who'"),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_sentence(
    site: Site, query: Line, sentence: str
) -> None:
    is_problem(site.get("/audit", params=query), 400, sentence)


def test_the_log_needs_a_token(site: Site) -> None:
    assert requests.get(f"{site.url}/audit", timeout=30).status_code == 401
    ticket = site.post("/ticket").json()["ticket"]
    assert requests.get(f"{site.url}/audit?ticket={ticket}", timeout=30).status_code == 401


# --- A log that cannot be written -----------------------------------------------------------------


def test_an_action_succeeds_without_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "jobs"
    client = create_app({"STORAGE": folder}).test_client()
    (folder / "audit").write_text("a file is in the way of the folder")
    made = client.post("/jobs", json={"command": "true", "name": "grüße"})
    assert made.status_code == 201
    [record] = [each for each in caplog.records if each.message.startswith("audit:")]
    text, _, line = record.message.partition(" line=")
    assert "audit log reason=" in text and json.loads(line)["job"] == made.get_json()["id"]
    assert client.get("/audit").status_code == 503
    (folder / "audit").unlink()
    client.post(f"/jobs/{made.get_json()['id']}/cancel")
    assert [each["action"] for each in client.get("/audit").get_json()["entries"]] == ["cancel"]
