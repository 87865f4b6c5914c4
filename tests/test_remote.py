"""Commands on a server: login and contexts, whoami, and following and waiting over a restart of the
API. test_completion.py tests what the shell completes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from command_site import HEEDS_CTRL_C, USERS_TOKEN, Tailboard
from conftest import BY_HAND, BY_WORKER, ROOT, TOKEN, Gate, JobMaker, Site, serve_site, wait_until
from other_servers import Request, json_answer, serve, silent_server

from tailboard import __version__
from tailboard.cli import target
from tailboard.cli.contexts import Context, change_contexts
from tailboard.cli.login import describe_role
from tailboard.status import Status

SERVER = {"name": "anna", "version": __version__}  # an answer of GET /me


@pytest.fixture
def typed(job_maker: JobMaker, home: dict[str, str]) -> Tailboard:
    """Runs commands with stored contexts, and without settings in the environment."""
    return Tailboard(job_maker, home)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The file with the contexts."""
    return tmp_path / "config" / "tailboard" / "contexts.json"


@pytest.fixture
def anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which has no jobs folder."""
    place = tmp_path / "anywhere"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


# --- login, logout, whoami ------------------------------------------------------------------------


def test_after_a_login_commands_work_on_the_server(
    typed: Tailboard, on_server: Tailboard, stored: Path, anywhere: Path
) -> None:
    url = on_server.env["TAILBOARD_API"]
    done = typed("login", f"{url}/", "--as", "work", text=f"{USERS_TOKEN}\n")
    assert (done.stdout, done.stderr) == (f"logged in to {url} as anna (context work)\n", "")
    assert (mode_of(stored), mode_of(stored.parent)) == (0o600, 0o700)
    job_id = typed("submit", "--queue", BY_HAND, "true").stdout.strip()
    assert on_server.storage.get(job_id).submitted_by == "anna"
    listed = typed("login", "--list").stdout
    assert listed == f"* work  {url}\n" and USERS_TOKEN not in listed
    assert typed("whoami").stdout.splitlines() == [
        f"server   {url}",
        f"version  {__version__}",
        "name     anna",
        "role     all: may do everything",
        "context  work",
    ]
    assert "no jobs folder" in typed("--on", "local", "jobs").stderr
    assert typed("logout").stdout == f"logged out of {url} (context work)\n"
    assert USERS_TOKEN not in stored.read_text()
    assert "no jobs folder" in typed("jobs").stderr
    assert typed("logout").stderr == "Error: you are not logged in to a server\n"
    assert not (anywhere / "jobs").exists()


def test_whoami_without_a_server_shows_the_folder(on_folder: Tailboard) -> None:
    on_folder.folder.mkdir(exist_ok=True)
    assert on_folder("whoami").stdout.splitlines() == [
        f"storage  {on_folder.folder}",
        f"version  {__version__}",
        "name     anna",
        "role     all: may do everything",
        "context  none",
    ]


def test_whoami_with_variables_of_the_environment(typed: Tailboard, locked: Site) -> None:
    done = typed("whoami", TAILBOARD_API=locked.url, TAILBOARD_TOKEN=TOKEN)
    assert "name     anyone with the shared token\n" in done.stdout
    assert "context  none: TAILBOARD_API is set\n" in done.stdout


@pytest.mark.parametrize(
    ("me", "shown"),
    [
        ({"role": "run"}, "run: may read, start saved commands, and cancel and rerun their jobs"),
        ({"role": "read"}, "read: may only read"),
        ({"role": "audit"}, "audit"),  # of a later version
        ({}, "all: may do everything"),  # of a version without roles
    ],
)
def test_whoami_explains_the_role(me: dict[str, str], shown: str) -> None:
    assert describe_role(me) == shown


def test_a_wrong_token_is_not_stored(typed: Tailboard, command_site: Site, stored: Path) -> None:
    url = command_site.url
    done = typed("login", url, text="wrong\n")
    reported = f"Error: the server at {url} refused this token, so it was not stored\n"
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", reported)
    done = typed("login", url, text="\n")
    assert done.stderr == f"Error: the server at {url} needs a token, and none was given\n"
    assert typed("login", url, text="a\x1bb").stderr.endswith("contains control characters\n")
    assert not stored.exists()


def test_a_server_without_a_token_asks_for_none(typed: Tailboard, site: Site) -> None:
    done = typed("login", site.url)
    nobody = "anyone: the server needs no token"
    assert done.stdout == f"logged in to {site.url} as {nobody} (context 127.0.0.1)\n"
    assert typed("jobs").exit_code == 0


def test_the_token_is_not_shown_while_it_is_typed(
    command_site: Site, home: dict[str, str], stored: Path
) -> None:
    leader, terminal = pty.openpty()
    command = [sys.executable, "-m", "tailboard", "login", command_site.url]
    env = {**os.environ, **home, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    while not shown.endswith(f"Token for {command_site.url}: ".encode()):
        shown += os.read(leader, 1 << 16)
    os.write(leader, f"{USERS_TOKEN}\n".encode())
    while b"logged in" not in shown:
        shown += os.read(leader, 1 << 16)
    assert process.wait(60) == 0
    os.close(leader)
    assert USERS_TOKEN.encode() not in shown
    assert json.loads(stored.read_text())["contexts"][0]["token"] == USERS_TOKEN


def test_a_file_with_other_permissions_becomes_private(
    typed: Tailboard, stored: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "dotfiles.json"
    kept.write_text('{"current": null, "contexts": []}')
    kept.chmod(0o644)
    stored.parent.mkdir(parents=True)
    stored.symlink_to(kept)
    with serve(lambda request: json_answer(SERVER)) as url:
        assert typed("login", url, "--as", "a").exit_code == 0
    assert stored.is_symlink() and mode_of(kept) == 0o600
    assert json.loads(kept.read_text())["current"] == "a"


def test_contexts_are_chosen_by_name(typed: Tailboard) -> None:
    asked: list[str] = []

    def respond(request: Request) -> object:
        asked.append(request.headers["Host"])
        return json_answer({**SERVER, "queues": []})

    with serve(respond) as one, serve(respond) as two:  # type: ignore[arg-type]
        hosts = [url.removeprefix("http://") for url in (one, two)]
        typed("login", one)
        other = typed("login", two)
        taken = f"context 127.0.0.1 is the server at {one}: choose another name with --as"
        assert (other.exit_code, other.stderr) == (1, f"Error: {taken}\n")
        assert typed("login", one).exit_code == 0
        assert typed("login", two, "--as", "two").exit_code == 0
        assert typed("login", "--list").stdout == f"  127.0.0.1  {one}\n* two        {two}\n"
        asked.clear()
        typed("queues")
        typed("queues", "--on", "127.0.0.1")
        typed("--on", "127.0.0.1", "queues")
        typed("queues", TAILBOARD_CONTEXT="127.0.0.1")
        typed("queues", "--on", "two", TAILBOARD_CONTEXT="127.0.0.1")
        done = typed("queues", "--on", "two", TAILBOARD_API=one)
        note = f"Note: TAILBOARD_API={one} takes precedence over --on two\n"
        assert done.stderr.startswith(note)
        assert asked == [hosts[number] for number in (1, 0, 0, 0, 1, 0)]
        done = typed("queues", "--on", "three")
        assert done.exit_code == 1 and "there is no context 'three' (contexts: 127.0" in done.stderr
        assert typed("logout", "127.0.0.1").exit_code == 0
        assert typed("login", "--list").stdout == f"* two  {two}\n"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("login", 2, "give the URL of a server, such as https://ci.example.org, or --list"),
        ("login ci.example.org", 1, "URL must be a URL like https://ci.example.org, not 'ci."),
        ("login http://a:b@ci.example.org", 1, "URL must be a URL like https://ci.example.org"),
        ("login --list http://ci.example.org", 2, "give either --list or a URL, not both"),
        ("login --on a http://ci.example.org", 2, "--on selects a server that is stored already"),
        ("login http://[::1]:1", 2, "--as must name this server, since its host is not valid"),
        ("login http://127.0.0.1:1 --as local", 2, "--as must be 1 to 64 letters, digits"),
        ("login http://127.0.0.1:1 --as a/b", 2, "--as must be 1 to 64 letters, digits"),
        ("login http://127.0.0.1:1", 1, "cannot connect to the server at http://127.0.0.1:1"),
        ("logout a", 1, "there is no context 'a' (contexts: none); `tailboard login URL --as a`"),
        ("logout a --on b", 2, "give either NAME or --on, not both"),
    ],
)
def test_a_mistake_is_explained_in_one_sentence(
    typed: Tailboard, monkeypatch: pytest.MonkeyPatch, words: str, code: int, sentence: str
) -> None:
    monkeypatch.setattr(target, "PATIENCE", 0.05)
    done = typed(*words.split())
    assert (done.exit_code, done.stdout) == (code, "")
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "\udcff",
        "[" * 100_000,
        '{"current": null}',
        '{"current": 1, "contexts": []}',
        '{"current": null, "contexts": [1]}',
        '{"current": null, "contexts": [{"name": "a"}]}',
        '{"current": null, "contexts": [{"name": "a", "url": 5}]}',
        '{"current": null, "contexts": [{"name": "a", "url": "x"}]}',
    ],
)
def test_a_damaged_file_is_reported_in_one_sentence(
    typed: Tailboard, stored: Path, content: str
) -> None:
    stored.parent.mkdir(parents=True)
    stored.write_text(content, errors="surrogateescape")
    for words in ("jobs", "login --list", "login http://127.0.0.1:1", "logout", "whoami"):
        done = typed(*words.split())
        why = "it is not as `tailboard login` writes it; delete it, and log in again"
        assert done.exit_code == 1
        assert done.stderr == f"Error: {stored} cannot be used: {why}\n"
    assert stored.read_text(errors="surrogateescape") == content


def test_a_file_that_cannot_be_read_is_reported(typed: Tailboard, stored: Path) -> None:
    stored.parent.mkdir(parents=True)
    os.mkfifo(stored)
    done = typed("jobs")
    assert done.stderr == f"Error: {stored} cannot be read: it is not a regular file\n"


def test_logins_at_the_same_time_keep_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def log_in(number: int) -> None:
        with change_contexts() as contexts:
            contexts.by_name[f"c{number}"] = Context(f"c{number}", "http://ci.example.org")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log_in, range(20)))
    with change_contexts() as contexts:
        assert len(contexts.by_name) == 20


def test_a_login_over_http_to_another_machine_warns(
    typed: Tailboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(lambda request: json_answer(SERVER)) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        done = typed("login", "http://ci.example.org")
        warning = "http:// sends the token unencrypted, so anyone on the way can read it"
        assert done.stderr == f"Warning: {warning}\n"
        assert done.stdout.endswith("as anna (context ci.example.org)\n")
        variables = {"TAILBOARD_CONTEXT": "other", "TAILBOARD_STORAGE": "jobs"}
        done = typed("login", "http://ci.example.org", **variables)
        note = "is set, and takes precedence over this login"
        assert f"Note: TAILBOARD_CONTEXT {note}\nNote: TAILBOARD_STORAGE {note}\n" in done.stderr


# --- Servers that refuse, or do not respond -------------------------------------------------------


def test_a_refused_token_is_explained(
    typed: Tailboard, command_site: Site, monkeypatch: pytest.MonkeyPatch, home: dict[str, str]
) -> None:
    url = command_site.url
    monkeypatch.setenv("XDG_CONFIG_HOME", home["XDG_CONFIG_HOME"])
    with change_contexts() as contexts:
        contexts.by_name["work"] = Context("work", url, "revoked")
        contexts.by_name["open"] = Context("open", url)
        contexts.current = "work"
    refused = f"Error: the server at {url} refused the token"
    for words in ("jobs", "submit true", "logs x", "whoami", "saved", "cancel x", "pause gpu"):
        done = typed(*words.split())
        assert (done.exit_code, done.stderr) == (1, f"{refused} of context work\n"), words
    done = typed("jobs", TAILBOARD_TOKEN="wrong")
    assert (done.exit_code, done.stderr) == (1, f"{refused} in TAILBOARD_TOKEN\n")
    needs = f"Error: the server at {url} needs a token: set TAILBOARD_TOKEN, or use"
    assert typed("jobs", "--on", "open").stderr.startswith(needs)
    assert typed("jobs", TAILBOARD_API=url).stderr.startswith(needs)


WORDS = (
    "jobs", "submit true", "show x", "wait x", "logs x", "logs -f x", "cancel x", "rerun x",
    "delete x", "cancel --status queued --yes", "grep x", "pause gpu", "resume gpu", "queues",
    "save a true", "start a", "saved", "saved show a", "saved pause a", "workers", "whoami",
    "login http://SERVER",
)  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_a_server_that_does_not_respond_is_reported(
    typed: Tailboard, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    assert target.PATIENCE < 5
    monkeypatch.setattr(target, "PATIENCE", 0.1)
    with silent_server() as url:
        words = words.replace("http://SERVER", url)
        done = typed(*words.split(), TAILBOARD_API=url)
    reported = f"Error: the server at {url} does not respond"
    assert done.exit_code == 1 and done.stderr.startswith(reported), done.output
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


def test_a_submit_that_got_no_response_can_be_repeated(
    typed: Tailboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []

    def lose(request: Request) -> object:
        if request.method == "GET":
            return json_answer(SERVER)
        keys.append(request.headers["Idempotency-Key"])
        return None

    monkeypatch.setattr(target, "PATIENCE", 1.5)
    with serve(lose) as url:  # type: ignore[arg-type]
        done = typed("submit", "true", TAILBOARD_API=url)
        assert f"may have submitted the job: with --idempotency-key {keys[0]}," in done.stderr
        typed("submit", "--idempotency-key", keys[0], "true", TAILBOARD_API=url)
    assert len(keys) > 2 and set(keys) == {keys[0]}


# --- Following and waiting ------------------------------------------------------------------------


class Follower:
    """A command that runs while the test does something, with the output that it has so far."""

    def __init__(self, folder: Path, number: int, url: str, words: list[str]) -> None:
        self.out, self.err = (folder / f"{number}.{name}" for name in ("out", "err"))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TAILBOARD_API": url}
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            command = [sys.executable, "-c", HEEDS_CTRL_C, *words]
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err)

    def end(self) -> tuple[int, str, str]:
        """(exit code, output, error output) when the command has ended."""
        code = self.process.wait(60)
        return code, self.out.read_text(), self.err.read_text()


class Restarted(NamedTuple):
    """What commands printed, and their exit codes, over a restart of the API."""

    followed: tuple[int, str, str]
    submitted: tuple[int, str, str]
    waited: tuple[int, str, str]


@pytest.fixture(scope="module")
def restarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarted]:
    base = tmp_path_factory.mktemp("restarted")
    with closing(Gate(base / "gate")) as gate, serve_site(base) as site:
        site.processes.worker("--slots=3")
        yield restart(base, site, gate)


def restart(base: Path, site: Site, gate: Gate) -> Restarted:
    script = f"echo one; {gate.wait}; printf two"
    job_id = site.submit(f"{script}; exit 7")
    commands = [
        ["logs", "-f", job_id],
        ["submit", "--follow", f"{script}; exit 8"],
        ["submit", "--wait", f"{script}; exit 9"],
    ]
    running = [Follower(base, *each) for each in ((n, site.url, w) for n, w in enumerate(commands))]
    followed, submitted, waited = running
    for each, text in ((followed, "one\n"), (submitted, "one\n"), (waited, "-")):
        wait_until(lambda each=each, text=text: text in each.out.read_text())  # type: ignore[misc]
    (api, *_) = site.processes.started
    api.kill()
    api.wait()
    for each in running:
        wait_until(lambda each=each: "trying again" in each.err.read_text())  # type: ignore[misc]
    bind = site.url.removeprefix("http://")
    site.processes.serve(f"{site.url}/healthz", sys.executable, "api.py", TAILBOARD_BIND=bind)
    gate.open()
    return Restarted(followed.end(), submitted.end(), waited.end())


def test_logs_continue_after_a_restart_and_exit_with_the_jobs_code(restarted: Restarted) -> None:
    code, out, err = restarted.followed
    assert (code, out) == (7, "one\ntwo")
    (line,) = err.splitlines()
    assert line.startswith("cannot connect to the server at http://127.0.0.1:")
    assert line.endswith("; trying again (Ctrl-C ends the command)")


def test_a_followed_submit_survives_a_restart(restarted: Restarted) -> None:
    code, out, err = restarted.submitted
    assert (code, out) == (8, "one\ntwo") and len(err.splitlines()) == 2  # the job's ID, too


def test_a_waiting_submit_survives_a_restart(restarted: Restarted) -> None:
    code, out, err = restarted.waited
    assert code == 9 and len(out.splitlines()) == 1 and len(err.splitlines()) == 1


def test_ctrl_c_ends_the_command_and_not_the_job(served: Site, tmp_path: Path, gate: Gate) -> None:
    script = f"echo one; {gate.wait}"
    commands = [["submit", flag, "--queue", BY_WORKER, script] for flag in ("--follow", "--wait")]
    running = [
        Follower(tmp_path, number, served.url, words) for number, words in enumerate(commands)
    ]
    ids = []
    for each in running:
        is_following = each is running[0]
        ready = "one" if is_following else "-"
        wait_until(lambda each=each, ready=ready: ready in each.out.read_text())  # type: ignore[misc]
        (job_id,) = (each.err if is_following else each.out).read_text().split()
        served.wait(job_id, "running")
        each.process.send_signal(signal.SIGINT)
        code, _, err = each.end()
        stop = f"\n{job_id} keeps running; `tailboard cancel {job_id}` stops it\n"
        assert code == 130 and err.endswith(stop), err
        ids.append(job_id)
    gate.open()
    assert [served.wait(job_id)["status"] for job_id in ids] == [Status.SUCCEEDED] * 2
