"""Who may do what: each route with each role, each way to sign in and each origin; and the users
whom a proxy names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import BY_HAND, TOKEN, JobMaker, Processes, Site, free_port, serve_site
from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from web import UNKNOWN, is_problem, raw, status_of, token_line

from api import create_app
from tailboard.job import Job
from tailboard.saved_command import Param, SavedCommand
from tailboard.settings import Settings
from tailboard.status import Status
from tailboard.web.auth import COMMAND_USER
from tailboard.web.operations import OPERATIONS
from tailboard.web.users import UserFile, parse_users

SECRET = "what-only-the-proxy-knows"
PROOF = {"X-Tailboard-Proxy": SECRET}
PAGE = "https://page.example.org"
USERS = """# our users
anna all
ben run
cora read
@admins all
@site builders run
"""


def token_of(name: str) -> str:
    return f"the-token-of-{name}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def by_proxy(name: str, *groups: str) -> dict[str, str]:
    """The headers of a request of this user, as the proxy sets them."""
    named = PROOF | {"Remote-User": name}
    return named | {"Remote-Groups": ", ".join(groups)} if groups else named


def proxy_settings(base: Path) -> dict[str, Any]:
    (base / "users").write_text(USERS)
    return {
        "USER_HEADER": "Remote-User",
        "GROUP_HEADER": "Remote-Groups",
        "PROXY_SECRET": SECRET,
        "USERS": base / "users",
    }


def make_app(base: Path, **settings: Any) -> Flask:
    """The API with a shared token, a named token of each role, and users of a proxy."""
    roles = {"anna": "", "ben": " run", "cora": " read"}
    lines = [token_line(name, token_of(name)).strip() + role + "\n" for name, role in roles.items()]
    (base / "tokens").write_text("".join(lines))
    known = {"STORAGE": base / "jobs", "TOKEN": TOKEN, "TOKENS": base / "tokens", "DASHBOARD": PAGE}
    return create_app(known | proxy_settings(base) | settings)


@pytest.fixture
def app(tmp_path: Path, folder: Path, job_maker: JobMaker) -> Flask:
    return make_app(tmp_path)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


# --- The table ------------------------------------------------------------------------------------

# The least role for each route, written out once more: the test compares the API with this table.
LEAST_ROLES = {
    "GET /": "read",
    "GET /attention": "read",
    "GET /audit": "all",
    "GET /bulk": "read",
    "GET /healthz": "open",
    "GET /jobs": "read",
    "POST /jobs": "all",
    "GET /jobs/{job_id}": "read",
    "DELETE /jobs/{job_id}": "all",
    "POST /jobs/{job_id}/cancel": "run",
    "GET /jobs/{job_id}/diff": "ticket",
    "GET /jobs/{job_id}/explain": "ticket",
    "GET /jobs/{job_id}/files": "ticket",
    "GET /jobs/{job_id}/files.zip": "ticket",
    "GET /jobs/{job_id}/files/{path}": "ticket",
    "GET /jobs/{job_id}/logs": "ticket",
    "POST /jobs/{job_id}/rerun": "run",
    "POST /jobs/{job_id}/ticket": "read",
    "DELETE /jobs/{job_id}/urgent": "all",
    "POST /jobs/{job_id}/urgent": "all",
    "GET /jobs/{job_id}/usage": "ticket",
    "GET /logs": "read",
    "GET /me": "read",
    "GET /metrics": "read",
    "GET /names": "read",
    "GET /notifications": "read",
    "GET /notifications/targets": "read",
    "DELETE /notifications/targets/{target}": "all",
    "PUT /notifications/targets/{target}": "all",
    "POST /notifications/test": "all",
    "GET /openapi.json": "read",
    "GET /prune": "read",
    "GET /queues": "read",
    "PUT /queues/{queue}": "all",
    "DELETE /queues/{queue}/pause": "all",
    "PUT /queues/{queue}/pause": "all",
    "GET /saved": "read",
    "DELETE /saved/{name}": "all",
    "GET /saved/{name}": "read",
    "PUT /saved/{name}": "all",
    "POST /saved/{name}/run": "run",
    "POST /sessions": "token itself",
    "DELETE /sessions/current": "read",
    "POST /ticket": "read",
    "GET /workers": "read",
    # Without an entry in OPERATIONS: what Flask answers itself, and what no route serves.
    "HEAD /jobs": "read",
    "OPTIONS /jobs": "read",
    "OPTIONS /jobs/{job_id}/rerun": "read",
    "PATCH /jobs": "read",
    "POST /no/such/route": "read",
}
RANKS = {"read": 0, "run": 1, "all": 2}
ORIGINS: dict[str, dict[str, str]] = {
    "none": {},
    "own": {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
    "the page's": {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"},
    "other site": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    "embedded": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "linked": {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    },
}


@dataclass
class Visitor:
    """A way to sign in."""

    role: str | None  # None: the visitor is refused
    headers: dict[str, str] = field(default_factory=dict)
    refused: int = 401
    kind: str = "token"
    query: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)


def session_key(client: FlaskClient, token: str) -> str:
    answer = client.post("/sessions", headers=bearer(token))
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["key"])


def ticket_of(client: FlaskClient, headers: dict[str, str]) -> dict[str, str]:
    return {"ticket": client.post("/ticket", headers=headers).get_json()["ticket"]}


def visitors(client: FlaskClient) -> dict[str, Visitor]:
    """Everybody whom the API with tokens and a proxy can meet."""
    found = {
        "nobody": Visitor(None),
        "a wrong token": Visitor(None, bearer("wrong")),
        "the shared token": Visitor("all", bearer(TOKEN)),
        "a command": Visitor("all", environ={COMMAND_USER: "root"}, kind="command"),
        "a ticket": Visitor("ticket", query=ticket_of(client, bearer(TOKEN))),
        "a ticket of a user": Visitor("ticket", query=ticket_of(client, by_proxy("cora"))),
        "the session of the shared token": Visitor(
            "all", bearer(session_key(client, TOKEN)), kind="session"
        ),
        "a user without a role": Visitor(None, by_proxy("zoe"), 403, "proxy"),
        "a user without the proof": Visitor(None, {"Remote-User": "anna"}, 403, "bad proxy"),
        "a user and a token": Visitor("read", by_proxy("cora") | bearer(TOKEN), kind="proxy"),
    }
    for name, role in (("anna", "all"), ("ben", "run"), ("cora", "read")):
        token = token_of(name)
        found[f"the token of {name}"] = Visitor(role, bearer(token))
        key = session_key(client, token)
        found[f"the session of {name}"] = Visitor(role, bearer(key), kind="session")
        found[f"the user {name}"] = Visitor(role, by_proxy(name), kind="proxy")
    return found


def expected(route: str, visitor: Visitor, origin: str) -> int | None:
    """The status with which the API must refuse this request; None: it must let it in."""
    least, method = LEAST_ROLES[route], route.split()[0]
    is_write = method not in ("GET", "HEAD", "OPTIONS")
    if origin == "other site" or (origin in ("embedded", "linked") and is_write):
        return 403
    if origin == "embedded" and visitor.kind == "proxy":
        return 403
    if visitor.kind == "bad proxy":
        return 403
    if least == "open":
        return None
    if visitor.role == "ticket":
        return None if least == "ticket" else 401
    if visitor.role is None:
        return visitor.refused
    if least == "token itself":
        return 403 if visitor.kind == "session" else None
    return None if RANKS[visitor.role] >= RANKS.get(least, 0) else 403


def ask(client: FlaskClient, route: str, visitor: Visitor, origin: str) -> int | None:
    """The status with which the API refuses this request; None if it lets it in."""
    method, path = route.split()
    path = path.replace("{job_id}", UNKNOWN)
    answer = client.open(
        re.sub("{.*?}", "none", path),
        method=method,
        headers=visitor.headers | ORIGINS[origin],
        query_string=visitor.query,
        json={} if method in ("POST", "PUT") else None,
        environ_overrides=visitor.environ,
    )
    assert answer.status_code < 500 or route == "GET /healthz", (route, answer.text)
    return answer.status_code if answer.status_code in (401, 403) else None


def test_the_table_lists_every_route() -> None:
    declared = {f"{method.upper()} {path}" for method, path in OPERATIONS}
    assert declared - LEAST_ROLES.keys() == set(), "add it to LEAST_ROLES"
    for route in LEAST_ROLES.keys() - declared:
        assert route.split()[0] in ("HEAD", "OPTIONS", "PATCH") or "no/such" in route, route


def test_every_route_with_every_role_sign_in_and_origin(client: FlaskClient) -> None:
    """Routes that a visitor may use get an unknown ID or an empty body, so they change nothing."""
    everybody = visitors(client)
    wrong = []
    for route, (who, visitor), origin in product(LEAST_ROLES, everybody.items(), ORIGINS):
        if route == "DELETE /sessions/current" and visitor.kind == "session":
            continue  # it would end the session; see the next test
        found, wanted = ask(client, route, visitor, origin), expected(route, visitor, origin)
        if found != wanted:
            wrong.append(f"{route}, {who}, {origin}: {found}, not {wanted}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("name", ["anna", "ben", "cora"])
def test_every_role_can_sign_out(client: FlaskClient, name: str) -> None:
    key = bearer(session_key(client, token_of(name)))
    assert client.delete("/sessions/current", headers=key).status_code == 204
    is_problem(client.get("/me", headers=key), 401, "the session has ended")


def test_every_route_of_an_api_without_a_token(folder: Path, job_maker: JobMaker) -> None:
    """It serves programs on its own machine, with the role `all`, and nobody else."""
    client = create_app({"STORAGE": folder, "DASHBOARD": PAGE}).test_client()
    everybody = {
        "here": Visitor("all"),
        "elsewhere": Visitor(None, refused=403, environ={"REMOTE_ADDR": "192.0.2.7"}),
        "a command": Visitor("all", environ={COMMAND_USER: "root"}, kind="command"),
        "a forgotten proxy": Visitor(None, by_proxy("anna"), 403, "bad proxy"),
    }
    for route, visitor, origin in product(LEAST_ROLES, everybody.values(), ORIGINS):
        wanted = expected(route, visitor, origin)
        assert ask(client, route, visitor, origin) == wanted, (route, visitor, origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "target"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "embed"),
        ("navigate", None),
        (None, None),
    ],
)
def test_pages_of_other_sites_cannot_read_with_a_cookie_of_the_proxy(
    client: FlaskClient, site: str, mode: str | None, target: str | None
) -> None:
    """The proxy's cookie, which the browser sends for any page, becomes the headers of a user."""
    sent = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": target}
    by_browser = {name: value for name, value in sent.items() if value}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        answer = client.open("/jobs", method=method, headers=by_proxy("anna") | by_browser)
        assert answer.status_code == 403, method
    assert client.get("/jobs", headers=bearer(TOKEN) | by_browser).status_code == 200
    own = by_browser | {"Sec-Fetch-Site": "same-origin"}
    assert client.get("/jobs", headers=by_proxy("anna") | own).status_code == 200


