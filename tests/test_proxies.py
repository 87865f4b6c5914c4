"""Sign-in through a proxy, by the configurations of docs/proxies.md: with a stand-in for each, and
with the real nginx and Caddy if they are installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from other_servers import Answer, Request, json_answer, serve
from sign_in_proxy import (
    FORGED,
    KINDS,
    PORTAL,
    SECRET,
    Servers,
    ask,
    kind_id,
    sign_in_service,
    start_proxy,
)


def echo(request: Request) -> Answer:
    """What has arrived at the page or at the API."""
    return json_answer({"path": request.path, "headers": list(request.headers.items())})


@pytest.fixture(scope="module")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with serve(echo) as page, serve(echo) as api, sign_in_service() as service:
        yield Servers(page, api, service)


@pytest.fixture(scope="module", params=KINDS, ids=kind_id)
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, echoes: Servers
) -> Iterator[str]:
    """Each setup, in front of servers that report what has arrived."""
    with start_proxy(*request.param, tmp_path_factory, echoes) as proxied:
        yield proxied


def arrived(proxied: str, path: str, visitor: str, **headers: str) -> dict[str, list[str]]:
    """The values of each header of a request, as they arrive behind the proxy."""
    answer = ask(proxied, path, visitor, **headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, list[str]] = {}
    for name, value in answer.json()["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_the_page_gets_the_name_the_groups_and_the_secret(proxied: str) -> None:
    for headers in ({}, FORGED, {name.lower(): value for name, value in FORGED.items()}):
        found = arrived(proxied, "/?job=1", "anna", **headers)
        assert found["remote-user"] == ["anna"]
        assert found["remote-groups"] == ["dev,admins"]
        assert found["x-tailboard-proxy"] == [SECRET]
        assert found["host"] == [proxied.removeprefix("http://")]
        assert "x-forwarded-for" in found


def test_a_client_cannot_make_the_proxy_drop_its_headers(proxied: str) -> None:
    """A proxy removes the headers that `Connection` lists. Without their groups, visitors would get
    the role of the line `*`."""
    listed = "close, Remote-User, Remote-Groups, X-Tailboard-Proxy"
    found = arrived(proxied, "/", "anna", Connection=listed)
    assert found["remote-user"] == ["anna"]
    assert found["remote-groups"] == ["dev,admins"]
    assert found["x-tailboard-proxy"] == [SECRET]


def test_without_a_sign_in_nothing_reaches_the_page(proxied: str) -> None:
    for headers in ({}, FORGED):
        answer = ask(proxied, "/?job=1", "", **headers)
        assert answer.status_code == 302
        sign_in = answer.headers["Location"]
        assert sign_in == PORTAL or f"/oauth2/sign_in?rd={proxied}/?job=1" in sign_in


def test_a_visitor_whom_the_service_does_not_name_has_no_name_of_the_clients_choice(
    proxied: str,
) -> None:
    found = arrived(proxied, "/", "nobody", **FORGED)
    assert "root" not in found.get("remote-user", []) and "admins" not in str(found)


def test_no_client_names_a_user_to_the_api(proxied: str) -> None:
    bearer = {"Authorization": "Bearer x"}
    for visitor in ("", "anna"):
        found = arrived(proxied, "/api/jobs?q=1", visitor, **FORGED, **bearer)
        assert not {name.lower() for name in FORGED} & set(found)
        assert found["authorization"] == ["Bearer x"]
    assert ask(proxied, "/api/jobs?q=1", "").json()["path"] == "/jobs?q=1"
