"""Who is let in: the tests try every known way around authentication, for each route."""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from conftest import (
    TOKEN,
    JobMaker,
    Processes,
    Site,
    address_of_this_machine,
    free_port,
    wait_until,
)
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from web import JSON, UNKNOWN, count_jobs, is_problem, raw, status_of

from api import create_app

DASHBOARD = "http://localhost:8501"
SECRET = "what stands outside of the jobs folder"


# --- Without a token: this machine's programs only ------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:80@evil.example",
        "evil.example\tlocalhost",
        "localhost, evil.example",
        "localhost evil.example",
        "xlocalhost",
        "localhost.",
        "localhost:",
        "localhost:80:80",
        "0.0.0.0",
        "0",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "[::]",
        "[::1",
        "::1",
        "[::ffff:127.0.0.1]",
        "192.0.2.1",
        "\uff11\uff12\uff17.0.0.1",
        "127.0.0.1\x00",
        "",
    ],
)
def test_a_host_that_is_not_loopback_is_refused(site: Site, host: str) -> None:
    """DNS rebinding: a page's own name is made to resolve to 127.0.0.1."""
    before = count_jobs(site)
    for method, path, body in (("GET", "/jobs", b""), ("POST", "/jobs", b'{"command": "true"}')):
        answer = raw(site, method, path, [("Host", host), *JSON.items()], body)
        assert status_of(answer) in (400, 403), answer
        assert b'"jobs"' not in answer
    assert count_jobs(site) == before


def test_a_request_with_no_host_or_two_is_refused(site: Site) -> None:
    assert status_of(raw(site, "GET", "/jobs")) in (400, 403)
    assert status_of(site.raw(b"GET /jobs HTTP/1.0\r\n\r\n")) in (400, 403)
    hosts = [("Host", "localhost"), ("Host", "evil.example")]
    for order in (hosts, hosts[::-1]):
        assert status_of(raw(site, "GET", "/jobs", [*order])) in (400, 403)
    for target in ("http://evil.example/jobs", "https://evil.example/jobs"):
        answer = raw(site, "GET", target, [("Host", "evil.example")])
        assert status_of(answer) in (400, 403, 404)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:65535", "127.9.9.9", "[::1]:5000"]
)
def test_a_loopback_host_is_served(site: Site, host: str) -> None:
    assert status_of(raw(site, "GET", "/jobs", [("Host", host)])) == 200


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; charset=application/json",
        "text/plain;application/json",
        "text/json",
        "application/json-patch+json",
        "application/jsonp",
        "application/xml",
        "",
        None,
    ],
)
def test_a_request_that_a_cross_site_form_can_send_is_refused(site: Site, kind: str | None) -> None:
    """A form can send these types without the browser's permission."""
    before = count_jobs(site)
    job = site.job_maker.queued()
    headers = {} if kind is None else {"Content-Type": kind}
    for path in ("/jobs", f"/jobs/{job.id}/cancel", f"/jobs/{job.id}/rerun"):
        answer = site.ask("POST", path, data=b'{"command": "true"}', headers=headers)
        is_problem(answer, 415, "application/json")
    assert count_jobs(site) == before + 1
    assert site.get(f"/jobs/{job.id}").json()["status"] == "queued"