# --- Roles ----------------------------------------------------------------------------------------


def test_a_403_names_the_role_that_is_needed_and_that_of_the_visitor(client: FlaskClient) -> None:
    def refused(path: str, headers: dict[str, str]) -> dict[str, Any]:
        answer = client.post(path, headers=headers, json={})
        assert answer.status_code == 403
        details: dict[str, Any] = answer.get_json()
        return {name: details[name] for name in ("detail", "needs", "role")}

    assert refused("/saved/x/run", bearer(token_of("cora"))) == {
        "detail": "this needs the role run; this token has the role read",
        "needs": "run",
        "role": "read",
    }
    assert refused("/jobs", by_proxy("ben")) == {
        "detail": "this needs the role all; ben has the role run",
        "needs": "all",
        "role": "run",
    }
    assert refused("/jobs", by_proxy("zoe")) == {
        "detail": "zoe has no role: a line in TAILBOARD_USERS must give one",
        "needs": "all",
        "role": None,
    }


def test_me_names_the_role(client: FlaskClient) -> None:
    for headers, name, role, token in (
        (bearer(TOKEN), None, "all", "shared"),
        (bearer(token_of("ben")), "ben", "run", "named"),
        (bearer(session_key(client, token_of("cora"))), "cora", "read", "named"),
        (by_proxy("anna"), "anna", "all", "proxy"),
        (by_proxy("dora", "x", "site builders"), "dora", "run", "proxy"),
    ):
        found = client.get("/me", headers=headers).get_json()
        assert (found["name"], found["role"], found["token"]) == (name, role, token)


