"""Notifications over HTTP: rules and pings of jobs and saved commands, named URLs, recent
notifications and test messages. URLs contain secrets, which no response shows."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import BY_HAND, JobMaker, Site, wait_until
from flask.testing import FlaskClient
from other_servers import Answer, Request, serve
from web import UNKNOWN, is_problem

import api
from storage import WorkerStore
from tailboard.notices import Delivery, Notice, NoticeRecord
from tailboard.notify_rules import Rule, mask_target
from tailboard.run.webhook import webhook_body
from tailboard.values import utc
from tailboard.web.state import MOST_TESTS

SECRET = "s3cret-t0ken"
MAIL = f"mailtos://anna:{SECRET}@mail.example.org/?to=anna@example.org"
HOOK = f"json://hooks.example.org/{SECRET}"
OTHER_HOOK = f"json://hooks.example.org/{SECRET}-2"
PING = f"https://ping.example.org/{SECRET}"
SHOWN_MAIL, SHOWN_HOOK = "mailtos://mail.example.org/…", "json://hooks.example.org/…"


def rule(to: str, *events: str) -> Rule:
    return {"on": list(events or ("failed", "lost")), "to": to}


def sentence(answer: Any) -> str:
    """The sentence of a response with status 400."""
    assert answer.status_code == 400, answer.text
    assert SECRET not in answer.text
    return str(answer.get_json()["detail"])


# --- Rules ----------------------------------------------------------------------------------------


def test_a_wrong_rule_is_refused_with_its_place(client: FlaskClient) -> None:
    allowed = (
        'notify must be a list of up to 20 rules {"on": [events], "to": a URL or its name}, '
        "or null for the default; the events are failed, timed_out, lost, cancelled, succeeded, "
        "recovered, late, silent, missed, waiting"
    )
    for notify, place in [
        ("ops", ""),
        ({}, ""),
        ([rule(HOOK)] * 21, ""),
        (["ops"], "; wrong: item 1"),
        ([rule(HOOK), {"on": ["failed"]}], "; missing: 'to' of item 2"),
        ([rule(HOOK) | {"why": SECRET}], "; unknown: 'why' of item 1"),
        ([rule(HOOK, "failed", "finished")], "; wrong: item 2 of 'on' of item 1"),
        ([{"on": [], "to": HOOK}], "; wrong: 'on' of item 1"),
        ([{"on": "failed", "to": HOOK}], "; wrong: 'on' of item 1"),
        ([rule(HOOK, *["failed"] * 11)], "; wrong: 'on' of item 1"),
        ([rule("Ops")], "; wrong: 'to' of item 1"),
        ([rule(f"{HOOK} x")], "; wrong: 'to' of item 1"),
        ([rule(f"{HOOK}\0")], "; wrong: 'to' of item 1"),
        ([rule(f"json://{SECRET * 200}")], "; wrong: 'to' of item 1"),
    ]:
        for method, path in (("POST", "/jobs"), ("PUT", "/saved/backup")):
            body = {"command": "true", "notify": notify}
            answer = client.open(path, method=method, json=body)
            assert sentence(answer) == allowed + place, notify
    assert client.get("/jobs").get_json()["jobs"] == []


def test_a_target_to_which_nothing_can_be_sent_is_refused(client: FlaskClient) -> None:
    client.put("/notifications/targets/ops", json={"url": MAIL})
    known = "notify: there is no URL named 'nobody'; known names: ops"
    hidden = f"notify: the end of {SHOWN_HOOK} is hidden: give the whole URL, or the name of one"
    for method, path in (("POST", "/jobs"), ("PUT", "/saved/x"), ("PUT", "/saved/x?check=1")):

        def refused(*rules: Rule, method: str = method, path: str = path) -> str:
            body = {"command": "true", "notify": list(rules)}
            return sentence(client.open(path, method=method, json=body))

        assert refused(rule("ops"), rule("nobody")) == known
        assert refused(rule(SHOWN_HOOK)) == hidden
        assert refused(rule("nothing://x")).startswith("notify: ")


@pytest.mark.parametrize(
    "ping",
    [
        "ftp://example.org",
        "https://",
        "https://a b",
        "http://example.org:99999",
        "https://x/" + "y" * 2_000,
        7,
    ],
)
def test_a_ping_must_be_the_url_of_a_web_server(client: FlaskClient, ping: object) -> None:
    answer = client.put("/saved/backup", json={"command": "true", "ping": ping})
    allowed = "ping must be an http:// or https:// URL of up to 2,000 characters, or null"
    assert sentence(answer) == allowed


def test_no_rules_and_the_default_are_different(client: FlaskClient, job_maker: JobMaker) -> None:
    for given, stored in (({}, None), ({"notify": None}, None), ({"notify": []}, [])):
        job = client.post("/jobs", json={"command": "true", "queue": BY_HAND} | given).get_json()
        assert job["notify"] == stored == job_maker.storage.get(job["id"]).notify
        again = client.post(f"/jobs/{job['id']}/rerun").get_json()
        assert again["notify"] == stored == job_maker.storage.get(again["id"]).notify
        saved = client.put("/saved/x", json={"command": "true"} | given).get_json()
        assert saved["notify"] == stored == job_maker.storage.saved.load("x").notify
        run = client.post("/saved/x/run").get_json()
        assert run["notify"] == stored == job_maker.storage.get(run["id"]).notify


def test_the_numbers_of_a_warning_are_seconds(client: FlaskClient) -> None:
    body = {"command": "true", "queue": BY_HAND}
    job = client.post("/jobs", json=body | {"warn_after": 90, "warn_waiting": 0.5}).get_json()
    assert (job["warn_after"], job["warn_waiting"]) == (90, 0.5)
    for field in ("warn_after", "warn_waiting"):
        for value in (0, -1, 1e10, "60"):
            allowed = f"{field} must be a number of seconds above 0 and up to 1,000,000,000"
            assert sentence(client.post("/jobs", json=body | {field: value})) == allowed


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (MAIL, SHOWN_MAIL),
        ("JSON://a:b@hooks.example.org:8080?x", "json://hooks.example.org:8080/…"),
        (f"json://[::1]:80/{SECRET}", "json://[::1]:80/…"),
        (f"mailto://anna:pass/{SECRET}@example.org", "mailto://…"),
        (f"mailto://anna:pass#{SECRET}@example.org", "mailto://…"),
        (f"ntfys://{SECRET}", "ntfys://…"),
        (f"slack://{SECRET}/b/c", "slack://…"),
        ("ops", "ops"),
    ],
)
def test_only_the_scheme_and_the_host_of_a_url_are_shown(url: str, shown: str) -> None:
    assert mask_target(url) == shown


# --- Hidden ends ----------------------------------------------------------------------------------


def test_no_response_shows_the_secret_part_of_a_url(site: Site) -> None:
    rules = [rule(MAIL), rule(HOOK, "succeeded"), rule(f"ntfys://{SECRET}", "late")]
    body = {"command": "true", "queue": BY_HAND, "notify": rules}
    job = site.post("/jobs", body).json()
    assert [each["to"] for each in job["notify"]] == [SHOWN_MAIL, SHOWN_HOOK, "ntfys://…"]
    saved = site.ask("PUT", "/saved/secretive", json=body | {"ping": PING}).json()
    assert saved["ping"] == "https://ping.example.org/…"
    site.ask("PUT", "/notifications/targets/secretive", json={"url": MAIL})
    storage = site.job_maker.storage
    sent = [Delivery(to=to["to"], error="refused") for to in rules]
    notices = [Notice(event="failed", at=utc(), text="", deliveries=sent)]
    storage.notices.save(NoticeRecord(job=job["id"], title="true", notices=notices))
    tested = site.post("/notifications/test", {"to": f"{HOOK}?x", "saved": "secretive"}).text
    seen = [
        json.dumps([job, saved, tested]),
        *(site.get(path).text for path in ("/jobs", f"/jobs/{job['id']}", "/saved?env=1")),
        *(site.get(path).text for path in ("/notifications", "/notifications/targets")),
        *(site.post(path).text for path in (f"/jobs/{job['id']}/rerun", "/saved/secretive/run")),
        site.post(f"/jobs/{job['id']}/cancel").text,
        site.processes.text(),
        json.dumps(webhook_body(storage.get(job["id"]))),
    ]
    assert not [text for text in seen if SECRET in text]
    assert storage.get(job["id"]).notify == rules
    site.ask("DELETE", "/notifications/targets/secretive")
    site.ask("DELETE", "/saved/secretive")


def test_a_saved_command_keeps_urls_that_are_sent_back_hidden(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    rules = [rule(HOOK), rule(OTHER_HOOK, "late"), rule(MAIL, "recovered")]
    client.put("/saved/x", json={"command": "true", "notify": rules, "ping": PING})
    read = client.get("/saved/x").get_json()
    first, second, third = read["notify"]
    assert first["to"] == second["to"] == SHOWN_HOOK
    assert client.put("/saved/x?check=1", json=read).get_json()["notify"] == read["notify"]
    assert client.put("/saved/x", json=read | {"retries": 3}).status_code == 200
    stored = job_maker.storage.saved.load("x")
    assert (stored.notify, stored.ping, stored.retries) == (rules, PING, 3)
    changed = read | {"notify": [third | {"on": ["lost"]}, first], "ping": None}
    assert client.put("/saved/x", json=changed).status_code == 200
    stored = job_maker.storage.saved.load("x")
    assert (stored.notify, stored.ping) == ([rule(MAIL, "lost"), rule(HOOK)], None)
    hidden = "ping: the end of https://ping.example.org/… is hidden"
    assert sentence(client.put("/saved/x", json=read)).startswith(hidden)
    assert "notify: the end of" in sentence(client.put("/saved/y", json=read | {"ping": None}))


def test_rules_of_a_job_are_kept_when_it_is_saved_or_submitted_with_changes(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    job = client.post("/jobs", json={"command": "true", "notify": [rule(HOOK)]}).get_json()
    body = {"command": "true", "queue": BY_HAND, "notify": job["notify"]}
    changed = client.post(f"/jobs?like={job['id']}", json=body).get_json()
    assert job_maker.storage.get(changed["id"]).notify == [rule(HOOK)]
    assert client.put(f"/saved/x?like={job['id']}", json=body).status_code == 201
    assert job_maker.storage.saved.load("x").notify == [rule(HOOK)]
    unknown = sentence(client.post(f"/jobs?like={UNKNOWN}", json=body))
    assert unknown == f"like: there is no job '{UNKNOWN}'"
    assert sentence(client.post("/jobs?like=x", json=body)).startswith("like must be the ID of")


def test_a_command_can_be_paused_after_a_name_in_its_rules_was_removed(
    client: FlaskClient,
) -> None:
    client.put("/notifications/targets/ops", json={"url": MAIL})
    client.put("/saved/x", json={"command": "true", "notify": [rule("ops")]})
    job = client.post("/saved/x/run").get_json()
    assert client.delete("/notifications/targets/ops").status_code == 204
    read = client.get("/saved/x").get_json()
    assert client.put("/saved/x", json=read | {"paused": True}).status_code == 200
    assert client.post(f"/jobs/{job['id']}/rerun").status_code == 201
    changed = {"command": "true", "notify": job["notify"]}
    assert client.post(f"/jobs?like={job['id']}", json=changed).status_code == 201
    new = sentence(client.put("/saved/y", json=read))
    assert new == "notify: there is no URL named 'ops'; known names: none"


# --- Named URLs -----------------------------------------------------------------------------------


def test_a_url_can_be_named_replaced_and_removed(client: FlaskClient, folder: Path) -> None:
    path = "/notifications/targets/ops"
    shown = {"name": "ops", "to": SHOWN_MAIL}
    for url, status in ((MAIL, 201), (HOOK, 200), (SHOWN_HOOK, 200), (MAIL, 200)):
        assert client.put(path, json={"url": url}).status_code == status
    assert client.get("/notifications/targets").get_json() == {"targets": [shown]}
    assert json.loads((folder / "notify.json").read_text()) == {"ops": MAIL}
    assert stat.S_IMODE((folder / "notify.json").stat().st_mode) == 0o600
    assert client.delete(path).status_code == 204
    is_problem(client.delete(path), 404, "there is no URL named 'ops'; known names: none")
    assert client.get("/notifications/targets").get_json() == {"targets": []}


@pytest.mark.parametrize(
    ("name", "body", "begin"),
    [
        ("Ops", {"url": MAIL}, "the name of a URL must be 1 to 64 of the characters a-z 0-9 _ - ."),
        (
            "ops",
            {"url": "anna"},
            "url must be a URL such as mailto://… or ntfys://… of up to 2,000",
        ),
        ("ops", {"url": f"{MAIL} x"}, "url must be a URL such as"),
        ("ops", {"url": 7}, "url must be a URL such as"),
        ("ops", {}, "url must be a URL such as"),
        ("ops", {"to": MAIL}, "unknown field 'to'; allowed fields: url"),
        ("ops", {"url": "nothing://x"}, "url: "),
        ("ops", {"url": SHOWN_MAIL}, f"url: the end of {SHOWN_MAIL} is hidden: give the whole"),
    ],
)
def test_a_bad_name_or_url_is_refused(
    client: FlaskClient, name: str, body: object, begin: str
) -> None:
    answer = client.put(f"/notifications/targets/{name}", json=body)
    assert sentence(answer).startswith(begin), answer.text


def test_named_urls_that_cannot_be_read_are_reported_without_their_content(
    client: FlaskClient, folder: Path
) -> None:
    (folder / "notify.json").write_text(json.dumps({"ops": f"{SECRET} {SECRET}"}))
    (folder / "notify.json").chmod(0o600)
    body = {"command": "true", "notify": [rule("ops")]}
    for answer in (
        client.get("/notifications/targets"),
        client.put("/notifications/targets/ops", json={"url": MAIL}),
        client.post("/jobs", json=body),
    ):
        assert SECRET not in is_problem(answer, 503, "notify.json cannot be used: ")["detail"]
    assert client.post("/jobs", json=body | {"notify": [rule(MAIL)]}).status_code == 201


def test_names_and_records_work_in_each_storage(store_url: str, store: WorkerStore) -> None:
    client = api.create_app({"STORAGE": store_url}).test_client()
    path = "/notifications/targets/ops"
    assert client.put(path, json={"url": MAIL}).status_code == 201
    body = {"command": "true", "queue": BY_HAND, "notify": [rule("ops"), rule(HOOK)]}
    job = client.post("/jobs", json=body).get_json()
    assert job["notify"] == [rule("ops"), rule(SHOWN_HOOK)]
    assert client.post(f"/jobs/{job['id']}/rerun").get_json()["notify"] == job["notify"]
    notice = Notice(event="late", at=utc(), deliveries=[Delivery(to=HOOK)])
    store.notices.save(NoticeRecord(job=job["id"], title="true", notices=[notice]))
    assert client.get(f"/jobs/{job['id']}").get_json()["notifications"] == [notice.as_dict()]
    listed = client.get("/notifications").get_json()["notifications"]
    assert [(each["job"], each["event"]) for each in listed] == [(job["id"], "late")]
    assert client.delete(path).status_code == 204
    assert client.get("/notifications/targets").get_json() == {"targets": []}
    client.application.extensions["tailboard"].store.close()


# --- Recent notifications -------------------------------------------------------------------------


def test_recent_notifications_are_listed_newest_first(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    now = time.time()
    ids = [job_maker.ended(b"") for _ in range(2)]
    old = Notice(event="late", at=utc(now - 2 * 86_400))
    recent = [Notice(event="failed", at=utc(now - 60 * n), text=f"n{n}") for n in range(3)]
    ping = Notice(event="ping end", at=utc(now))
    sent = Delivery(to=MAIL, tries=2, next_at=None, sent_at=utc(now))
    recent[0].deliveries = [sent]
    notices = job_maker.storage.notices
    notices.save(NoticeRecord(job=ids[0], title="a", notices=[old, recent[1]]))
    notices.save(
        NoticeRecord(job=ids[1], title="b", saved="b", notices=[recent[2], recent[0], ping])
    )
    answer = client.get("/notifications")
    found = answer.get_json()["notifications"]
    assert [each["text"] for each in found] == ["n0", "n1", "n2"]
    assert found[0] == {
        "job": ids[1],
        "title": "b",
        "saved": "b",
        "event": "failed",
        "at": utc(now),
        "text": "n0",
        "deliveries": [sent.as_dict()],
    }
    seen = {"If-None-Match": answer.headers["ETag"]}
    assert client.get("/notifications", headers=seen).status_code == 304

    def texts(query: str) -> list[str]:
        listed = client.get(f"/notifications?{query}").get_json()["notifications"]
        return [each["text"] for each in listed]

    assert texts("limit=2") == ["n0", "n1"] and texts("since=90s") == ["n0", "n1"]
    assert texts("since=7d") == ["n0", "n1", "n2", ""]
    shown = client.get(f"/jobs/{ids[1]}").get_json()["notifications"]
    assert [each["event"] for each in shown] == ["failed", "failed", "ping end"]
    assert sentence(client.get("/notifications?since=soon")).startswith("since must be like 30s")
    assert sentence(client.get("/notifications?limit=0")).startswith("limit must be a whole number")


# --- Test messages --------------------------------------------------------------------------------


@contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[Request]]]:
    """The URL for Apprise of a server that receives messages, and what it has received."""
    received: list[Request] = []

    def respond(request: Request) -> Answer:
        received.append(request)
        return Answer(status)

    with serve(respond) as url:
        yield url.replace("http://", "json://"), received


def test_a_test_message_is_sent_once_and_its_answer_reported(client: FlaskClient) -> None:
    with receiver() as (url, received):
        client.put("/notifications/targets/ops", json={"url": f"{url}/{SECRET}"})
        answer = client.post("/notifications/test", json={"to": "ops"}).get_json()
        assert (answer["to"], answer["ok"]) == ("ops", True)
        [request] = received
        assert request.path == f"/{SECRET}" and "test" in json.loads(request.body)["title"]
    with receiver(403) as (url, received):
        command = {"command": "true", "notify": [rule(f"{url}/{SECRET}")]}
        shown = client.put("/saved/x", json=command).get_json()["notify"][0]["to"]
        for body in ({"to": f"{url}/{SECRET}"}, {"to": shown, "saved": "x"}):
            answer = client.post("/notifications/test", json=body).get_json()
            assert (answer["to"], answer["ok"]) == (shown, False), answer
            assert answer["answer"] and SECRET not in answer["answer"]
        assert [request.path for request in received] == [f"/{SECRET}"] * 2
    for body, begin in (
        ({"to": "nobody"}, "to: there is no URL named 'nobody'; known names: ops"),
        ({"to": shown}, f"to: the end of {shown} is hidden"),
        ({"to": shown, "saved": "y"}, f"to: the end of {shown} is hidden"),
        ({"to": "nothing://x"}, "to: "),
        ({"to": ""}, "to must be a URL or its name"),
        ({}, "to must be a URL or its name"),
    ):
        assert sentence(client.post("/notifications/test", json=body)).startswith(begin)


def test_only_a_few_test_messages_are_sent_at_a_time(client: FlaskClient, site: Site) -> None:
    started: list[Request] = []
    released: list[bool] = []

    def respond(request: Request) -> Answer:
        started.append(request)
        wait_until(lambda: released)
        return Answer(200)

    with serve(respond) as url, ThreadPoolExecutor(MOST_TESTS) as pool:
        body = {"to": url.replace("http://", "json://")}
        sent = [pool.submit(site.post, "/notifications/test", body) for _ in range(MOST_TESTS)]
        wait_until(lambda: len(started) == MOST_TESTS)
        refused = site.post("/notifications/test", body)
        is_problem(refused, 503, "too many test messages are being sent")
        assert refused.headers["Retry-After"] and site.get("/jobs").ok
        released.append(True)
        assert [each.result().json()["ok"] for each in sent] == [True] * MOST_TESTS
    assert site.post("/notifications/test", {"to": "nothing://x"}).status_code == 400