@pytest.mark.parametrize("source", ["cross-site", "same-site"])
def test_a_request_from_another_sites_page_is_refused(site: Site, source: str) -> None:
    """A browser reports where a request comes from, even if it sends no Origin."""
    job = site.job_maker.queued()
    before = count_jobs(site)
    headers = {"Sec-Fetch-Site": source}
    for method, path in (
        ("POST", f"/jobs/{job.id}/cancel"),
        ("POST", f"/jobs/{job.id}/rerun"),
        ("DELETE", f"/jobs/{job.id}"),
    ):
        is_problem(site.ask(method, path, headers=headers), 403, "another site's page")
    json_headers = headers | {"Content-Type": "application/json"}
    answer = site.ask("POST", "/jobs", data=b'{"command": "true"}', headers=json_headers)
    is_problem(answer, 403, "another site's page")
    assert count_jobs(site) == before
    assert site.get(f"/jobs/{job.id}").json()["status"] == "queued"
    assert site.get(f"/jobs/{job.id}/logs?download=1", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_a_post_without_a_body_needs_no_content_type(site: Site, headers: dict[str, str]) -> None:
    job = site.job_maker.queued()
    answer = site.ask("POST", f"/jobs/{job.id}/cancel", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert site.ask("POST", f"/jobs/{job.id}/rerun", headers=headers).status_code == 201
    is_problem(site.ask("POST", "/jobs", headers=headers), 400, "JSON object")


def test_a_refused_client_learns_nothing_else(locked: Site) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/jobs", "/jobs/none/cancel", "/nowhere"):
        answer = requests.post(f"{locked.url}{path}", data="a=b", headers=form, timeout=30)
        is_problem(answer, 401, "token")
        foreign = form | {"Origin": "http://evil.example"}
        answer = requests.post(f"{locked.url}{path}", data="a=b", headers=foreign, timeout=30)
        is_problem(answer, 403, "another site's page")


FOREIGN = """null http://evil.example https://localhost:8501 http://localhost:8501.evil.example
http://localhost http://localhost:1 http://127.0.0.1:85010 http://evil.example:8501 file://
http://localhost:8501@evil.example http://localhost:8501/ undefined""".split()


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_is_refused(site: Site, origin: str) -> None:
    job = site.job_maker.queued()
    before = count_jobs(site)
    headers = {"Origin": origin}
    for method, path in (
        ("GET", "/jobs"),
        ("GET", f"/jobs/{job.id}/logs"),
        ("GET", f"/jobs/{job.id}/logs?follow=1"),
        ("GET", "/healthz"),
        ("POST", "/jobs"),
        ("POST", f"/jobs/{job.id}/cancel"),
        ("DELETE", f"/jobs/{job.id}"),
        ("OPTIONS", "/jobs"),
    ):
        body: Any = {"command": "true"} if method == "POST" else None
        answer = site.ask(method, path, headers=headers, json=body)
        is_problem(answer, 403, "another site")
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert count_jobs(site) == before
    assert site.get(f"/jobs/{job.id}").json()["status"] == "queued"


@pytest.mark.parametrize("origin", [DASHBOARD, "http://127.0.0.1:9", "https://a.example"])
@pytest.mark.parametrize("name", ["site", "locked"])
def test_a_page_can_read_logs_with_the_ticket_for_its_origin(
    request: pytest.FixtureRequest, name: str, origin: str
) -> None:
    site: Site = request.getfixturevalue(name)
    job_id, other = site.job_maker.ended(b"text\n"), site.job_maker.ended(b"other\n")
    for path, gone in (("/ticket", UNKNOWN), (f"/jobs/{job_id}/ticket", job_id)):
        key = site.post(path, {"origin": origin}).json()["ticket"]
        for query in ("", "&follow=1"):
            for accept in ("*/*", "text/event-stream"):
                url = f"{site.url}/jobs/{job_id}/logs?ticket={key}{query}"
                headers = {"Origin": origin, "Accept": accept}
                answer = requests.get(url, headers=headers, timeout=30)
                assert answer.status_code == 200 and "text" in answer.text
                assert answer.headers["Access-Control-Allow-Origin"] == origin
                assert "Origin" in answer.headers["Vary"]
                assert "Access-Control-Allow-Credentials" not in answer.headers
                preflight = requests.options(url, headers=headers, timeout=30)
                assert preflight.headers["Access-Control-Allow-Origin"] == origin
        late = site.get(f"/jobs/{gone}/logs?ticket={key}&offset=9", headers={"Origin": origin})
        assert late.status_code in (404, 416)
        assert (
            late.headers["Access-Control-Allow-Origin"] == origin
        )  # so that the response can give the reason
    refused = site.get(f"/jobs/{other}/logs?ticket={key}", headers={"Origin": origin})
    is_problem(refused, 403, "another site")  # the ticket was for one log


def test_a_ticket_does_not_let_other_pages_read_or_any_page_change_anything(site: Site) -> None:
    job_id = site.job_maker.ended(b"text\n")
    key = site.post("/ticket", {"origin": DASHBOARD}).json()["ticket"]
    plain = site.post("/ticket").json()["ticket"]
    for_log = f"/jobs/{job_id}/logs?ticket={key}"
    for method, path, origin in (
        *(
            ("GET", for_log, foreign)
            for foreign in ("http://127.0.0.1:8501", "null", f"{DASHBOARD}0")
        ),
        ("GET", f"/jobs/{job_id}/logs", DASHBOARD),
        ("GET", f"/jobs/{job_id}/logs?ticket={plain}", DASHBOARD),
        ("GET", f"/jobs/{job_id}/logs?ticket={key}x", DASHBOARD),
        ("GET", f"/jobs?ticket={key}", DASHBOARD),
        ("POST", f"/jobs/{job_id}/rerun?ticket={key}", DASHBOARD),
        ("DELETE", f"/jobs/{job_id}?ticket={key}", DASHBOARD),
        ("POST", f"/ticket?ticket={key}", DASHBOARD),
        ("POST", "/ticket", DASHBOARD),
    ):
        body = {"origin": DASHBOARD} if path.startswith("/ticket") else None
        answer = site.ask(method, path, headers={"Origin": origin}, json=body)
        is_problem(answer, 403, "another site")
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert site.get(f"/jobs/{job_id}").json()["status"] == "succeeded"


NO_ORIGINS: list[Any] = """null file:// http:// http://a.example/ http://a.example/x http://a@b
http://a.example?b http://a.example#b ftp://a.example a.example:80""".split()
NO_ORIGINS += ["", "http://a example", "http://a.example\n", f"http://{'a' * 300}", 5, []]


def test_a_ticket_can_only_be_made_for_an_origin(site: Site) -> None:
    for origin in NO_ORIGINS:
        answer = site.post("/ticket", {"origin": origin})
        is_problem(answer, 400, "origin must be the scheme, host and port of a page")
    is_problem(site.post("/ticket", {"page": DASHBOARD}), 400, "'page'", "origin")


def test_a_listed_page_can_read_and_a_ticket_admits_no_other(
    job_maker: JobMaker, folder: Path
) -> None:
    client = create_app({"STORAGE": folder, "DASHBOARD": "https://a.example"}).test_client()
    job_id = job_maker.ended(b"text\n")
    key = client.post("/ticket", json={"origin": DASHBOARD}).json["ticket"]  # type: ignore[index]
    for query in ("", f"?ticket={key}"):
        path = f"/jobs/{job_id}/logs{query}"
        read = client.get(path, headers={"Origin": "https://a.example"})
        assert read.headers["Access-Control-Allow-Origin"] == "https://a.example"
        is_problem(client.get(path, headers={"Origin": DASHBOARD}), 403)
    gone = client.get(f"/jobs/{UNKNOWN}", headers={"Origin": "https://a.example"})
    assert gone.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_the_servers_own_origin_needs_no_permission(site: Site) -> None:
    answer = site.get("/jobs", headers={"Origin": site.url})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_without_an_origin_no_page_is_allowed(site: Site) -> None:
    answer = site.get("/jobs")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.headers["Vary"]  # a cache must keep the responses apart


def test_the_dashboards_origin_is_a_setting(job_maker: JobMaker, folder: Path) -> None:
    config = {"STORAGE": folder, "DASHBOARD": "https://a.example/, https://b.example:8443"}
    client = create_app(config).test_client()
    for origin in ("https://a.example", "https://b.example:8443"):
        answer = client.get("/jobs", headers={"Origin": origin})
        assert answer.headers["Access-Control-Allow-Origin"] == origin
    is_problem(client.get("/jobs", headers={"Origin": DASHBOARD}), 403)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Forwarded", "for=192.0.2.1"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("x-forwarded-for", ""),
        ("X-FORWARDED-HOST", "localhost"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "127.0.0.1"),
    ],
)
def test_a_request_through_a_proxy_is_refused(site: Site, name: str, value: str) -> None:
    answer = raw(site, "GET", "/jobs", [("Host", "localhost"), (name, value)])
    assert status_of(answer) == 403
    assert b"proxy" in answer