def test_the_description_names_the_least_role_of_each_operation(client: FlaskClient) -> None:
    paths = client.get("/openapi.json", headers=bearer(TOKEN)).get_json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            least = LEAST_ROLES[f"{method.upper()} {path}"]
            wanted = None if least == "open" else least if least in RANKS else "read"
            assert operation.get("x-role") == wanted, (method, path)


RUN = bearer(token_of("ben"))


@pytest.fixture
def from_saved(job_maker: JobMaker) -> Callable[..., Job]:
    """Makes a queued job that came from the saved command `backup`."""
    job_maker.storage.saved.save(SavedCommand(saved="backup", command="true", queue=BY_HAND))

    def make(**fields: Any) -> Job:
        return job_maker.queued(saved="backup", **fields)

    return make


@pytest.mark.parametrize("headers", [RUN, by_proxy("ben")])
def test_run_starts_saved_commands_and_cancels_and_reruns_their_jobs(
    client: FlaskClient, from_saved: Callable[..., Job], headers: dict[str, str]
) -> None:
    job = from_saved()
    started = client.post("/saved/backup/run", headers=headers, json={})
    assert (started.status_code, started.get_json()["submitted_by"]) == (201, "ben")
    cancelled = client.post(f"/jobs/{job.id}/cancel", headers=headers).get_json()
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "cancelled by ben")
    again = client.post(f"/jobs/{job.id}/rerun", headers=headers)
    assert (again.status_code, again.get_json()["saved"]) == (201, "backup")
    assert client.post(f"/jobs/{again.get_json()['id']}/cancel", headers=headers).status_code == 202


