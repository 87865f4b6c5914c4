"""The commands for notifications, on a folder and on a server: named URLs, test messages, rules of
jobs and saved commands, and saved commands as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_site import Tailboard
from conftest import BY_HAND
from other_servers import Answer, serve
from test_completion import complete, values

from tailboard.client import ApiError, Client
from tailboard.notices import Delivery, Notice, NoticeRecord

SECRET = "s3cret-t0ken"
HOOK = f"json://hooks.example.org/{SECRET}"
SHOWN_HOOK = "json://hooks.example.org/…"
PING = f"https://ping.example.org/{SECRET}"


def printed(tailboard: Tailboard, *words: str, text: str | None = None) -> str:
    """What a command prints that succeeds. It shows no secret."""
    done = tailboard(*words, text=text)
    assert (done.exit_code, SECRET in done.output) == (0, False), done.output
    return done.stdout


def refused(tailboard: Tailboard, *words: str, text: str | None = None) -> str:
    """The error of a command, which shows no secret."""
    done = tailboard(*words, text=text)
    assert done.exit_code == 1 and SECRET not in done.output, done.output
    assert "Traceback" not in done.stderr and done.stdout == ""
    return done.stderr.removeprefix("Error: ").rstrip()


# --- Named URLs -----------------------------------------------------------------------------------


def test_urls_are_named_listed_and_removed(tailboard: Tailboard) -> None:
    none = tailboard("notify", "list")
    assert (none.exit_code, none.stdout) == (0, "")
    assert none.stderr == "no URL has a name: `tailboard notify set NAME URL` names one\n"
    assert printed(tailboard, "notify", "set", "operators", HOOK) == "saved operators\n"
    assert (
        printed(tailboard, "notify", "set", "ops", PING.replace("https", "json")) == "saved ops\n"
    )
    assert printed(tailboard, "notify", "set", "ops", "-", text=f"{HOOK}\n") == "replaced ops\n"
    assert tailboard.storage.notices.targets() == {"operators": HOOK, "ops": HOOK}
    listed = f"operators  {SHOWN_HOOK}\nops        {SHOWN_HOOK}\n"
    assert printed(tailboard, "notify", "list") == listed
    offered = [("operators", SHOWN_HOOK), ("ops", SHOWN_HOOK)]
    for command in ("set", "remove", "test"):
        assert complete(tailboard, "notify", command, "op") == offered
    printed(tailboard, "save", "backup", "true", "--notify", "failed=ops")
    removed = tailboard("notify", "remove", "ops")
    assert (removed.exit_code, removed.stdout) == (0, "ops\n")
    assert removed.stderr == "Note: the rules of backup still name it\n"
    assert values(tailboard, "notify", "remove", "") == ["operators"]


@pytest.mark.parametrize(
    ("words", "text", "begin"),
    [
        (("set", "Ops", HOOK), None, "the name of a URL must be 1 to 64 of the characters a-z"),
        (("set", "a/b", HOOK), None, "the name of a URL must be 1 to 64 of the characters a-z"),
        (("set", "ops", "anna"), None, "url must be a URL such as mailto://…"),
        (("set", "ops", "-"), "", "url must be a URL such as mailto://…"),
        (("set", "ops", f"foo://{SECRET}"), None, "url: Unparseable URL foo://…"),
        (("set", "ops", SHOWN_HOOK), None, f"url: the end of {SHOWN_HOOK} is hidden"),
        (("remove", "ops"), None, "there is no URL named 'ops'; known names: none"),
        (("test", "ops"), None, "to: there is no URL named 'ops'; known names: none"),
    ],
)
def test_a_wrong_name_or_url_is_refused_in_one_sentence(
    tailboard: Tailboard, words: tuple[str, ...], text: str | None, begin: str
) -> None:
    error = refused(tailboard, "notify", *words, text=text)
    assert error.startswith(begin) and "\n" not in error, error


def test_a_test_message_prints_the_answer(tailboard: Tailboard) -> None:
    with serve(lambda _: Answer(200)) as url:
        target = f"{url.replace('http', 'json')}/{SECRET}"
        printed(tailboard, "notify", "set", "ops", target)
        assert printed(tailboard, "notify", "test", "ops").startswith("ops: ")
    shown = f"{url.replace('http', 'json')}/…: "
    error = refused(tailboard, "notify", "test", "-", text=target)  # no server is running now
    assert error.startswith(shown) and "connection refused" in error, error


# --- Rules ----------------------------------------------------------------------------------------


def test_rules_of_jobs_and_saved_commands_are_given_and_shown(tailboard: Tailboard) -> None:
    printed(tailboard, "notify", "set", "ops", HOOK)
    options = ("--queue", BY_HAND, "--warn-after", "90", "--warn-waiting", "5")
    rules = ("--notify", f"failed,lost=ops recovered={HOOK}")
    shown = ["failed,lost=ops", f"recovered={SHOWN_HOOK}"]
    job_id = printed(tailboard, "submit", *options, *rules, "true").strip()
    job = tailboard.storage.get(job_id)
    assert (job.warn_after, job.warn_waiting) == (90, 5)
    stored = [{"on": ["failed", "lost"], "to": "ops"}, {"on": ["recovered"], "to": HOOK}]
    assert job.notify == stored
    sent = Delivery(to=HOOK, tries=1, next_at=None, sent_at="2026-11-30T01:02:04.000Z")
    trying = Delivery(to="ops", tries=2, error="connection refused")
    failed = Delivery(to="ops", tries=5, next_at=None, error="no answer")
    notices = [
        Notice(event="late", at="2026-11-30T01:02:03.000Z", text="usually 3 s", deliveries=[sent]),
        Notice(event="failed", at="2026-11-30T01:03:03.000Z", deliveries=[trying, failed]),
    ]
    tailboard.storage.notices.save(NoticeRecord(job=job_id, title="true", notices=notices))
    text = printed(tailboard, "show", job_id)
    indent = "\n".ljust(len("\nnotifications  "))
    assert f"\nnotify         {indent.join(shown)}\n" in text
    assert "\nusual          late after 1 min 30 s\n" in text
    noticed = [
        "2026-11-30T01:02:03.000Z  late: usually 3 s",
        f"  to {SHOWN_HOOK}: sent at 2026-11-30T01:02:04.000Z",
        "2026-11-30T01:03:03.000Z  failed",
        "  to ops: not sent: connection refused; it will be tried again",
        "  to ops: not sent: no answer",
    ]
    assert f"\nnotifications  {indent.join(noticed)}\n" in text
    printed(tailboard, "save", "x", "--from", job_id, "--ping", PING)
    saved = tailboard.storage.saved.load("x")
    assert (saved.notify, saved.ping, saved.warn_after) == (stored, PING, 90)
    lines = printed(tailboard, "saved", "show", "x").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("notify")] == shown
    assert "ping          https://ping.example.org/…" in lines
    printed(tailboard, "save", "x", "true", "--notify", "none")
    assert tailboard.storage.saved.load("x").notify == []
    assert "notify    nobody\n" in printed(tailboard, "saved", "show", "x")
    assert printed(tailboard, "saved", "pause", "x") == "x\n"


@pytest.mark.parametrize(
    ("rules", "begin"),
    [
        ("ops", "--notify must be rules like failed,lost=ops or [{"),
        (f"finished={HOOK}", "--notify must be rules like failed,lost=ops or [{"),
        (f'[{{"on": "failed", "to": "{HOOK}"}}]', "--notify must be rules like failed,lost=ops"),
        ("failed=ops", "notify: there is no URL named 'ops'; known names: none"),
        (f"failed={SHOWN_HOOK}", f"notify: the end of {SHOWN_HOOK} is hidden: give the whole URL"),
        (f"failed=foo://{SECRET}", "notify: Unparseable URL foo://…"),
    ],
)
def test_wrong_rules_are_refused_in_one_sentence(
    on_folder: Tailboard, rules: str, begin: str
) -> None:
    assert refused(on_folder, "submit", "--notify", rules, "true").startswith(begin)
    assert refused(on_folder, "save", "x", "true", "--notify", rules).startswith(begin)
    assert not on_folder.storage.list()[0] and not list(on_folder.storage.saved.list())


def test_files_contain_names_and_only_the_beginning_of_urls(
    tailboard: Tailboard, tmp_path: Path
) -> None:
    printed(tailboard, "notify", "set", "ops", HOOK)
    rules = f"failed=ops late={HOOK}"
    printed(tailboard, "save", "x", "true", "--notify", rules, "--ping", PING)
    folder, file = str(tmp_path / "saved"), tmp_path / "saved" / "x.json"
    printed(tailboard, "saved", "export", folder)
    assert SECRET not in file.read_text()
    assert printed(tailboard, "saved", "import", folder) == "unchanged x\n"
    exported = json.loads(file.read_text())
    file.write_text(json.dumps(exported | {"retries": 2}))
    assert printed(tailboard, "saved", "import", folder) == "replaced x\n"
    saved = tailboard.storage.saved.load("x")
    assert saved.notify is not None and saved.notify[1]["to"] == HOOK
    assert (saved.ping, saved.retries) == (PING, 2)
    other = {"on": ["late"], "to": f"{HOOK}-2"}
    file.write_text(json.dumps(exported | {"notify": [other]}))
    assert printed(tailboard, "saved", "import", folder) == "replaced x\n"
    assert tailboard.storage.saved.load("x").notify == [other]
    printed(tailboard, "saved", "delete", "x")
    error = f"notify: the end of {SHOWN_HOOK} is hidden: give the whole URL, or the name of one"
    file.write_text(json.dumps(exported))
    assert refused(tailboard, "saved", "import", folder) == f"{file}: {error}"
    file.write_text(json.dumps(exported | {"notify": exported["notify"][:1], "ping": None}))
    assert printed(tailboard, "saved", "import", folder) == "saved x\n"


# --- The Python client ----------------------------------------------------------------------------


def test_the_client_names_tests_and_lists(on_server: Tailboard) -> None:
    env = on_server.env
    with Client(env["TAILBOARD_API"], env["TAILBOARD_TOKEN"]) as client:
        assert client.set_notify_target("ops", HOOK) is True
        assert client.set_notify_target("ops", HOOK) is False
        assert client.notify_targets() == [{"name": "ops", "to": SHOWN_HOOK}]
        job = client.submit("true", queue=BY_HAND, notify=[{"on": ["failed"], "to": "ops"}])
        assert job["notify"] == [{"on": ["failed"], "to": "ops"}] and job["notifications"] == []
        assert client.submit("true", queue=BY_HAND, notify=[])["notify"] == []
        tested = client.test_notification("json://127.0.0.1:9/")
        assert tested["ok"] is False and tested["answer"]
        assert [each for each in client.notifications(since="1h") if each["job"] == job["id"]] == []
        client.remove_notify_target("ops")
        with pytest.raises(ApiError, match="there is no URL named 'ops'"):
            client.remove_notify_target("ops")