@pytest.mark.parametrize(
    "address", ["192.0.2.7", "10.0.0.1", "::2", "fe80::1", "0.0.0.0", "", None]
)
def test_a_peer_that_is_not_this_machine_is_refused(
    client: FlaskClient, address: str | None
) -> None:
    for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Host": "127.0.0.1"}):
        answer = client.get("/jobs", headers=headers, environ_overrides={"REMOTE_ADDR": address})
        is_problem(answer, 403)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_a_peer_on_loopback_is_served(client: FlaskClient, address: str) -> None:
    assert client.get("/jobs", environ_overrides={"REMOTE_ADDR": address}).status_code == 200


def test_without_a_token_only_loopback_is_served_on_any_bind(
    processes: Processes,
) -> None:
    address = address_of_this_machine()
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    command = (sys.executable, "api.py")
    processes.serve(f"{here}/healthz", *command, TAILBOARD_BIND=f"0.0.0.0:{port}")
    there = f"http://{address}:{port}/jobs"
    for host in (f"{address}:{port}", f"127.0.0.1:{port}", "localhost"):
        is_problem(requests.get(there, headers={"Host": host}, timeout=30), 403)
        body = {"command": "true"}
        is_problem(requests.post(there, json=body, headers={"Host": host}, timeout=30), 403)
    assert requests.get(f"{here}/jobs", timeout=30).json()["jobs"] == []


