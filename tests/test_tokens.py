"""Named tokens: who has which, what each permits, what it is shown as, and how it is revoked."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import Result
from conftest import BY_HAND, TOKEN, Processes, Site, free_port, serve_site
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from web import is_problem, token_line

from api import create_app
from tailboard.web.tokens import TokenFile, add_token, parse_tokens

ANNA, BEN = "annas-own-token", "bens-own-token"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API with named tokens only; no token may appear in its output."""
    base = tmp_path_factory.mktemp("named")
    tokens = base / "tokens"
    tokens.write_text(token_line("anna", ANNA))
    with serve_site(base, TAILBOARD_TOKENS=str(tokens)) as site:
        site.headers["Authorization"] = f"Bearer {ANNA}"
        yield site
        output = site.processes.text()
        assert "GET /" in output and ANNA not in output and BEN not in output


@pytest.fixture
def tokens(site: Site) -> Iterator[Path]:
    """The token file, which a test may change."""
    path = site.folder.parent / "tokens"
    yield path
    path.write_text(token_line("anna", ANNA))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- What a named token permits and identifies ----------------------------------------------------


@pytest.mark.parametrize("key", [None, "", "Bearer ", "Bearer x", ANNA, f"bearer {ANNA}"])
def test_without_a_named_token_nobody_is_let_in(site: Site, key: str | None) -> None:
    is_problem(site.get("/jobs", headers={"Authorization": key}), 401, "token")
    hashed = hashlib.sha256(ANNA.encode()).hexdigest()
    is_problem(site.get("/jobs", headers=bearer(hashed)), 401)


def test_a_named_token_identifies_who_pauses(site: Site) -> None:
    for claimed in (None, {"why": "freeze"}, {"by": "anna"}):
        answer = site.ask("PUT", "/queues/deploy/pause", json=claimed)
        assert answer.json()["by"] == "anna"
    reported = site.ask("PUT", "/queues/deploy/pause", json={"by": "ben"})
    is_problem(reported, 400, "by must be 'anna'")


def test_a_named_token_identifies_who_submits(site: Site) -> None:
    for claimed in ({}, {"submitted_by": None}, {"submitted_by": "anna"}):
        answer = site.post("/jobs", {"command": "true", "queue": BY_HAND} | claimed)
        assert answer.json()["submitted_by"] == "anna"
    reported = site.post("/jobs", {"command": "true", "submitted_by": "ben"})
    is_problem(reported, 400, "submitted_by must be 'anna'")
    old = site.job_maker.ended(submitted_by="ben")
    assert site.post(f"/jobs/{old}/rerun").json()["submitted_by"] == "anna"


def test_jobs_are_listed_by_their_submitter(site: Site) -> None:
    body = {"command": "true", "queue": BY_HAND}
    annas = site.post("/jobs", body).json()["id"]
    site.job_maker.ended(submitted_by="anna from another town")
    for by, expected in (("anna", True), ("ann", False), ("ben", False)):
        listed = site.get("/jobs", params={"by": by, "limit": 500}).json()["jobs"]
        assert {job["submitted_by"] for job in listed} <= {by}
        assert (annas in [job["id"] for job in listed]) == expected


def test_a_named_token_identifies_its_owner(site: Site) -> None:
    found = site.get("/me").json()
    assert (found["name"], found["named"], found["session"]) == ("anna", True, None)
    assert found["token"] == "named"


def test_a_named_token_identifies_who_runs_a_saved_command(site: Site) -> None:
    saved = {"command": "true", "queue": BY_HAND}
    assert site.ask("PUT", "/saved/deploy", json=saved).status_code == 201
    assert site.post("/saved/deploy/run", {}).json()["submitted_by"] == "anna"
    reported = site.post("/saved/deploy/run?submitted_by=ben", {})
    is_problem(reported, 400, "submitted_by must be 'anna'")


def test_a_named_token_identifies_who_cancels(site: Site) -> None:
    job = site.job_maker.queued()
    assert site.post(f"/jobs/{job.id}/cancel").json()["reason"] == "cancelled by anna"


