"""The page and the API behind each setup of docs/proxies.md, and in real Chromium behind one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import JobMaker, Processes, clean_environment, free_port
from page_site import log_of, state, visit
from page_socket import HEADER_ID, first_visit, open_socket, read_until, submit
from playwright.sync_api import Page, expect
from sign_in_proxy import (
    FORGED,
    KINDS,
    SECRET,
    SETUPS,
    Servers,
    StandIn,
    ask,
    kind_id,
    sign_in_service,
    start_proxy,
)
from web import is_problem, token_line

from tailboard.folder.folder_store import FolderStore

ROLES = "anna all\n@dev run\n"
TOKEN_OF_CI = "token-of-the-ci-system"


class Team(NamedTuple):
    """An API and a page that accept users from a proxy, and the proxy whose address the page gives
    to browsers."""

    servers: Servers
    storage: FolderStore
    stand_in: StandIn
    processes: Processes


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    home = tmp_path_factory.mktemp("team")
    (home / "users").write_text(ROLES)
    (home / "tokens").write_text(token_line("ci", TOKEN_OF_CI))
    bind = f"127.0.0.1:{free_port()}"
    processes = Processes(home / "output.txt", clean_environment(home / "jobs"))
    storage = FolderStore(home / "jobs")
    with sign_in_service() as service:
        servers = Servers(f"http://127.0.0.1:{free_port()}", f"http://{bind}", service)
        stand_in = StandIn(SETUPS["Caddy and Authelia"], servers)
        settings = {
            "TAILBOARD_BIND": bind,
            "TAILBOARD_API": servers.api,
            "TAILBOARD_PUBLIC_API": f"{stand_in.url}/api",
            "TAILBOARD_USER_HEADER": "Remote-User",
            "TAILBOARD_GROUP_HEADER": "Remote-Groups",
            "TAILBOARD_PROXY_SECRET": SECRET,
            "TAILBOARD_USERS": str(home / "users"),
            "TAILBOARD_TOKENS": str(home / "tokens"),
        }
        try:
            processes.serve(f"{servers.api}/healthz", sys.executable, "api.py", **settings)
            port = f"--server.port={servers.page.rpartition(':')[2]}"
            page = (sys.executable, "-m", "streamlit", "run", "dashboard.py", port)
            processes.serve(f"{servers.page}/_stcore/health", *page, **settings)
            yield Team(servers, storage, stand_in, processes)
        finally:
            stand_in.close()
            processes.end()
            storage.close()


@pytest.fixture(scope="module", params=KINDS, ids=kind_id)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, team: Team
) -> Iterator[str]:
    """Each setup, in front of the page and the API."""
    with start_proxy(*request.param, tmp_path_factory, team.servers) as proxied:
        yield proxied


def submit_as(front: str, visitor: str, name: str, answer: str = "", **headers: str) -> bytes:
    """Opens the page's WebSocket through the proxy and submits a job; what the page has sent until
    this answer."""
    given = {"Cookie": f"session={visitor}", "Origin": front} | headers
    with open_socket(front, **given) as connection:
        connection.sendall(first_visit())
        found = HEADER_ID.search(read_until(connection, HEADER_ID))
        assert found
        connection.sendall(submit(found[0].decode(), command="true", name=name))
        return read_until(connection, re.compile(answer.encode() or name.encode()))


def submitters(team: Team, name: str) -> list[str | None]:
    return [job.submitted_by for job in team.storage.list()[0] if job.name == name]


def test_the_page_acts_as_the_visitor_whom_the_proxy_names(front: str, team: Team) -> None:
    for number, headers in enumerate(({}, FORGED)):
        name = f"by anna {number} through {front}"
        submit_as(front, "anna", name, **headers)
        assert submitters(team, name) == ["anna"]


def test_a_visitor_without_a_line_has_the_role_of_a_group(front: str, team: Team) -> None:
    name = f"by dora through {front}"
    submit_as(front, "dora", name, "this needs the role all; dora has the role run")
    submit_as(front, "dora", name, "dora has the role run", **FORGED)
    assert submitters(team, name) == []


def test_a_visitor_without_a_name_gets_no_page(front: str, team: Team) -> None:
    for path in ("/", "/_stcore/host-config", "/app/static/theme.css"):
        assert ask(front, path, "nobody", **FORGED).status_code == 403
    with open_socket(front, Cookie="session=nobody", Origin=front, **FORGED) as connection:
        assert connection.recv(12) == b"HTTP/1.1 403"


def test_the_api_beside_the_sign_in_serves_tokens_and_no_names(front: str, team: Team) -> None:
    for visitor in ("", "anna"):
        is_problem(ask(front, "/api/jobs", visitor, **FORGED), 401, "token")
        named = ask(front, "/api/me", visitor, Authorization=f"Bearer {TOKEN_OF_CI}", **FORGED)
        assert (named.json()["name"], named.json()["role"]) == ("ci", "all")


def test_other_sites_cannot_use_the_cookie_of_the_proxy(front: str, team: Team) -> None:
    """A browser sends the cookie with requests of other sites' pages, too."""
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    link = elsewhere | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(front, "/", "anna", **link).status_code == 200
    for headers in (
        elsewhere,
        elsewhere | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        link | {"Sec-Fetch-Dest": "iframe"},
        {"Origin": "http://elsewhere.test"},
    ):
        assert ask(front, "/", "anna", **headers).status_code == 403
    given = {"Cookie": "session=anna", "Origin": "http://elsewhere.test"}
    with open_socket(front, **given) as connection:
        assert connection.recv(12) == b"HTTP/1.1 403"
    answer = ask(front, "/api/jobs", "anna", **elsewhere)
    assert answer.status_code == 401


# --- Without the proxy ----------------------------------------------------------------------------


def test_without_the_proxy_nobody_is_served(team: Team) -> None:
    direct = team.servers.page
    for headers in ({}, {"Remote-User": "anna"}, FORGED | {"X-Tailboard-Proxy": f"{SECRET}x"}):
        assert ask(direct, "/", "anna", **headers).status_code == 403
        with open_socket(direct, **headers) as connection:
            assert connection.recv(12) == b"HTTP/1.1 403"
    direct = team.servers.api
    is_problem(ask(direct, "/jobs", "anna"), 401, "token")
    for headers in ({"Remote-User": "anna"}, {"X-Tailboard-Proxy": SECRET}):
        is_problem(ask(direct, "/jobs", "anna", **headers), 403)


# --- In a browser ---------------------------------------------------------------------------------


def test_a_browser_shows_the_visitors_name_and_live_logs(team: Team, page: Page) -> None:
    """The log comes from /api/, past the sign-in, with a ticket."""
    claim = JobMaker(Path(team.storage.root)).running(b"first\n", name="behind a proxy")
    url = team.stand_in.url
    page.context.add_cookies([{"name": "session", "value": "anna", "url": url}])
    try:
        visit(page, f"{url}/?job={claim.job.id}")
        expect(log_of(page)).to_contain_text("first")
        expect(state(page)).to_have_text("live")
        page.get_by_role("button", name="More", exact=True).click()
        expect(page.get_by_text("Signed in as anna")).to_be_visible()
        expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    finally:
        page.context.clear_cookies()
        JobMaker(Path(team.storage.root)).finish(claim)