# --- With a token ---------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/jobs"),
    ("POST", "/jobs"),
    ("GET", f"/jobs/{UNKNOWN}"),
    ("DELETE", f"/jobs/{UNKNOWN}"),
    ("POST", f"/jobs/{UNKNOWN}/cancel"),
    ("POST", f"/jobs/{UNKNOWN}/rerun"),
    ("POST", f"/jobs/{UNKNOWN}/ticket"),
    ("POST", "/ticket"),
    ("GET", f"/jobs/{UNKNOWN}/logs"),
    ("GET", f"/jobs/{UNKNOWN}/logs?follow=1"),
    ("GET", "/workers"),
    ("GET", "/no/such/route"),
    ("PUT", "/jobs"),
    ("OPTIONS", "/jobs"),
    ("HEAD", "/jobs"),
]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


KEYS: list[str | bytes | None] = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer x",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN.upper()}",
    f"Bearer {TOKEN}, Bearer {TOKEN}",
    f"Bearer  {TOKEN}",
    f"Token {TOKEN}",
    TOKEN,
    basic("", TOKEN),
    basic(TOKEN, ""),
    "Bearer " + "x" * 8_000,
    f"Bearer {chr(0xFF43)}{TOKEN[1:]}".encode(),
    b"Bearer \xff\xfe",
]


def test_without_the_token_no_route_is_served(locked: Site) -> None:
    for method, path in ROUTES:
        for key in (None, f"Bearer {TOKEN}x"):
            headers = {"Authorization": key}
            body: Any = {"command": "true"} if method == "POST" else None
            answer = locked.ask(method, path, headers=headers, json=body)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")
            if method != "HEAD":
                is_problem(answer, 401, "token")
    assert count_jobs(locked) == len(locked.job_maker.storage.list()[0])


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:30])
def test_a_wrong_token_is_refused(locked: Site, key: str | bytes | None) -> None:
    answer = locked.get("/jobs", headers={"Authorization": key})
    is_problem(answer, 401, "token")
    assert TOKEN not in answer.text + str(answer.headers)


@pytest.mark.parametrize("query", ["token", "access_token", "ticket", "Authorization"])
def test_a_token_in_the_url_is_not_accepted(locked: Site, query: str) -> None:
    """A URL would be logged."""
    job_id = locked.job_maker.ended(b"text\n")
    for path in ("/jobs", f"/jobs/{job_id}/logs"):
        answer = requests.get(f"{locked.url}{path}", params={query: TOKEN}, timeout=30)
        # The test's own output check below looks for the names of tickets only.
        is_problem(answer, 401, "token")


def test_with_the_token_clients_are_served_from_anywhere(locked: Site) -> None:
    headers = {"Host": "tailboard.example", "X-Forwarded-For": "192.0.2.1"}
    answer = locked.post("/jobs", {"command": "true"}, headers=headers)
    assert answer.status_code == 201
    assert locked.get(answer.headers["Location"], headers=headers).status_code == 200
    is_problem(locked.get("/jobs", headers={"Origin": "http://evil.example"}), 403)
    is_problem(locked.ask("POST", "/jobs", data=b"{}", headers={"Content-Type": "text/plain"}), 415)


def test_health_needs_no_token(locked: Site) -> None:
    answer = requests.get(f"{locked.url}/healthz", timeout=30)
    assert answer.status_code in (200, 503)
    assert answer.json()["status"]
    for path in ("/healthz/", "/healthz/../jobs", "//healthz", "/healthz%2f..%2fjobs", "/HEALTHZ"):
        answer = raw(locked, "GET", path, [("Host", "localhost")])
        assert status_of(answer) in (308, 401) or b"reason" in answer, path
        assert b'"jobs"' not in answer