def test_the_shared_token_identifies_nobody(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_line("anna", ANNA))
    app = create_app({"STORAGE": tmp_path / "jobs", "TOKEN": TOKEN, "TOKENS": path})
    client = app.test_client()
    asked = {"command": "true", "submitted_by": "ben"}
    assert client.post("/jobs", json=asked, headers=bearer(TOKEN)).json["submitted_by"] == "ben"  # type: ignore[index]
    is_problem(client.post("/jobs", json=asked, headers=bearer(ANNA)), 400)
    is_problem(client.get("/jobs", headers=bearer("")), 401)


def test_all_named_tokens_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    compare = hmac.compare_digest

    def note(one: Any, other: Any) -> bool:
        compared.append(other)
        return compare(one, other)

    path = tmp_path / "tokens"
    path.write_text("".join(token_line(name, name * 9) for name in "abc"))
    monkeypatch.setattr(hmac, "compare_digest", note)
    client = create_app({"STORAGE": tmp_path / "jobs", "TOKENS": path}).test_client()
    for token, status in (("a" * 9, 200), ("c" * 9, 200), ("x", 401)):
        compared.clear()
        assert client.get("/jobs", headers=bearer(token)).status_code == status
        assert {each.sha256 for each in parse_tokens(path.read_bytes())} <= set(compared)


# --- Roles ----------------------------------------------------------------------------------------


def line(name: str, token: str, role: str = "") -> str:
    """A line of the token file with a role."""
    return token_line(name, token).replace("\n", f" {role}\n")


def role_of(site: Site, token: str) -> str:
    return str(site.get("/me", headers=bearer(token)).json()["role"])


def test_a_token_has_the_role_of_its_line_from_the_next_request_on(
    site: Site, tokens: Path
) -> None:
    """A session has the role that its token has now."""
    made = site.post("/sessions", headers=bearer(ANNA))
    session = made.json()["key"]
    assert role_of(site, ANNA) == "all"
    for role in ("read", "run", "all", "read", ""):
        tokens.write_text(line("anna", ANNA, role))
        for key in (ANNA, session):
            assert role_of(site, key) == (role or "all")
            answer = site.post("/jobs", {"command": "true"}, headers=bearer(key))
            assert answer.status_code == (201 if role in ("all", "") else 403)


def test_two_tokens_of_one_name_have_a_role_each(site: Site, tokens: Path) -> None:
    """While a token is being replaced by hand."""
    new = "annas-new-token"
    for first, second in (("read", ""), ("", "read"), ("run", "read")):
        tokens.write_text(line("anna", ANNA, first) + line("anna", new, second))
        sessions = [
            site.post("/sessions", headers=bearer(key)).json()["key"] for key in (ANNA, new)
        ]
        wanted = [first or "all", second or "all"]
        assert [role_of(site, key) for key in (ANNA, new)] == wanted
        assert [role_of(site, key) for key in sessions] == wanted


def test_the_last_line_about_a_token_counts() -> None:
    content = line("anna", ANNA) + line("ben", BEN) + line("anna", ANNA, "read")
    found = parse_tokens(content.encode())
    assert [(each.name, each.role) for each in found] == [("anna", "read"), ("ben", "all")]


@pytest.mark.parametrize("role", ["write", "READ", "read run", "all # boss", "hunter2-hunter2"])
def test_a_line_with_another_third_word_is_bad(role: str) -> None:
    content = f"# ours\n{token_line('ben', BEN)}{line('anna', ANNA, role)}"
    with pytest.raises(ValueError) as refused:
        parse_tokens(content.encode())
    assert str(refused.value) == "line 3 is not NAME SHA256 [all|run|read]"


# --- Tickets --------------------------------------------------------------------------------------


def read_with(site: Site, job_id: str, ticket: str) -> int:
    url = f"{site.url}/jobs/{job_id}/logs"
    return requests.get(url, params={"ticket": ticket}, timeout=30).status_code


