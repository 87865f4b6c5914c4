"""Requests that are too large, too long, too slow, or not HTTP: the client gets an error that says
so, and the API serves everybody else as before."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pytest
import requests
from conftest import JobMaker, Site, receive
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from web import JSON, UNKNOWN, count_jobs, raw, status_of

from tailboard.status import Status

# --- Too much, too long, too slow -----------------------------------------------------------------

BEGIN = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
HALVES = [
    b"GET /jobs",
    b"GET /jobs HTTP/1.1\r\nHost: localho",
    BEGIN + b'Content-Length: 50\r\n\r\n{"command": ',
    CHUNKED + b"5\r\n{",
]


def test_an_oversized_body_is_refused_before_it_is_sent(site: Site) -> None:
    for size, status in (((1 << 20) + 1, 413), (10**12, 413), (10**30, 400)):
        answer = site.raw(BEGIN + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size)
        assert status_of(answer) == status, answer


def test_a_chunked_body_is_accepted(site: Site) -> None:
    body = b'5\r\n{"com\r\ne\r\nmand": "true"}\r\n0\r\n\r\n'
    answer = site.raw(CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + body)
    assert status_of(answer) == 201, answer


@pytest.mark.parametrize(
    ("path", "size"),
    [
        (b"/jobs", 16),
        (b"/jobs", 60_000),
        (b"/nowhere", 60_000),
        (f"/jobs/{UNKNOWN}/cancel".encode(), 60_000),
    ],
)
def test_a_body_that_never_ends_is_cut_off(site: Site, path: bytes, size: int) -> None:
    chunk = b"%x\r\n" % size + b" " * size + b"\r\n"
    block = chunk * max(1, 60_000 // len(chunk))
    sent, answer = 0, b""
    with site.connect(CHUNKED.replace(b"/jobs", path)) as connection:
        deadline = time.monotonic() + 30
        try:
            while True:
                assert sent < 200 << 20 and time.monotonic() < deadline, "it takes all of it"
                connection.sendall(block)
                sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            answer = receive(connection)
    assert not answer or 400 <= status_of(answer) < 500
    assert site.get("/jobs").status_code == 200


BAD: list[tuple[str, bytes]] = [
    ("many headers", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 1_000 + b"\r\n"),
    ("long header", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 70_000 + b"\r\n\r\n"),
    ("long name", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + b"x" * 70_000 + b": b\r\n\r\n"),
    ("long path", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("long method", b"X" * 70_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("no version", b"GET /jobs\r\n\r\n"),
    ("odd version", b"GET /jobs HTTP/9.9\r\nHost: localhost\r\n\r\n"),
    ("no path", b"GET HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("nothing", b"\r\n\r\n"),
    ("noise", bytes(range(256)) + b"\r\n\r\n"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99 + b"\r\n\r\n"),
    ("folded", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n evil\r\n\r\n"),
    ("space", b"GET /jobs HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    ("no colon", b"GET /jobs HTTP/1.1\r\nHost localhost\r\n\r\n"),
    ("bare CR", b"GET /jobs HTTP/1.1\rHost: localhost\r\r"),
    ("two lengths", BEGIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    ("both", BEGIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("length -1", BEGIN + b"Content-Length: -1\r\n\r\n{}"),
    ("length x", BEGIN + b"Content-Length: x\r\n\r\n{}"),
    ("length +2", BEGIN + b"Content-Length: +2\r\n\r\n{}"),
    ("chunk size", CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    ("chunk -1", CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n"),
    ("chunk end", CHUNKED + b"2\r\n{}xx0\r\n\r\n"),
    ("chunk huge", CHUNKED + b"f" * 5_000 + b"\r\n{}"),
    ("expect", BEGIN + b"Expect: miracles\r\nContent-Length: 2\r\n\r\n{}"),
    ("null", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n"),
]


@pytest.mark.parametrize("request_", [case for _, case in BAD], ids=[name for name, _ in BAD])
def test_invalid_http_is_a_client_error(site: Site, request_: bytes) -> None:
    before = count_jobs(site)
    with site.connect() as connection:
        try:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before it was complete
        answer = receive(connection)
    assert not answer or 400 <= status_of(answer) < 500, answer
    body = answer.partition(b"\r\n\r\n")[2]
    assert not body or json.loads(body)["detail"]  # the server's own responses have none
    assert count_jobs(site) == before
    assert site.get("/jobs").status_code == 200


def test_60_incomplete_requests_do_not_delay_others(site: Site) -> None:
    slow = [site.connect(HALVES[n % len(HALVES)]) for n in range(60)]
    try:
        for _ in range(5):
            answer = requests.get(f"{site.url}/jobs", timeout=8)
            assert answer.status_code == 200
        assert site.post("/jobs", {"command": "true"}).status_code == 201
    finally:
        for connection in slow:
            connection.close()


def test_idle_connections_do_not_delay_others(site: Site) -> None:
    """The server has responded and announced that it closes; these clients do not close."""
    request = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    left = [site.connect(request) for _ in range(20)]
    try:
        assert status_of(left[0].recv(1 << 16)) == 200
        assert requests.get(f"{site.url}/jobs", timeout=8).status_code == 200
    finally:
        for connection in left:
            connection.close()


def test_clients_that_disconnect_halfway_do_no_harm(site: Site) -> None:
    before = count_jobs(site)
    for half in HALVES * 5:
        site.connect(half).close()
    for half in HALVES:
        with site.connect(half) as connection:
            connection.shutdown(socket.SHUT_WR)
            answer = receive(connection)
        assert not answer or 400 <= status_of(answer) < 500, answer
    assert site.get("/jobs").status_code == 200
    assert count_jobs(site) == before


def test_an_incomplete_request_is_dropped(site: Site) -> None:
    """The server waits some seconds for the headers, and for the body."""
    begun = [site.connect(half, timeout=60) for half in HALVES]
    for connection in begun:
        with connection:
            answer = receive(connection)
        assert not answer or 400 <= status_of(answer) < 500, answer


# --- Error messages -------------------------------------------------------------------------------

NO_JSON = [
    (b"{", "expecting property name enclosed in double quotes at line 1, column 2"),
    (b'{"command": "a",\n "name" "b"}', "expecting ':' delimiter at line 2, column 9"),
    (b'{"command": "a"} x', "extra data at line 1, column 18"),
    (b'{"command": "a', "unterminated string at line 1, column 13"),
    (b'{"command": "\n"}', "invalid control character at line 1, column 14"),
    (b"command=a", "expecting value at line 1, column 1"),
    (b'{"command": "\xff"}', "byte 13 is not UTF-8"),
    (b'{"command": "a", "command": "b"}', "the field 'command' appears twice"),
    (b'{"command": "a", "env": {"A": "1", "A": "2"}}', "the field 'A' appears twice"),
    (b'{"command": "a", "retries": ' + b"1" * 5_000 + b"}", "a number has more than 4,000 digits"),
    (b"[" * 100_000, "the body is nested too deeply"),
]


@pytest.mark.parametrize(("body", "reported"), NO_JSON, ids=[str(body[:25]) for body, _ in NO_JSON])
def test_an_error_about_invalid_json_shows_the_position(
    site: Site, body: bytes, reported: str
) -> None:
    before = count_jobs(site)
    for method, path in (
        ("POST", "/jobs"),
        ("PUT", "/saved/name"),
        ("PUT", "/queues/default/pause"),
        ("POST", "/ticket"),
    ):
        answer = site.ask(method, path, data=body, headers=JSON)
        assert answer.status_code == 400, path
        assert reported in answer.json()["detail"], answer.text
    assert count_jobs(site) == before


@pytest.mark.parametrize(
    ("method", "path", "status", "reported"),
    [
        ("GET", "/jobz", 404, "there is no '/jobz'; did you mean /jobs? GET /openapi.json"),
        ("GET", "/jobs/", 404, "there is no '/jobs/'; did you mean /jobs? GET /openapi.json"),
        ("GET", f"/jobs/{UNKNOWN}/log", 404, "did you mean /jobs/{job_id}/logs? GET"),
        ("GET", "/api/v1/tasks", 404, "there is no '/api/v1/tasks'; GET /openapi.json describes"),
        ("GET", "/%E6%97%A5%00%FF", 404, "GET /openapi.json describes all paths"),
        ("GET", "/" + "x" * 9_000, 404, "GET /openapi.json describes all paths"),
        (
            "PATCH",
            "/jobs",
            405,
            "PATCH is not allowed for /jobs; allowed: GET, HEAD, OPTIONS, POST",
        ),
        ("POST", "/", 405, "POST is not allowed for /; allowed: GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", 405, "BREW is not allowed for /healthz; allowed: GET, HEAD, OPTIONS"),
    ],
)
def test_an_error_about_an_unknown_path_or_method_lists_the_known_ones(
    site: Site, method: str, path: str, status: int, reported: str
) -> None:
    answer = site.ask(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert reported in answer.json()["detail"], answer.text
    assert len(answer.json()["detail"]) < 250
    if status == 405:
        allowed = answer.json()["detail"].partition("allowed: ")[2]
        assert set(answer.headers["Allow"].split(", ")) == set(allowed.split(", "))


def test_an_error_about_an_oversized_body_shows_the_limit(site: Site) -> None:
    answer = site.ask("POST", "/jobs", data=b" " * ((1 << 20) + 1), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the body can have at most 1,048,576 bytes"


def test_an_error_about_a_range_past_the_end_shows_the_end(site: Site) -> None:
    job_id = site.job_maker.ended(b"12345")
    answer = site.get(f"/jobs/{job_id}/logs?download=1", headers={"Range": "bytes=9-"})
    assert answer.status_code == 416
    assert answer.json()["detail"] == "Range must begin before byte 5, the end of the log"


def test_a_body_that_does_not_arrive_gets_our_own_error(site: Site) -> None:
    answer = site.raw(BEGIN + b'Content-Length: 50\r\nConnection: close\r\n\r\n{"command": ')
    assert status_of(answer) == 408
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]


def test_the_root_address_describes_the_api(site: Site, locked: Site) -> None:
    said = site.get("/").json()
    assert said["name"] == "Tailboard" and said["page"] == "http://localhost:8501"
    assert site.get(said["openapi"]).status_code == 200
    assert locked.get("/", headers={"Authorization": "none"}).status_code == 401


def test_the_root_address_names_the_page_with_its_port(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLIT_SERVER_PORT", "8502")
    assert client.get("/").get_json()["page"] == "http://localhost:8502"


def test_doubled_slashes_do_not_return_html(site: Site) -> None:
    answer = site.raw(b"GET /jobs//x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 308 and b"location: http://localhost/jobs/x\r\n" in head.lower()
    assert not body


# --- Thousands of wrong requests ------------------------------------------------------------------

NASTY = """0 1 -1 true x 30s 1d 1e9 NaN 日本 .. queued * " W/ % bytes=0- bytes=-1 bytes=5-1,7-
2026-11-23T18:00:00Z 0001-01-01T00:00:00+23:59 9999-12-31T23:59:59-23:59 text/event-stream"""
WORDS = st.sampled_from(["", "\0", "\ud7ff", "9" * 30, UNKNOWN, *NASTY.split()])
VALUES = st.one_of(WORDS, st.text(max_size=30))
HEADER_VALUES = st.one_of(
    WORDS, st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
)
NAMES = (
    "tail offset line limit_bytes since timestamps follow download q limit before ticket "
    "status queue id wait"
)
QUERIES = st.dictionaries(
    st.one_of(st.sampled_from(NAMES.split()), st.text(max_size=8)), VALUES, max_size=3
)
HEADERS = st.dictionaries(
    st.sampled_from(
        "Host Origin Content-Type Authorization Idempotency-Key If-None-Match If-Range "
        "Range Cookie Accept Last-Event-ID X-Forwarded-For Content-Encoding Expect".split()
    ),
    HEADER_VALUES,
    max_size=3,
)
METHODS = st.sampled_from("GET GET GET POST POST DELETE HEAD OPTIONS PUT PATCH TRACE BREW".split())
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = "command name queue cwd env timeout retries retry_delay not_before submitted_by".split()
BODIES = st.one_of(
    st.binary(max_size=60),
    ANYTHING.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), ANYTHING, max_size=4
    ).map(lambda given: json.dumps({"command": "true"} | given).encode()),
)
PATHS = st.one_of(
    st.sampled_from(
        "/jobs /jobs/{} /jobs/{}/logs /jobs/{}/logs /jobs/{}/logs /jobs/{}/cancel /jobs/{}/rerun "
        "/jobs/{}/ticket /workers /healthz / //".split()
    ),
    st.text(max_size=30).map(lambda text: f"/{text}"),
)
IDS = st.one_of(st.just("JOB"), st.just("JOB"), st.just(UNKNOWN), st.text(max_size=30), WORDS)
MANY = settings(
    deadline=None,  # a machine may be busy
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@dataclass
class RandomRequest:
    """A request in which every part may be invalid."""

    method: str
    route: str
    name: str  # replaces the {} of the route; JOB is an existing job
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    as_json: bool

    def path(self, job_maker: JobMaker) -> str:
        done = job_maker.storage.list(Status.SUCCEEDED, limit=1)[0]
        job_id = done[0].id if done else job_maker.ended("日本\r\nlast\n".encode() * 9)
        return self.route.replace("{}", job_id if self.name == "JOB" else self.name)


RANDOM_REQUESTS = st.builds(
    RandomRequest, METHODS, PATHS, IDS, QUERIES, HEADERS, BODIES, st.booleans()
)


def fine(status: int, body: bytes, kind: str, method: str) -> None:
    """No response is a server error, and every error is problem details."""
    assert b"Traceback" not in body
    if status >= 400:
        assert status < 500 or status == 503, body
        assert kind in ("application/problem+json", "application/json")
        if method != "HEAD":
            details = json.loads(body)
            assert details["detail"] if kind == "application/problem+json" else details["reason"]


@settings(MANY, max_examples=800)
@given(RANDOM_REQUESTS)
@example(RandomRequest("POST", "/jobs", "", {}, {}, b'{"command": "true", "\\ud800": 1}', True))
@example(
    RandomRequest(
        "GET", "/jobs/{}/logs", "JOB", {"since": "0001-01-01T00:00:00+23:59"}, {}, b"", False
    )
)
def test_bad_requests_never_get_a_500(
    client: FlaskClient, job_maker: JobMaker, wild: RandomRequest
) -> None:
    target = "/" + quote(wild.path(job_maker)).lstrip("/")  # //name would be another server
    answer = client.open(
        target,
        method=wild.method,
        query_string=wild.query,
        headers=wild.headers | (JSON if wild.as_json else {}),
        data=wild.body,
    )
    kind = answer.headers.get("Content-Type", "")
    fine(answer.status_code, answer.data, kind, wild.method)


@settings(MANY, max_examples=150)
@given(RANDOM_REQUESTS, st.binary(max_size=20))
def test_bad_requests_over_http_never_hang_or_get_a_500(
    site: Site, wild: RandomRequest, noise: bytes
) -> None:
    target = quote(wild.path(site.job_maker)).encode()
    target += b"?" + urlencode(wild.query).encode() + noise.translate(None, b" \r\n#")
    headers = {"Host": "localhost"} | (JSON if wild.as_json else {}) | wild.headers
    fields = [(name, value.encode("latin-1", "replace")) for name, value in headers.items()]
    answer = raw(site, wild.method, target, [*fields], wild.body)
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = status_of(answer)
    if (
        not rest and b"content-type" not in head.lower()
    ):  # the server's own response to invalid HTTP
        assert status in (204, 304) or 400 <= status < 500, answer
    elif status >= 400 and b"chunked" not in head:
        kind = head.lower().split(b"content-type: ")[1].split(b"\r\n")[0].decode()
        fine(status, rest, kind, wild.method)
    else:
        assert status < 500, answer