def test_run_cannot_cancel_or_rerun_other_jobs(client: FlaskClient, job_maker: JobMaker) -> None:
    job = job_maker.queued()
    words = "this needs the role all", f"{job.id} did not come from a saved command"
    for action in ("cancel", "rerun"):
        answer = client.post(f"/jobs/{job.id}/{action}", headers=RUN)
        assert answer.status_code == 403
        assert all(word in answer.get_json()["detail"] for word in words)
        is_problem(client.post(f"/jobs/{UNKNOWN}/{action}", headers=RUN), 404)
    assert job_maker.storage.get(job.id).status is Status.QUEUED
    assert len(client.get("/jobs", headers=RUN).get_json()["jobs"]) == 1
    assert client.post(f"/jobs/{job.id}/cancel", headers=bearer(TOKEN)).status_code == 202


@pytest.mark.parametrize("all_", ["0", "1"])
def test_run_chooses_only_jobs_that_it_may_change(
    client: FlaskClient, job_maker: JobMaker, from_saved: Callable[..., Job], all_: str
) -> None:
    """The line in the audit log counts the chosen jobs."""
    mine, other = from_saved(), job_maker.queued()
    for headers, ids in ((RUN, [mine.id]), (bearer(TOKEN), [mine.id, other.id])):
        answer = client.get(f"/bulk?to=cancel&all={all_}", headers=headers)
        assert sorted(json.loads(answer.text)["ids"]) == ids


@pytest.mark.parametrize("saved", ["backup", None])
def test_run_reruns_the_jobs_after_it_only_if_all_came_from_saved_commands(
    client: FlaskClient, job_maker: JobMaker, from_saved: Callable[..., Job], saved: str | None
) -> None:
    root = from_saved()
    after = job_maker.queued(after=[root.id], saved=saved)
    last = job_maker.queued(after=[after.id], saved="backup")
    client.post(f"/jobs/{root.id}/cancel", headers=RUN)
    for job in (after, last):  # as the worker does
        job_maker.storage.cancel(job.id, f"{job.after[0]} was cancelled")
    body = {"with_after": True}
    answer = client.post(f"/jobs/{root.id}/rerun", headers=RUN, json=body)
    if saved is None:
        assert answer.status_code == 403
        assert f"{after.id} did not come from a saved command" in answer.get_json()["detail"]
        assert job_maker.storage.list(Status.QUEUED)[0] == []
        answer = client.post(f"/jobs/{root.id}/rerun", headers=bearer(TOKEN), json=body)
    assert (answer.status_code, len(answer.get_json()["reruns"])) == (201, 2)


def test_run_can_only_give_values_to_a_saved_command(
    client: FlaskClient, job_maker: JobMaker
) -> None:
    param = Param(name="TABLE", default="all")
    command = SavedCommand(saved="dump", command="true", params=[param], queue=BY_HAND)
    job_maker.storage.saved.save(command)
    for path, body in (
        ("/saved/dump/run?submitted_by=anna", {}),
        ("/saved/dump/run?queue=gpu", {}),
        ("/saved/dump/run", {"command": "reboot"}),
        ("/saved/dump/run", {"PATH": "/tmp"}),
        ("/saved/dump/run", {"TABLE": ["x"]}),
        ("/saved/dump/run", [{"TABLE": "x"}]),
    ):
        is_problem(client.post(path, headers=RUN, json=body), 400)
    job = client.post("/saved/dump/run", headers=RUN, json={"TABLE": "jobs"}).get_json()
    assert (job["command"], job["env"], job["queue"]) == ("true", {"TABLE": "jobs"}, BY_HAND)


# --- The headers of a proxy -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API behind a proxy, without a token; the proxy's secret may not appear in its output."""
    base = tmp_path_factory.mktemp("proxied")
    settings = {f"TAILBOARD_{name}": str(value) for name, value in proxy_settings(base).items()}
    with serve_site(base, **settings) as site:
        yield site
        output = site.processes.text()
        assert "GET /" in output and SECRET not in output and "Traceback" not in output