def test_a_ticket_expires_when_its_token_is_revoked(site: Site, tokens: Path) -> None:
    tokens.write_text(token_line("anna", ANNA) + token_line("ben", BEN))
    job_id = site.job_maker.ended(b"text\n")
    made = {
        name: site.post(path, headers=bearer(token)).json()["ticket"]
        for name, token, path in (("anna", ANNA, "/ticket"), ("ben", BEN, f"/jobs/{job_id}/ticket"))
    }
    assert [read_with(site, job_id, made[name]) for name in ("anna", "ben")] == [200, 200]
    tokens.write_text(token_line("anna", ANNA))
    assert [read_with(site, job_id, made[name]) for name in ("anna", "ben")] == [200, 401]


def test_a_ticket_cannot_be_made_from_the_file(site: Site) -> None:
    job_id = site.job_maker.ended(b"text\n")
    for key in ("", hashlib.sha256(ANNA.encode()).hexdigest()):
        forged = URLSafeTimedSerializer(key, salt="tailboard log ticket").dumps(job_id)
        assert read_with(site, job_id, str(forged)) == 401


# --- The file -------------------------------------------------------------------------------------


def test_a_change_of_the_token_file_takes_effect_at_once(site: Site, tokens: Path) -> None:
    assert site.get("/jobs", headers=bearer(BEN)).status_code == 401
    for content, expected in (
        (token_line("anna", ANNA) + token_line("ben", BEN), 200),
        (f"# all of us\n\n  {token_line('ben', BEN).upper()}", 200),
        (token_line("ben", "other-token"), 401),  # of the same size
        ("", 401),
        (token_line("ben", BEN), 200),
    ):
        tokens.write_text(content)
        assert site.get("/jobs", headers=bearer(BEN)).status_code == expected, content


@pytest.mark.parametrize("bad", [token_line("ben", BEN)[:30], "\0\xff \n", None])
def test_an_invalid_token_file_changes_nothing_and_is_reported_once(
    site: Site, tokens: Path, bad: str | None
) -> None:
    before = site.processes.text().count("trouble tokens")
    assert site.get("/jobs").status_code == 200
    if bad is None:
        tokens.unlink()
    else:
        tokens.write_text(bad)
    for _ in range(3):
        assert site.get("/jobs").status_code == 200
        assert site.get("/jobs", headers=bearer(BEN)).status_code == 401
    assert site.processes.text().count("trouble tokens") == before + 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory"),
        ("", "contains no token: `tailboard token NAME` makes one"),
        (f"#\n{token_line('anna', ANNA)}ben\n", "line 3 is not NAME SHA256"),
    ],
)
def test_a_useless_token_file_is_refused_in_one_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"TAILBOARD_TOKENS: .*{sentence}"):
        TokenFile(str(path)).check()


def test_the_api_does_not_start_with_an_invalid_token_file(
    processes: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"anna {ANNA}\n")
    bind = f"127.0.0.1:{free_port()}"
    settings = {"TAILBOARD_TOKENS": str(path), "TAILBOARD_BIND": bind, "TAILBOARD_TOKEN": TOKEN}
    assert processes.start(sys.executable, "api.py", **settings).wait(60) != 0
    reported = processes.text()
    assert (
        reported.startswith("api: TAILBOARD_TOKENS: ") and "line 1 is not NAME SHA256" in reported
    )
    assert "Traceback" not in reported and ANNA not in reported


# --- tailboard token ------------------------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def make_token(tmp_path: Path) -> Run:
    app = create_app({"STORAGE": tmp_path / "jobs", "TOKENS": tmp_path / "tokens"})
    return lambda *words: app.test_cli_runner().invoke(args=["token", *words])


