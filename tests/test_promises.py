"""The promises of docs/security.md: each names its tests. Here are also the tests of those promises
that belong to no other file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Site, receive, serve_site
from test_docs import is_item, without_code
from web import UNKNOWN, follow, is_problem, token_line

from api import create_app
from tailboard import sessions
from tailboard.masking import Mask
from tailboard.web import bodies, log_follow, server

SECURITY = ROOT / "docs" / "security.md"
# Sections that explain or instruct.
NO_PROMISES = {
    "Security",
    "Why not a cookie?",
    "How to make them",
    "A screen on the wall",
    "Not protected",
    "The tests of these promises",
}
NOTE = re.compile(r"\[\^([a-z-]+)\]")
DEFINITION = re.compile(r"^\[\^([a-z-]+)\]: (.+)$", re.M)
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")  # in tests/


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """(the heading above it, its text) of each paragraph, list item and row of a table."""
    heading, lines = "", [""]
    for line in [*without_code(path.read_text()).split("\n"), ""]:
        if lines and (not line.strip() or line.startswith(("#", "|", "[^")) or is_item(line)):
            yield heading, " ".join(lines)
            lines = []
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.strip():
            lines.append(line.strip())


def promises() -> list[str]:
    """The texts that must name a test: all but the heads of tables, and explanations."""
    found = [text for heading, text in blocks(SECURITY) if heading not in NO_PROMISES]
    heads = {f"| {names} |" for names in ("Limit | Value", "Role | What it allows", "--- | ---")}
    return [text for text in found if text.strip() and text not in heads]


def definitions() -> dict[str, list[tuple[str, str]]]:
    """The tests of each note, as (file, function)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, tests in DEFINITION.findall(SECURITY.read_text()):
        matches = [TEST.fullmatch(test) for test in tests.split(", ")]
        found[name] = [(match[1], match[2]) for match in matches if match]
        assert len(found[name]) == len(matches), f"[^{name}] must be `FILE::TEST`, …: {tests}"
    return found


def test_each_promise_names_its_tests() -> None:
    assert len(promises()) > 40
    known = definitions()
    for text in promises():
        assert NOTE.search(text), f"no test is named for: {text}"
    used = set(NOTE.findall(re.sub(DEFINITION, "", SECURITY.read_text())))
    assert used == set(known)


def test_each_test_that_a_promise_names_exists() -> None:
    for name, tests in definitions().items():
        for file, function in tests:
            text = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^def {function}\(", text, re.M), f"[^{name}]: {file}::{function}"


# --- Limits ---------------------------------------------------------------------------------------


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| (Time .*?) \| (\d+) seconds", SECURITY.read_text(), re.M))
    keepalive = round(log_follow.KEEPALIVE_INTERVAL)
    assert {limit: int(seconds) for limit, seconds in rows.items()} == {
        "Time to send the head of a request": server.HEADER_TIME,
        "Time to send the body of a request": bodies.BODY_TIME,
        "Time to accept the next bytes of an answer": server.CLIENT_TIME,
        "Time after which an idle connection is closed": server.HEADER_TIME,
        "Time until the API notices that a follower has disconnected": keepalive,
        "Time until the API exits after SIGTERM, even while logs are being followed": (
            server.STOP_TIME + 1  # to end its second process
        ),
    }
    text = SECURITY.read_text()
    assert f"accepts {server.MAX_CONNECTIONS:,} connections at once" in text
    assert f"ends after {sessions.SESSION_AGE // 86_400} days" in text
    assert f"more than {sessions.MAX_SESSIONS:,} newer sessions" in text
    assert f"its named token has {sessions.MAX_OF_NAME} newer" in text


ANNA, BEN = "annas-own-token", "bens-own-token"


@pytest.fixture(scope="module")
def named_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An API with named tokens that soon closes idle connections."""
    base = tmp_path_factory.mktemp("promises")
    tokens = base / "tokens"
    tokens.write_text(token_line("anna", ANNA) + token_line("ben", BEN))
    quick = "tailboard.web.server.HEADER_TIME=1"
    with serve_site(base, quick, TAILBOARD_TOKENS=str(tokens)) as site:
        site.headers["Authorization"] = f"Bearer {ANNA}"
        yield site


def test_an_idle_connection_is_closed(named_site: Site) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for begun in (b"", request):
        with named_site.connect(begun, timeout=60) as connection:
            answer = receive(connection)  # until the server closes it
        assert answer.count(b"HTTP/1.1 ") == (1 if begun else 0), answer


# --- Tokens ---------------------------------------------------------------------------------------


def test_a_follower_whose_token_is_revoked_follows_until_the_end(named_site: Site) -> None:
    claim = named_site.job_maker.running(b"begin\n")
    ben = {"Authorization": f"Bearer {BEN}"}
    stream = follow(named_site, claim.job.id, **ben)
    stream.has(b"begin\n")
    (named_site.folder.parent / "tokens").write_text(token_line("anna", ANNA))
    is_problem(named_site.get("/jobs", headers=ben), 401)
    named_site.job_maker.write(claim, b"more\n")
    stream.has(b"more\n")
    named_site.job_maker.finish(claim)
    assert stream.rest() == b"begin\nmore\n"


def test_a_changed_role_applies_at_once_and_also_to_sessions_and_tickets(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("anna", ANNA))
    client = create_app({"STORAGE": tmp_path / "jobs", "TOKENS": tokens}).test_client()
    by_token = {"Authorization": f"Bearer {ANNA}"}
    key = client.post("/sessions", headers=by_token).get_json()["key"]
    ticket = client.post("/ticket", headers=by_token).get_json()["ticket"]
    for role, statuses in (("read", (403, 403)), ("run", (403, 403)), ("all", (400, 400))):
        tokens.write_text(f"{token_line('anna', ANNA).strip()} {role}\n")
        for headers in (by_token, {"Authorization": f"Bearer {key}"}):
            assert client.get("/me", headers=headers).get_json()["role"] == role
        answers = [
            client.post("/jobs", headers=headers, json={})
            for headers in (by_token, {"Authorization": f"Bearer {key}"})
        ]
        assert tuple(answer.status_code for answer in answers) == statuses
        assert client.get(f"/jobs/{UNKNOWN}/logs?ticket={ticket}").status_code == 404
        assert client.post(f"/jobs/{UNKNOWN}/cancel?ticket={ticket}").status_code == 401


# --- Secrets --------------------------------------------------------------------------------------


def test_the_examples_of_masked_forms_are_masked() -> None:
    text = (ROOT / "docs" / "secrets.md").read_text()
    value = re.findall(r"^\| Form \| Example for `(.+)` \|$", text, re.M)
    section = text.partition("\n## What is masked\n")[2].partition("\n## ")[0]
    examples = re.findall(r"^\| [^`].* \| `([^`]+)` \|$", section, re.M)
    assert len(value) == 1 and len(examples) >= 6
    mask = Mask([value[0].encode()])
    for example in examples:
        masked = mask.apply(f"before {example} after".encode()).decode()
        assert re.fullmatch(r"before \*+=* after", masked), (example, masked)