ANNA = ("Remote-User", "anna")
PROVEN = ("X-Tailboard-Proxy", SECRET)
HEADER_TRICKS: list[list[tuple[str, str | bytes]]] = [
    [ANNA],
    [PROVEN],
    [ANNA, ("X-Tailboard-Proxy", "")],
    [ANNA, ("X-Tailboard-Proxy", SECRET[:-1])],
    [ANNA, ("X-Tailboard-Proxy", SECRET.upper())],
    [ANNA, ("X-Tailboard-Proxy", f"{SECRET},{SECRET}")],
    [ANNA, ("X-Tailboard-Proxy", b"\xff\xfe")],
    [ANNA, ("X-Tailboard_Proxy", SECRET)],
    [ANNA, PROVEN, PROVEN],
    [ANNA, PROVEN, ("X-Tailboard-Proxy", "wrong-but-long-enough")],
    [ANNA, ("X-Tailboard-Proxy", ""), PROVEN],
    [ANNA, PROVEN, ("X_Tailboard_Proxy", SECRET)],
    [ANNA, PROVEN, ANNA],
    [ANNA, PROVEN, ("REMOTE-USER", "ben")],
    [ANNA, PROVEN, ("Remote_User", "ben")],
    [ANNA, PROVEN, ("remote-user", "")],
    [("Remote_User", "anna"), PROVEN],
    [("Remote-User", ""), PROVEN],
    [("Remote-User", " "), PROVEN],
    [("Remote-User", "anna,ben"), PROVEN],
    [("Remote-User", "anna ben"), PROVEN],
    [("Remote-User", "*"), PROVEN],
    [("Remote-User", "@admins"), PROVEN],
    [("Remote-User", "(null)"), PROVEN],
    [("Remote-User", "x" * 65), PROVEN],
    [("Remote-User", b"j\xf6rg"), PROVEN],  # Latin-1
    [("Remote-User", b"anna\xc2\xa0"), PROVEN],
    [("Remote-Groups", "admins"), PROVEN],
    [("Remote-Groups", "admins")],
    [ANNA, PROVEN, ("Remote-Groups", "dev"), ("Remote-Groups", "admins")],
    [ANNA, PROVEN, ("Remote-Groups", "dev"), ("Remote_Groups", "admins")],
]


def me(site: Site, *headers: tuple[str, str | bytes]) -> bytes:
    return raw(site, "GET", "/me", [("Host", "localhost"), *headers])