def test_a_token_is_printed_once_and_stored_as_a_hash(make_token: Run, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    first = make_token("anna")
    assert path.read_text() == token_line("anna", first.stdout.strip())
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(f"# ours\n{path.read_text().strip()}")  # an editor left no newline
    path.chmod(0o640)
    second = make_token("ben")
    kept = f"# ours\n{token_line('anna', first.stdout.strip())}"
    assert path.read_text() == kept + token_line("ben", second.stdout.strip())
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(first.stdout.strip()) == 43 and first.stdout != second.stdout


def test_a_token_can_be_replaced_and_revoked(make_token: Run, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(token_line("ben", BEN) + token_line("anna", ANNA))
    refused = make_token("anna")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "anna already has a token" in refused.stderr
    replaced = make_token("anna", "--replace")
    assert path.read_text() == token_line("ben", BEN) + token_line("anna", replaced.stdout.strip())
    revoked = make_token("anna", "--revoke")
    assert (revoked.stdout, path.read_text()) == ("", token_line("ben", BEN))


@pytest.mark.parametrize(
    ("words", "content", "sentence"),
    [
        (["a b"], "", "NAME must be 1 to 64"),
        (["#a"], "", "NAME must be 1 to 64"),
        (["anna", "--revoke"], token_line("ben", BEN), "anna has no token"),
        (["anna", "--replace", "--role", "read"], token_line("ben", BEN), "anna has no token"),
        (["ben"], token_line("ben", BEN), "--replace makes a new one, and --role changes its role"),
        (["ben", "--revoke", "--role", "run"], token_line("ben", BEN), "not both"),
        (["ben", "--role", "run"], "broken\n", "line 1 is not NAME SHA256"),
        (["anna"], "broken\n", "line 1 is not NAME SHA256"),
    ],
)
def test_a_failure_to_make_a_token_is_reported_in_one_sentence(
    make_token: Run, tmp_path: Path, words: list[str], content: str, sentence: str
) -> None:
    (tmp_path / "tokens").write_text(content)
    reported = make_token(*words)
    assert (reported.exit_code, reported.stdout) == (1, "")
    assert sentence in reported.stderr and "Traceback" not in reported.stderr
    assert (tmp_path / "tokens").read_text() == content


def roles_in(path: Path) -> dict[str, str]:
    return {each.sha256: f"{each.name} {each.role}" for each in parse_tokens(path.read_bytes())}


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.mark.parametrize("role", ["read", "run", "all"])
def test_a_token_is_made_with_a_role(make_token: Run, tmp_path: Path, role: str) -> None:
    made = make_token("anna", "--role", role)
    assert made.exit_code == 0, made.stderr
    assert roles_in(tmp_path / "tokens") == {hashed(made.stdout.strip()): f"anna {role}"}
    is_plain = (tmp_path / "tokens").read_text() == token_line("anna", made.stdout.strip())
    assert is_plain == (role == "all")  # which versions without roles can read


def test_a_role_is_changed_without_changing_the_token(make_token: Run, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n{line('anna', ANNA)}{line('ben', BEN)}{line('anna', 'new', 'run')}")
    changed = make_token("anna", "--role", "read")
    assert (changed.exit_code, changed.stdout) == (0, "")
    assert changed.stderr == "anna has the role read now; the token is the same as before\n"
    assert path.read_text().startswith("# ours\n")
    assert roles_in(path) == {
        hashed(ANNA): "anna read",
        hashed("new"): "anna read",
        hashed(BEN): "ben all",
    }


@pytest.mark.parametrize(
    ("before", "words", "after"),
    [
        (["read"], [], "read"),
        ([""], [], "all"),
        (["read"], ["--role", "all"], "all"),
        (["all", "run"], [], "run"),
        (["run", "read"], [], "read"),
    ],
)
def test_a_new_token_keeps_the_role_of_the_one_that_it_replaces(
    make_token: Run, tmp_path: Path, before: list[str], words: list[str], after: str
) -> None:
    path = tmp_path / "tokens"
    old = [line("anna", f"token {number}", role) for number, role in enumerate(before)]
    path.write_text("".join(old))
    replaced = make_token("anna", "--replace", *words)
    assert roles_in(path) == {hashed(replaced.stdout.strip()): f"anna {after}"}


def test_tokens_made_at_once_are_all_kept(tmp_path: Path) -> None:
    tokens = TokenFile(str(tmp_path / "tokens"))
    (tmp_path / "tokens.new").write_text("of one who was killed")
    names = [f"name-{number}" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: add_token(tokens, name, f"token of {name}"), names))
    assert sorted(each.name for each in tokens.read()) == sorted(names)
    assert os.listdir(tmp_path) == ["tokens"]


def test_without_a_file_no_token_is_made(client: FlaskClient) -> None:
    reported = client.application.test_cli_runner().invoke(args=["token", "anna"])
    assert (
        reported.exit_code == 1 and "TAILBOARD_TOKENS must name the token file" in reported.stderr
    )
