"""Sessions over HTTP: how one begins, what its key permits, and each way in which it ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import BY_HAND, TOKEN, RedisServer, Site, free_port, serve_site
from flask.testing import FlaskClient
from web import is_problem, token_line

from api import create_app
from tailboard import __version__
from tailboard import sessions as sessions_module
from tailboard.folder import session_files
from tailboard.folder.folder_store import FolderStore
from tailboard.sessions import SESSION_AGE, hash_key
from tailboard.web import sign_in_limit

ANNA, BEN = "annas-own-token", "bens-own-token"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API with the shared token and named tokens."""
    base = tmp_path_factory.mktemp("sessions")
    tokens = base / "tokens"
    tokens.write_text(token_line("anna", ANNA) + token_line("ben", BEN))
    with serve_site(base, TAILBOARD_TOKEN=TOKEN, TAILBOARD_TOKENS=str(tokens)) as site:
        yield site
        output = site.processes.text()
        assert "GET /" in output and "tbs_" not in output and ANNA not in output


@pytest.fixture
def tokens(site: Site) -> Iterator[Path]:
    """The token file, which a test may change."""
    path = site.folder.parent / "tokens"
    yield path
    path.write_text(token_line("anna", ANNA) + token_line("ben", BEN))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def start(site: Site, token: str) -> str:
    """The key of a new session."""
    answer = site.post("/sessions", headers=bearer(token))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def who(site: Site, secret: str) -> dict[str, Any]:
    found: dict[str, Any] = site.get("/me", headers=bearer(secret)).json()
    return found


def works(site: Site, key: str) -> bool:
    answer = site.get("/jobs", headers=bearer(key))
    if answer.status_code != 200:
        is_problem(answer, 401, "the session has ended")
    return answer.status_code == 200


# --- What a session permits -----------------------------------------------------------------------


def test_a_session_key_replaces_the_token_that_it_was_made_for(site: Site) -> None:
    answer = site.post("/sessions", headers=bearer(ANNA))
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    assert made["name"] == "anna" and made["key"].startswith("tbs_") and len(made["key"]) == 47
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert abs(left.total_seconds() - SESSION_AGE) < 600
    key = made["key"]
    expires = {"expires_at": made["expires_at"]}
    anna = {"name": "anna", "named": True, "role": "all", "token": "named", "version": __version__}
    assert who(site, key) == anna | {"session": expires}
    assert who(site, ANNA) == anna | {"session": None}
    body = {"command": "true", "queue": BY_HAND}
    job = site.post("/jobs", body, headers=bearer(key)).json()
    assert job["submitted_by"] == "anna"
    cancelled = site.post(f"/jobs/{job['id']}/cancel", headers=bearer(key)).json()
    assert cancelled["reason"] == "cancelled by anna"
    ticket = site.post("/ticket", headers=bearer(key)).json()["ticket"]
    done = site.job_maker.ended(b"text\n")
    read = requests.get(f"{site.url}/jobs/{done}/logs", params={"ticket": ticket}, timeout=30)
    assert read.text == "text\n"


def test_a_session_of_the_shared_token_has_no_name(site: Site) -> None:
    found = who(site, start(site, TOKEN))
    assert found["name"] is None and found["session"]


def test_a_session_key_cannot_make_another(site: Site) -> None:
    is_problem(site.post("/sessions", headers=bearer(start(site, ANNA))), 403, "send the token")


@pytest.mark.parametrize("key", ["tbs_", "tbs_" + "A" * 43, "tbs_" + "../" * 14 + "x", "x"])
def test_a_wrong_session_key_is_refused(site: Site, key: str) -> None:
    assert site.get("/jobs", headers=bearer(key)).status_code == 401
    assert site.post("/sessions", headers=bearer(key)).status_code == 401