@pytest.mark.parametrize("headers", HEADER_TRICKS, ids=lambda headers: repr(headers)[1:60])
def test_a_wrong_header_of_a_proxy_is_refused_and_never_ignored(
    proxied: Site, headers: list[tuple[str, str | bytes]]
) -> None:
    for path in ("/me", "/healthz", "/no/such/route", f"/jobs/{UNKNOWN}/logs?ticket=x"):
        answer = raw(proxied, "GET", path, [("Host", "localhost"), *headers])
        assert status_of(answer) == 403, answer
        assert SECRET.encode() not in answer


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([ANNA, PROVEN], "anna"),
        ([("remote-user", "anna"), ("X-TAILBOARD-PROXY", SECRET)], "anna"),
        ([("Remote-User", "j\xf6rg@example.org"), PROVEN, ("Remote-Groups", "admins")], "j\xf6rg@"),
        ([ANNA, PROVEN, ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https")], "anna"),
        ([ANNA, PROVEN, ("Authorization", "Basic YW5uYTp4")], "anna"),
        ([ANNA, PROVEN, ("X-Remote-User", "ben"), ("Remote-Users", "ben")], "anna"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_proven_proxy_names_the_user(
    proxied: Site, headers: list[tuple[str, str | bytes]], name: str
) -> None:
    answer = me(proxied, *headers)
    assert status_of(answer) == 200
    assert f'"name":"{name}'.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00") in answer


HEAD = f"Host: localhost\r\nX-Tailboard-Proxy: {SECRET}\r\nConnection: close\r\n"
CHUNKED = f"{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"GET /me HTTP/1.1\r\n{HEAD}Remote-User : anna\r\n\r\n", 400),
        (f"GET /me HTTP/1.1\r\n{HEAD}Remote-User: ben\r\n anna\r\n\r\n", 400),
        (f"GET /me HTTP/1.1\r\n{HEAD}X: y\r\n Remote-User: anna\r\n\r\n", 400),
        (f"GET /me HTTP/1.1\r\n{HEAD}X: y\rRemote-User: anna\r\n\r\n", 400),
        (f"GET /me HTTP/1.1\r\n{HEAD}Remote-User: ben\nRemote-User: anna\r\n\r\n", 403),
        (f"POST /ticket HTTP/1.1\r\n{CHUNKED}\r\n2\r\n{{}}\r\n0\r\nRemote-User: anna\r\n\r\n", 403),
    ],
    ids=["space", "folded", "in another header", "carriage return", "line feed", "trailer"],
)
def test_a_malformed_head_or_a_trailer_names_no_user(proxied: Site, sent: str, status: int) -> None:
    assert status_of(proxied.raw(sent.encode())) == status


def test_without_the_headers_of_a_proxy_even_this_machine_needs_a_token(proxied: Site) -> None:
    for headers in ([], [("Authorization", "Bearer x")], [("Authorization", "Basic YW5uYTp4")]):
        answer = me(proxied, *headers)
        assert status_of(answer) == 401, answer
    assert status_of(raw(proxied, "GET", "/healthz", [("Host", "localhost")])) in (200, 503)


@pytest.mark.parametrize(
    ("proxies", "address", "status"),
    [
        ("", "127.0.0.1", 200),
        ("", "::1", 200),
        ("", "::ffff:127.0.0.1", 200),
        ("", "192.0.2.7", 403),
        ("", "", 403),
        ("", None, 403),
        ("192.0.2.7", "192.0.2.7", 200),
        ("192.0.2.7", "::ffff:192.0.2.7", 200),
        ("192.0.2.7", "192.0.2.70", 403),
        ("10.1.0.0/16, 2001:db8::/32", "2001:db8::5", 200),
        ("10.1.0.0/16, 2001:db8::/32", "10.2.0.1", 403),
        ("192.0.2.7", "127.0.0.1", 200),
    ],
)
def test_a_proxy_is_accepted_only_from_a_listed_address(
    tmp_path: Path, proxies: str, address: str | None, status: int
) -> None:
    client = make_app(tmp_path, PROXIES=proxies).test_client()
    for headers in (by_proxy("anna"), by_proxy("anna") | {"X-Forwarded-For": "127.0.0.1"}):
        answer = client.get("/me", headers=headers, environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status
    with_token = client.get(
        "/me", headers=bearer(TOKEN), environ_overrides={"REMOTE_ADDR": address}
    )
    assert with_token.status_code == 200  # only the proxy's headers depend on the address


def test_a_user_of_the_proxy_cannot_start_a_session(client: FlaskClient) -> None:
    answer = client.post("/sessions", headers=by_proxy("anna"))
    is_problem(answer, 409, "the proxy keeps its users signed in")


def test_a_user_of_the_proxy_submits_under_their_own_name(client: FlaskClient) -> None:
    job = client.post("/jobs", headers=by_proxy("anna"), json={"command": "true"}).get_json()
    assert job["submitted_by"] == "anna"
    reported = {"command": "true", "submitted_by": "ben"}
    answer = client.post("/jobs", headers=by_proxy("anna"), json=reported)
    is_problem(answer, 400, "submitted_by must be 'anna', as the proxy says, or left out")


# --- Tickets of the proxy's users -----------------------------------------------------------------


def reads(client: FlaskClient, job_id: str, ticket: dict[str, str]) -> int:
    return client.get(f"/jobs/{job_id}/logs", query_string=ticket).status_code


@pytest.mark.parametrize(
    ("headers", "without"),
    [
        (by_proxy("cora"), USERS.replace("cora read\n", "")),
        (by_proxy("dora", "admins"), USERS.replace("@admins all\n", "")),
        (by_proxy("dora", "a", "site builders"), USERS.replace("@site builders run\n", "")),
    ],
)
def test_a_ticket_of_a_user_ends_with_their_role(
    client: FlaskClient,
    job_maker: JobMaker,
    tmp_path: Path,
    headers: dict[str, str],
    without: str,
) -> None:
    job_id, other = job_maker.ended(b"text\n"), job_maker.ended(b"other\n")
    for_all = ticket_of(client, headers)
    answer = client.post(f"/jobs/{job_id}/ticket", headers=headers, json={"origin": PAGE})
    for_one = {"ticket": answer.get_json()["ticket"]}
    assert [reads(client, each, for_all) for each in (job_id, other)] == [200, 200]
    assert [reads(client, each, for_one) for each in (job_id, other)] == [200, 401]
    (tmp_path / "users").write_text(without)
    assert [reads(client, job_id, ticket) for ticket in (for_all, for_one)] == [401, 401]
    (tmp_path / "users").write_text(USERS)
    assert reads(client, job_id, for_all) == 200


def test_a_ticket_of_a_user_ends_with_the_proxys_secret(
    client: FlaskClient, job_maker: JobMaker, tmp_path: Path
) -> None:
    job_id = job_maker.ended(b"text\n")
    ticket = ticket_of(client, by_proxy("anna"))
    later = make_app(tmp_path, PROXY_SECRET="another-secret-of-it").test_client()
    assert [reads(each, job_id, ticket) for each in (client, later)] == [200, 401]


def test_a_ticket_of_a_user_cannot_be_forged(client: FlaskClient, job_maker: JobMaker) -> None:
    job_id = job_maker.ended(b"text\n")
    secret = job_maker.storage.secret()
    good, salt = secret + SECRET.encode(), "tailboard log ticket of a proxy's user"
    content = ["*", None, "anna", []]

    def signed(key: bytes, what: object, salt: str = salt) -> dict[str, str]:
        return {"ticket": str(URLSafeTimedSerializer(key, salt=salt).dumps(what))}

    assert reads(client, job_id, signed(good, content)) == 200
    for forged in (
        signed(secret, content),
        signed(SECRET.encode(), content),
        signed(good, content, "tailboard log ticket"),
        signed(secret + TOKEN.encode(), content, "tailboard log ticket"),
        signed(good, job_id),
        signed(good, ["*", None, "zoe", []]),
        signed(good, ["*", None, "zoe", "admins"]),
        signed(good, ["*", None, None, []]),
        signed(good, ["*", 5, "anna", []]),
        signed(good, ["*", None, "zoe", [5, None, ["x"], {}]]),
        signed(good, {"log": "*"}),
    ):
        assert reads(client, job_id, forged) == 401, forged


# --- The file of users ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "groups", "role"),
    [
        ("anna", [], "all"),
        ("anna", ["site builders"], "all"),
        ("cora", ["admins"], "read"),  # a user's own line wins
        ("dora", ["admins", "site builders"], "all"),
        ("dora", ["site builders", "others"], "run"),
        ("dora", ["Admins", "@admins", "admin", "site", "*"], None),
        ("dora", [], None),
        ("Anna", [], None),
        ("admins", [], None),
    ],
)
def test_the_role_of_a_user(
    client: FlaskClient, tmp_path: Path, name: str, groups: list[str], role: str | None
) -> None:
    for others in ("", "* read\n"):
        (tmp_path / "users").write_text(USERS + others)
        answer = client.get("/me", headers=by_proxy(name, *groups))
        wanted = role or ("read" if others else None)
        assert answer.get_json().get("role") == wanted
        assert answer.status_code == (200 if wanted else 403)


def test_a_change_of_the_users_takes_effect_at_once(client: FlaskClient, tmp_path: Path) -> None:
    for content, role in (("zoe read", "read"), ("zoe run ", "run"), ("zoe  all\r\n", "all")):
        (tmp_path / "users").write_text(content)
        assert client.get("/me", headers=by_proxy("zoe")).get_json()["role"] == role


@pytest.mark.parametrize("bad", ["anna\n", "\0\xff \n", "anna all\nanna read\n", None])
def test_an_invalid_file_of_users_changes_nothing_and_is_reported_once(
    client: FlaskClient, tmp_path: Path, bad: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get("/me", headers=by_proxy("ben")).get_json()["role"] == "run"
    if bad is None:
        (tmp_path / "users").unlink()
    else:
        (tmp_path / "users").write_text(bad)
    for _ in range(3):
        assert client.get("/me", headers=by_proxy("ben")).get_json()["role"] == "run"
        assert client.get("/me", headers=by_proxy("zoe")).status_code == 403
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "trouble users" in caplog.text


ALLOWED = "is not NAME ROLE, @GROUP ROLE or . ROLE, with one of the roles all, run and read"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory"),
        ("# anna all\n", "gives nobody a role"),
        ("anna all\nben write\n", f"line 2 {ALLOWED}"),
        ("anna\n", f"line 1 {ALLOWED}"),
        ("all\n", f"line 1 {ALLOWED}"),
        ("anna ALL\n", f"line 1 {ALLOWED}"),
        ("anna all # boss\n", f"line 1 {ALLOWED}"),
        ("anna ben all\n", f"line 1 {ALLOWED}"),
        ("@ all\n", f"line 1 {ALLOWED}"),
        ("@a,b all\n", f"line 1 {ALLOWED}"),
        ("** all\n", f"line 1 {ALLOWED}"),
        ("-anna all\n", f"line 1 {ALLOWED}"),
        ("anna all\n\n anna\tread\n", "line 3 is about the same as an earlier line"),
        ("@a all\n@a all\n", "line 2 is about the same as an earlier line"),
        ("* read\n* read\n", "line 2 is about the same as an earlier line"),
    ],
)
def test_a_useless_file_of_users_is_refused_in_one_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    path = tmp_path / "users"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"TAILBOARD_USERS: .*{sentence}"):
        UserFile(str(path)).check("Remote-Groups")