def test_an_unsupported_method_needs_the_token_unless_its_route_is_open(
    locked: Site,
) -> None:
    for method, status in (("HEAD", (200, 503)), ("OPTIONS", (200,)), ("DELETE", (405,))):
        answer = requests.request(method, f"{locked.url}/healthz", timeout=30)
        assert answer.status_code in status, method
    value = locked.post("/ticket").json()["ticket"]
    for path in ("/healthz/jobs", "/queues", f"/jobs/{UNKNOWN}/logs"):
        is_problem(with_ticket(locked, path, value, "DELETE"), 401, "token")
    assert with_ticket(locked, f"/jobs/{UNKNOWN}/logs", value, "HEAD").status_code == 404
    assert with_ticket(locked, f"/jobs/{UNKNOWN}/logs", value, "OPTIONS").status_code == 200


def test_the_token_is_compared_in_constant_time(
    job_maker: JobMaker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    compare = hmac.compare_digest

    def note(one: Any, other: Any) -> bool:
        compared.append({one, other})
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    client = create_app({"STORAGE": folder, "TOKEN": TOKEN}).test_client()
    for key, status in ((f"Bearer {TOKEN}", 200), ("Bearer x", 401)):
        assert client.get("/jobs", headers={"Authorization": key}).status_code == status
        assert {key.encode(), f"Bearer {TOKEN}".encode()} in compared


# --- Tickets --------------------------------------------------------------------------------------


def ticket(site: Site, job_id: str) -> str:
    answer = site.post(f"/jobs/{job_id}/ticket")
    assert answer.status_code == 201
    assert 0 < answer.json()["expires_in"] <= 900
    return str(answer.json()["ticket"])


def with_ticket(site: Site, path: str, value: str, method: str = "GET") -> requests.Response:
    json_body = {} if method == "POST" else None
    headers = {"Accept": "text/event-stream"}
    params = {"ticket": value}
    return requests.request(
        method, site.url + path, params=params, json=json_body, headers=headers, timeout=30
    )


def test_a_ticket_opens_only_its_own_log(locked: Site) -> None:
    job_id, other = locked.job_maker.ended(b"text\n"), locked.job_maker.ended(b"other\n")
    key = ticket(locked, job_id)
    for query, expected in (("", "text\n"), ("?download=1", "text\n"), ("?offset=2", "xt\n")):
        answer = with_ticket(locked, f"/jobs/{job_id}/logs{query}", key)
        assert (answer.status_code, answer.text) == (200, expected)
    events = with_ticket(locked, f"/jobs/{job_id}/logs?follow=1", key)
    assert events.status_code == 200 and '"text\\n"' in events.text
    assert with_ticket(locked, f"/jobs/{job_id}/logs", key, "HEAD").status_code == 200
    for path in (f"/jobs/{other}/logs", f"/jobs/{other}/logs?follow=1", f"/jobs/{UNKNOWN}/logs"):
        is_problem(with_ticket(locked, path, key), 401)


def ticket_for_any_log(site: Site) -> str:
    answer = site.post("/ticket")
    assert answer.status_code == 201
    assert answer.json()["expires_in"] == 600
    return str(answer.json()["ticket"])


def test_a_ticket_for_any_log_opens_every_log(locked: Site) -> None:
    key = ticket_for_any_log(locked)
    for text in (b"one\n", b"two\n"):
        job_id = locked.job_maker.ended(text)
        answer = with_ticket(locked, f"/jobs/{job_id}/logs?tail=5", key)
        assert (answer.status_code, answer.content) == (200, text)
    is_problem(with_ticket(locked, f"/jobs/{UNKNOWN}/logs", key), 404)


@pytest.mark.parametrize("make", [ticket, lambda site, _: ticket_for_any_log(site)])
def test_a_ticket_opens_no_other_route(locked: Site, make: Callable[[Site, str], str]) -> None:
    job_id = locked.job_maker.ended(b"text\n")
    key = make(locked, job_id)
    for method, path in (
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", f"/jobs/{job_id}"),
        ("DELETE", f"/jobs/{job_id}"),
        ("POST", f"/jobs/{job_id}/cancel"),
        ("POST", f"/jobs/{job_id}/rerun"),
        ("POST", f"/jobs/{job_id}/ticket"),
        ("POST", "/ticket"),
        ("POST", f"/jobs/{job_id}/logs"),
        ("DELETE", f"/jobs/{job_id}/logs"),
        ("GET", "/workers"),
    ):
        is_problem(with_ticket(locked, path, key, method), 401)
    as_token = {"Authorization": f"Bearer {key}"}
    is_problem(locked.get("/jobs", headers=as_token), 401)
    assert locked.get(f"/jobs/{job_id}").status_code == 200


class Late(TimestampSigner):
    """Signs as if it were some time ago."""

    ago = 0

    def get_timestamp(self) -> int:
        return int(time.time()) - self.ago


TICKET_SALT = "tailboard log ticket"


def signed(job_id: object, ago: int, key: bytes, salt: str = TICKET_SALT) -> str:
    signer = type("Signer", (Late,), {"ago": ago})
    return str(URLSafeTimedSerializer(key, salt=salt, signer=signer).dumps(job_id))


def test_a_ticket_expires(locked: Site) -> None:
    job_id = locked.job_maker.ended(b"text\n")
    path = f"/jobs/{job_id}/logs"
    lasts = locked.post(f"/jobs/{job_id}/ticket").json()["expires_in"]
    key = locked.job_maker.storage.secret() + TOKEN.encode()
    for what in (job_id, "*"):
        assert with_ticket(locked, path, signed(what, lasts - 60, key)).status_code == 200
        for ago in (lasts + 2, lasts + 86_400, -86_400):
            is_problem(with_ticket(locked, path, signed(what, ago, key)), 401)


def test_a_forged_ticket_is_refused(locked: Site) -> None:
    job_id = locked.job_maker.ended(b"text\n")
    good = ticket(locked, job_id)
    body, stamp, signature = good.rsplit(".", 2)
    secret = locked.job_maker.storage.secret()
    key = secret + TOKEN.encode()
    forged = [
        "",
        "x",
        "..",
        job_id,
        good[:-1],
        good + "x",
        good.swapcase(),
        f"{body}.{stamp}.",
        f"{body}.{stamp}.{signature[::-1]}",
        f"{body}.AAAAAA.{signature}",
        f"{body}x.{stamp}.{signature}",
        signed(job_id, 0, secret + b"another token"),
        signed(job_id, 0, secret),
        signed(
            job_id, 0, TOKEN.encode()
        ),  # otherwise a ticket would reveal whether a guess is right
        signed(job_id, 0, key, salt="itsdangerous"),
        signed([job_id], 0, key),
        signed({"job_id": job_id}, 0, key),
        signed(None, 0, key),
        signed(UNKNOWN, 0, key),
        "." * 3_000,
        "\0\ud7ff日本",
    ]
    for value in forged:
        is_problem(with_ticket(locked, f"/jobs/{job_id}/logs", value), 401)


# --- Paths ----------------------------------------------------------------------------------------

ID_ROUTES = [
    ("GET", "/jobs/{}"),
    ("DELETE", "/jobs/{}"),
    ("POST", "/jobs/{}/cancel"),
    ("POST", "/jobs/{}/rerun"),
    ("POST", "/jobs/{}/ticket"),
    ("GET", "/jobs/{}/logs"),
    ("GET", "/jobs/{}/logs?download=1"),
    ("GET", "/jobs/{}/logs?follow=1"),
    ("GET", "/jobs/{}/logs?q=x"),
]
TRICKS: list[bytes] = [
    b"..",
    b"../..",
    b"../../secret",
    b"....//....//secret",
    b"%2e%2e",
    b"%2e%2e%2f%2e%2e%2fsecret",
    b"..%2f..%2fsecret",
    b"..%5c..%5csecret",
    b"..\\..\\secret",
    b"%252e%252e%252fsecret",
    b"%25252e%25252e%25252fsecret",
    b"%c0%ae%c0%ae%c0%afsecret",
    b"%e0%80%ae%e0%80%ae/secret",
    b"%uff0e%uff0e%u2215secret",
    "\uff0e\uff0e\uff0fsecret".encode(),
    quote("\uff0e\uff0e\uff0fsecret").encode(),
    b"%00",
    b"{id}%00",
    b"{id}%00/../secret",
    b"{id}%0a",
    b"{id}%20",
    b"{id}/../../secret",
    b"{id}%2f..%2f..%2fsecret",
    b"%2f{id}",
    b"succeeded%2f{day}%2f{id}",
    b"..%2fsucceeded%2f{day}%2f{id}",
    b"./{id}",
    b"%2fetc%2fpasswd",
    b"/etc/passwd",
    b"~root",
    b"*",
    b"?",
    b";",
    b"%",
    b"%zz",
    b"%ff%fe",
    b"\xff\xfe",
    quote("\u202e日本\u2028").encode(),
    "\uff12\uff10\uff12\uff16\uff11\uff11\uff12\uff13-181502-k3f9x7q2".encode(),
    quote("٢٠٢٦١١٢٣-181502-k3f9x7q2").encode(),
    b"linked",
    b"x" * 3_000,
    b"%41" * 1_000,
    b"con",
    b"-rf",
    b"$(id)",
    b"`id`",
    b"running",
    b"workers",
    b"tmp",
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: ascii(trick)[2:34])
def test_no_path_escapes_the_jobs_folder(site: Site, trick: bytes) -> None:
    job_id = site.job_maker.ended(b"text\n")
    outside = site.folder.parent / "secret"
    outside.mkdir(exist_ok=True)
    for name in ("job.json", "output.log"):
        (outside / name).write_text(SECRET)
    trick = trick.replace(b"{id}", job_id.encode()).replace(b"{day}", job_id[:8].encode())
    for method, route in ID_ROUTES:
        path = route.encode().replace(b"{}", trick)
        body = b"{}" if method == "POST" else b""
        answer = raw(site, method, path, [("Host", "localhost"), *JSON.items()], body)
        assert status_of(answer) in (400, 404, 405, 308, 414), (method, path, answer)
        assert SECRET.encode() not in answer and b"root:" not in answer
        if status_of(answer) == 308:
            head = answer.decode("latin-1").lower()
            target = head.split("\r\nlocation: ")[1].split("\r\n")[0]
            assert target.startswith(("http://localhost/", "/")) and not target.startswith("//")
    assert sorted(os.listdir(outside)) == ["job.json", "output.log"]
    assert site.get(f"/jobs/{job_id}").json()["status"] == "succeeded"


# --- Symbolic links -------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Targets that a link may point to: a secret file, and a folder like a job's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "output.log").write_text(SECRET)
    (outside / "job.json").write_text(json.dumps({"command": SECRET, "version": 2}))
    (outside / "times").write_text(SECRET)
    return outside


def everything(client: FlaskClient, job_id: str) -> Iterator[tuple[str, Any]]:
    for path in ("/jobs", "/jobs?q=outside", f"/jobs/{job_id}"):
        yield path, client.get(path)
    for query in ("", "offset=0", "since=1d", "q=stands", "download=1", "follow=1", "timestamps=1"):
        path = f"/jobs/{job_id}/logs?{query}"
        yield path, client.get(path)
    yield "rerun", client.post(f"/jobs/{job_id}/rerun", json={})
    yield "cancel", client.post(f"/jobs/{job_id}/cancel", json={})
    yield "delete", client.delete(f"/jobs/{job_id}")


@pytest.mark.parametrize("name", ["output.log", "job.json", "times", "journal", "cancel"])
def test_a_link_in_a_jobs_folder_is_not_followed(
    client: FlaskClient, job_maker: JobMaker, outside: Path, name: str
) -> None:
    job_id = job_maker.ended(b"text\n")
    place = job_maker.log(job_id).with_name(name)
    place.unlink(missing_ok=True)
    place.symlink_to(outside / (name if (outside / name).exists() else "output.log"))
    for path, answer in everything(client, job_id):
        assert answer.status_code != 500, (path, answer.text)
        assert SECRET not in answer.text, path
    is_problem(client.get(f"/jobs/{job_id}"), 404)  # it was deleted
    assert (outside / "output.log").read_text() == SECRET
    assert len(os.listdir(outside)) == 3


@pytest.mark.parametrize("status", ["queued/default", "running", "succeeded/DAY"])
def test_a_link_in_place_of_a_jobs_folder_is_not_followed(
    client: FlaskClient, job_maker: JobMaker, folder: Path, outside: Path, status: str
) -> None:
    job_id = job_maker.ended(b"text\n")
    home = folder / status.replace("DAY", job_id[:8])
    shutil.rmtree(job_maker.log(job_id).parent)
    (home / job_id).symlink_to(outside)
    for path, answer in everything(client, job_id):
        assert SECRET not in answer.text, path
        assert answer.status_code == (200 if path.startswith("/jobs?") or path == "/jobs" else 404)
    assert len(os.listdir(outside)) == 3


@pytest.mark.parametrize("name", ["output.log", "job.json", "times"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_special_files_in_a_jobs_folder_harm_no_other_job(
    client: FlaskClient, job_maker: JobMaker, name: str, kind: str
) -> None:
    job_id = job_maker.ended(b"text\n")
    place = job_maker.log(job_id).with_name(name)
    place.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        try:
            os.mknod(place, 0o20666, os.makedev(1, 5))  # /dev/zero, which has no end
        except PermissionError:
            pytest.skip("only root makes devices")
    for path, answer in everything(client, job_id):
        assert answer.status_code != 500, (path, answer.text)
        assert len(answer.data) < 100_000, path


# --- Every response -------------------------------------------------------------------------------


def test_every_response_has_the_security_headers(locked: Site) -> None:
    job_id = locked.job_maker.ended(b"<script>alert(1)</script>\n")
    tag = locked.get(f"/jobs/{job_id}/logs").headers["ETag"]
    json_headers = {"Content-Type": "application/json"}
    cases: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "GET", "/jobs", {}),
        (200, "GET", f"/jobs/{job_id}", {}),
        (200, "GET", f"/jobs/{job_id}/logs", {}),
        (200, "GET", f"/jobs/{job_id}/logs?download=1", {}),
        (206, "GET", f"/jobs/{job_id}/logs?download=1", {"headers": {"Range": "bytes=0-1"}}),
        (200, "GET", f"/jobs/{job_id}/logs?follow=1", {}),
        (200, "GET", f"/jobs/{job_id}/logs?follow=1", {"headers": {"Accept": "text/event-stream"}}),
        (304, "GET", f"/jobs/{job_id}/logs", {"headers": {"If-None-Match": tag}}),
        (416, "GET", f"/jobs/{job_id}/logs?offset=999", {}),
        (201, "POST", f"/jobs/{job_id}/rerun", {"json": {}}),
        (409, "POST", f"/jobs/{job_id}/cancel", {"json": {}}),
        (400, "POST", "/jobs", {"json": {}}),
        (400, "POST", "/jobs", {"data": b"{", "headers": json_headers}),
        (413, "POST", "/jobs", {"data": b" " * (2 << 20), "headers": json_headers}),
        (415, "POST", "/jobs", {"data": b"{}"}),
        (401, "GET", "/jobs", {"headers": {"Authorization": "x"}}),
        (403, "GET", "/jobs", {"headers": {"Origin": "null"}}),
        (404, "GET", "/nowhere", {}),
        (405, "PUT", "/jobs", {}),
        (200, "OPTIONS", "/jobs", {}),
        (200, "HEAD", "/jobs", {}),
        (204, "DELETE", f"/jobs/{job_id}", {}),
    ]
    for status, method, path, options in cases:
        answer = locked.ask(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert not answer.text or "text/html" not in answer.headers.get("Content-Type", "")
        assert "Set-Cookie" not in answer.headers
        assert TOKEN not in answer.text


def test_the_token_and_tickets_are_never_logged(locked: Site) -> None:
    """The fixture checks the whole output once more at the end of all tests."""
    job_id = locked.job_maker.ended(b"text\n")
    key = ticket(locked, job_id)
    assert with_ticket(locked, f"/jobs/{job_id}/logs", key).status_code == 200
    host = ("Host", "localhost")
    bearer = ("Authorization", f"Bearer {TOKEN}")
    for headers in ([host, bearer, ("Bad Name", "x")], [host, (bearer[0], f"{bearer[1]}\0")]):
        assert status_of(raw(locked, "GET", "/jobs", [*headers])) == 400
    raw(locked, "GET", f"/jobs/{job_id}/logs?ticket={key}", [host])
    raw(locked, "GET", f"/jobs/{job_id}/logs?ticket={key}&offset=99", [host])
    wait_until(lambda: locked.processes.text().count(f"/jobs/{job_id}/logs") >= 3)
    output = locked.processes.text()
    assert TOKEN not in output
    assert key not in output


def test_no_request_can_forge_a_line_of_the_servers_log(site: Site) -> None:
    raw(site, "GET", "/jobs/%0a192.0.2.1%20%22GET%20/forged%22%20200", [("Host", "localhost")])
    output = site.processes.text()
    wait_until(lambda: "/jobs/%0a192.0.2.1" in site.processes.text())
    assert "\n192.0.2.1" not in site.processes.text(), output


def test_a_header_is_not_accepted_under_another_name(site: Site) -> None:
    """WSGI does not distinguish an underscore from a hyphen in a header's name."""
    headers = [("Host", "localhost"), ("Content_Length", "99"), ("Content_Type", "text/plain")]
    answer = raw(site, "POST", "/jobs", [*headers, *JSON.items()], b'{"command": "true"}')
    assert status_of(answer) == 201, answer