def test_a_session_key_is_only_accepted_in_its_header(site: Site) -> None:
    key = start(site, ANNA)
    for options in ({"params": {"ticket": key}}, {"params": {"token": key}},
                    {"cookies": {"session": key, "key": key}}):  # fmt: skip
        assert requests.get(f"{site.url}/jobs", timeout=30, **options).status_code == 401  # type: ignore[arg-type]


def test_a_session_does_not_let_other_sites_in(site: Site) -> None:
    key = start(site, ANNA)
    elsewhere = f"http://127.0.0.1:{free_port()}"
    body = {"command": "true", "queue": BY_HAND}
    for headers in ({"Origin": elsewhere}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"},
                    {"Sec-Fetch-Site": "cross-site"}):  # fmt: skip
        for method, path in (("POST", "/jobs"), ("POST", "/sessions")):
            secret = key if path == "/jobs" else ANNA
            answer = site.ask(method, path, json=body, headers=bearer(secret) | headers)
            is_problem(answer, 403, "another site")
        answer = site.ask("DELETE", "/sessions/current", headers=bearer(key) | headers)
        is_problem(answer, 403, "another site")
    assert works(site, key)


def test_a_token_cannot_start_sessions_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a line in the audit log, and a token that can only read must not fill the disk."""
    (tmp_path / "tokens").write_text(token_line("anna", ANNA) + token_line("ben", BEN))
    client = create_app({"STORAGE": tmp_path / "jobs", "TOKENS": tmp_path / "tokens"}).test_client()
    monkeypatch.setattr(sign_in_limit, "MOST_SIGN_INS", 3)

    def sign_in(token: str) -> int:
        return client.post("/sessions", headers=bearer(token)).status_code

    assert [sign_in(ANNA) for _ in range(4)] == [201, 201, 201, 503]
    assert sign_in(BEN) == 201
    is_problem(client.post("/sessions", headers=bearer(ANNA)), 503, "too many sessions")
    clock = time.monotonic
    later = sign_in_limit.INTERVAL + 1
    monkeypatch.setattr(sign_in_limit.time, "monotonic", lambda: clock() + later)
    assert sign_in(ANNA) == 201


# --- What is stored -------------------------------------------------------------------------------


def test_only_hashes_are_stored_and_only_for_their_owner(site: Site) -> None:
    key = start(site, ANNA)
    home = site.folder / "sessions"
    path = home / hashlib.sha256(key.encode()).hexdigest()
    assert [home.stat().st_mode & 0o777, path.stat().st_mode & 0o777] == [0o700, 0o600]
    assert json.loads(path.read_text())["name"] == "anna"
    kept = [each.read_text(errors="replace") for each in site.folder.rglob("*") if each.is_file()]
    for secret in (key, key.removeprefix("tbs_"), ANNA, hashlib.sha256(ANNA.encode()).hexdigest()):
        assert not [text for text in kept if secret in text]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 9_999])
def test_a_damaged_session_has_ended(site: Site, content: bytes) -> None:
    key = start(site, ANNA)
    (site.folder / "sessions" / hash_key(key.encode())).write_bytes(content)
    assert not works(site, key)


def test_a_session_cannot_be_made_from_the_files(site: Site) -> None:
    """Anyone who can read the storage knows the names of the files, but not the keys."""
    key = start(site, ANNA)
    path = site.folder / "sessions" / hash_key(key.encode())
    other = "tbs_" + "A" * 43
    (path.parent / hash_key(other.encode())).write_bytes(path.read_bytes())
    assert not works(site, other) and works(site, key)
    assert site.get("/jobs", headers=bearer(path.name)).status_code == 401


# --- How a session ends ---------------------------------------------------------------------------


def test_signing_out_ends_only_this_session(site: Site) -> None:
    one, two = start(site, ANNA), start(site, ANNA)
    answer = site.ask("DELETE", "/sessions/current", headers=bearer(one))
    assert (answer.status_code, answer.text) == (204, "")
    assert [works(site, one), works(site, two)] == [False, True]
    without = site.ask("DELETE", "/sessions/current", headers=bearer(ANNA))
    is_problem(without, 404, "no session key")


def test_a_session_ends_with_its_named_token(site: Site, tokens: Path) -> None:
    anna, ben, shared = start(site, ANNA), start(site, BEN), start(site, TOKEN)
    tokens.write_text(token_line("anna", "a-new-token") + token_line("ben", BEN))  # replaced
    assert [works(site, key) for key in (anna, ben, shared)] == [False, True, True]
    tokens.write_text(token_line("anna", BEN))  # ben is revoked; his token has another owner
    assert [works(site, key) for key in (anna, ben, shared)] == [False, False, True]
    tokens.write_text(
        token_line("anna", "a-new-token") + token_line("anna", ANNA)
    )  # being replaced
    assert [works(site, key) for key in (anna, ben)] == [True, False]


def client_of(folder: Path, **config: Any) -> FlaskClient:
    return create_app({"STORAGE": folder} | config).test_client()


def test_a_session_ends_when_the_shared_token_changes_and_outlives_a_restart(
    tmp_path: Path,
) -> None:
    first, folder = TOKEN, tmp_path / "jobs"
    made = client_of(folder, TOKEN=first).post("/sessions", headers=bearer(first))
    key = bearer(made.get_json()["key"])
    again = client_of(folder, TOKEN=first)
    assert again.get("/jobs", headers=key).status_code == 200
    changed = client_of(folder, TOKEN="another-long-token")
    assert changed.get("/jobs", headers=key).status_code == 401
    named = tmp_path / "tokens"
    named.write_text(token_line("anna", ANNA))
    assert client_of(folder, TOKENS=named).get("/jobs", headers=key).status_code == 401
    assert again.delete("/sessions/current", headers=key).status_code == 204
    assert client_of(folder, TOKEN=first).get("/jobs", headers=key).status_code == 401


def test_a_session_ends_after_thirty_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(tmp_path / "jobs", TOKEN=TOKEN)
    key = bearer(client.post("/sessions", headers=bearer(TOKEN)).get_json()["key"])
    clock = time.time
    for days, status in ((29.9, 200), (30.1, 401)):
        shift = days * 86_400
        monkeypatch.setattr(sessions_module.time, "time", lambda shift=shift: clock() + shift)
        assert client.get("/jobs", headers=key).status_code == status


def test_without_a_token_there_is_nothing_to_sign_in_to(client: FlaskClient) -> None:
    answer = client.post("/sessions")
    assert answer.status_code == 409
    assert answer.get_json()["detail"] == (
        "this API needs no token, so there is nothing to sign in to"
    )
    found = client.get("/me").get_json()
    assert (found["name"], found["named"], found["session"]) == (None, False, None)


def test_apis_that_share_redis_share_sessions(redis: RedisServer) -> None:
    one, two = (client_of(redis.url, TOKEN=TOKEN) for _ in range(2))  # type: ignore[arg-type]
    key = bearer(one.post("/sessions", headers=bearer(TOKEN)).get_json()["key"])
    assert two.get("/me", headers=key).status_code == 200
    assert two.delete("/sessions/current", headers=key).status_code == 204
    assert one.get("/me", headers=key).status_code == 401


def test_a_request_with_a_session_key_costs_one_small_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many sessions there are."""
    store = FolderStore(tmp_path / "jobs")
    for _ in range(30):
        store.sessions.add(sessions_module.new_session("hash", None)[1])
    client = client_of(tmp_path / "jobs", TOKEN=TOKEN)
    key = bearer(client.post("/sessions", headers=bearer(TOKEN)).get_json()["key"])
    read: list[str] = []
    small = session_files.read_small

    def note(path: str) -> bytes:
        read.append(path)
        return small(path)

    monkeypatch.setattr(session_files, "read_small", note)
    assert client.get("/me", headers=key).status_code == 200
    assert len(read) == 1