def test_a_file_of_users_that_others_can_change_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(USERS)
    path.chmod(0o646)
    with pytest.raises(ValueError, match="TAILBOARD_USERS: other users can write in"):
        UserFile(str(path)).check("Remote-Groups")
    path.chmod(0o644)
    UserFile(str(path)).check("Remote-Groups")


def test_a_user_and_a_group_can_have_one_name() -> None:
    found = parse_users(b"ops read\n@ops\tall\n* run")
    assert (found.users["ops"], found.groups["ops"], found.others) == ("read", "all", "run")


# --- The settings of a proxy ----------------------------------------------------------------------

GOOD = {"USER_HEADER": "Remote-User", "PROXY_SECRET": SECRET}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"USER_HEADER": "Remote-User"}, "TAILBOARD_USER_HEADER needs TAILBOARD_PROXY_SECRET"),
        ({"PROXY_SECRET": SECRET}, "TAILBOARD_PROXY_SECRET needs TAILBOARD_USER_HEADER"),
        ({"USERS": "users"}, "TAILBOARD_USERS needs TAILBOARD_USER_HEADER"),
        ({"PROXIES": "10.0.0.1"}, "TAILBOARD_PROXIES needs TAILBOARD_USER_HEADER"),
        ({"GROUP_HEADER": "X-Groups"}, "TAILBOARD_GROUP_HEADER needs TAILBOARD_USER_HEADER"),
        (GOOD | {"GROUP_HEADER": "remote-user"}, "GROUP_HEADER must differ from"),
        (GOOD | {"PROXY_SECRET": "short-secret-15"}, "must have at least 16 characters"),
        (GOOD | {"PROXY_SECRET": f"{SECRET} x"}, "letters, digits and punctuation"),
        (GOOD | {"TOKEN": SECRET}, "TAILBOARD_PROXY_SECRET must differ from TAILBOARD_TOKEN"),
        (GOOD | {"PROXIES": "10.0.0.1/8"}, "TAILBOARD_PROXIES must be comma-separated"),
        (GOOD | {"PROXIES": "localhost"}, "TAILBOARD_PROXIES must be comma-separated"),
        *(
            (GOOD | {"USER_HEADER": name}, "TAILBOARD_USER_HEADER must be the name of a header")
            for name in (
                *("Remote_User", "Remote User", "Remote-User:", "Remote-Üser", "-x", "Cookie"),
                *("authorization", "Host", "Origin", "X-Tailboard-Proxy", "X-Forwarded-For"),
                *("Content-Type", "Sec-Fetch-Site", "Idempotency-Key", "User-Agent", "If-Match"),
            )
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_setting_of_a_proxy_is_refused_in_one_sentence(
    settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        Settings.read({f"TAILBOARD_{name}": value for name, value in settings.items()})
    assert settings.get("PROXY_SECRET", SECRET) not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "X-WebAuth"]
)
def test_the_headers_of_known_proxies_can_be_set(name: str) -> None:
    env = {"TAILBOARD_USER_HEADER": name, "TAILBOARD_PROXY_SECRET": SECRET}
    found = Settings.read(env | {"TAILBOARD_TOKEN": TOKEN})
    assert found.user_header == name
    assert SECRET not in repr(found) and TOKEN not in repr(found)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "TAILBOARD_USER_HEADER needs TAILBOARD_USERS"),
        ("anna some-secret\n", "line 1 is not NAME ROLE"),
        ("@guests read\n* all\n", "has lines about groups, which need TAILBOARD_GROUP_HEADER"),
    ],
)
def test_the_api_does_not_start_without_usable_users(
    processes: Processes, tmp_path: Path, content: str, sentence: str
) -> None:
    env = {f"TAILBOARD_{name}": value for name, value in GOOD.items()}
    env["TAILBOARD_BIND"] = f"127.0.0.1:{free_port()}"
    if content:
        (tmp_path / "users").write_text(content)
        env["TAILBOARD_USERS"] = str(tmp_path / "users")
    assert processes.start(sys.executable, "api.py", **env).wait(60) != 0
    reported = processes.text()
    assert reported.startswith("api: TAILBOARD_USER") and sentence in reported
    assert "Traceback" not in reported and SECRET not in reported and "some-secret" not in reported
