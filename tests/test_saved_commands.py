"""`tailboard save`, `start` and `saved`, on a folder and on a server."""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from command_site import USER, Tailboard
from conftest import BY_HAND, TOKEN, Site, wait_until

from tailboard.cli.saved_text import time_in_zone
from tailboard.job import Job
from tailboard.saved_command import SavedCommand
from tailboard.status import Status

# --- Saving ---------------------------------------------------------------------------------------


def test_a_job_that_ran_is_saved_with_params_and_started(tailboard: Tailboard) -> None:
    env = {"TARGET": "/home", "A": "1"}
    job = tailboard.storage.submit(Job(command=["echo", "a b"], env=env, retries=2))
    options = "--param TARGET --param PLACE=tape --cron @daily --zone Asia/Tokyo --env B=2"
    done = tailboard("save", "backup", "--from", job.id[-8:], *options.split())
    assert (done.stdout, done.stderr) == ("saved backup\n", "")
    saved = tailboard.storage.saved.load("backup")
    assert (saved.command, saved.retries, saved.name) == (["echo", "a b"], 2, None)
    assert saved.env == {"A": "1", "B": "2"}
    defaults = [(param.name, param.default) for param in saved.params]
    assert defaults == [("TARGET", "/home"), ("PLACE", "tape")]
    assert (saved.cron, saved.zone) == ("@daily", "Asia/Tokyo")
    started = tailboard.storage.get(tailboard("start", "backup", "TARGET=a=b c").stdout.strip())
    assert (started.saved, started.submitted_by) == ("backup", USER)
    assert started.values == {"TARGET": "a=b c", "PLACE": "tape"}


def test_params_have_choices_and_labels(tailboard: Tailboard) -> None:
    words = "--param PLACE=test --param N --choice PLACE=test,live --choice PLACE=other"
    done = tailboard("save", "deploy", "true", *words.split(), "--label", "PLACE=Where to?")
    assert done.stdout == "saved deploy\n", done.output
    place, number = tailboard.storage.saved.load("deploy").params
    assert (place.choices, place.label) == (["test", "live", "other"], "Where to?")
    assert (number.choices, number.label, number.default) == (None, None, None)
    refused = tailboard("start", "deploy", "PLACE=mars", "N=1")
    assert refused.stderr == "Error: PLACE must be one of test, live, other, not 'mars'\n"
    assert tailboard("save", "deploy", "false", "--name", "Deploy").stdout == "replaced deploy\n"
    assert tailboard.storage.saved.load("deploy").name == "Deploy"


def test_a_script_on_standard_input_is_saved(tailboard: Tailboard) -> None:
    assert tailboard("save", "script", "-", text="echo 1\necho 行\n").exit_code == 0
    assert tailboard.storage.saved.load("script").command == "echo 1\necho 行\n"


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        ("save a", "give either a COMMAND or --from ID", 2),
        ("save a true --from x", "give either a COMMAND or --from ID", 2),
        ("save A true", "the name of a saved command must be 1 to 64", 1),
        ("save ../a true", "the name of a saved command must be 1 to 64", 1),
        ("save a true --cron x", "cron: “x” has 1 field", 1),
        ("save a true --param x", "params: 'x' must be named [A-Z][A-Z0-9_]*", 1),
        ("save a true --choice P=a", "--choice: there is no --param P", 1),
        ("save a true --param P --choice P", "--choice must be P=A,B,C, not 'P'", 1),
        ("save a true --param P=c --choice P=a,b", "the default of P must be one of a, b", 1),
        ("save a true --label P=x", "--label: there is no --param P", 1),
        ("save a true --param P --label P=x --label P=y", "'P' is set twice", 1),
        ("start a", "there is no saved command 'a'", 1),
        ("start there A", "a value must be NAME=VALUE, not 'A'", 1),
        ("start there A=1 A=2", "'A' is set twice", 1),
        ("start there A=\udcff", "A must be a string of up to 30,000 characters", 1),
        ("start \udcff", "there is no saved command '\\udcff'", 1),
        ("saved pause a", "there is no saved command 'a'", 1),
        ("saved delete ../a", "there is no saved command '../a'", 1),
        ("saved delete ..", "there is no saved command '..'", 1),
        ("saved show thre", "there is no saved command 'thre'; did you mean there?", 1),
        ("saved resume thare", "there is no saved command 'thare'; did you mean there?", 1),
        ("start the-re", "there is no saved command 'the-re'; did you mean there?", 1),
        ("saved shwo there", "no such command 'shwo'; did you mean show?", 2),
    ],
)
def test_bad_input_is_explained_in_one_sentence(
    tailboard: Tailboard, words: str, sentence: str, code: int
) -> None:
    tailboard("save", "there", "true", "--param", "A")
    done = tailboard(*words.split())
    assert (done.exit_code, done.stdout) == (code, ""), done.exception
    assert done.stderr.startswith("Error: ") and sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [command.saved for command in tailboard.storage.saved.list()] == ["there"]


# --- Starting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "printed"), [("--follow", "begin\n"), ("--wait", "")])
def test_a_command_that_awaits_its_job_exits_with_its_code(
    tailboard: Tailboard, option: str, printed: str
) -> None:
    tailboard("save", "count", "true", "--queue", BY_HAND)
    job_maker = tailboard.job_maker

    def run_the_job() -> None:
        [job] = wait_until(lambda: tailboard.storage.list()[0])
        claim = job_maker.start(job)
        job_maker.write(claim, b"begin\n")
        job_maker.finish(claim, Status.FAILED, 3)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run_the_job)
        awaited = tailboard("start", "count", option)
        done.result()
    [job] = tailboard.storage.list()[0]
    assert awaited.exit_code == 3 and awaited.stdout.endswith(printed)
    assert f"{job.id}\n" in awaited.output


def test_with_a_shared_token_the_command_names_its_user(locked: Site, home: dict[str, str]) -> None:
    env = {"TAILBOARD_API": locked.url, "TAILBOARD_TOKEN": TOKEN}
    tailboard = Tailboard(locked.job_maker, env | home)
    tailboard("save", "by-name", "true", "--queue", BY_HAND)
    job_id = tailboard("start", "by-name").stdout.strip()
    assert tailboard.storage.get(job_id).submitted_by == USER


# --- Listing and showing --------------------------------------------------------------------------


def test_saved_commands_are_listed_paused_resumed_and_deleted(tailboard: Tailboard) -> None:
    tailboard("save", "backup", "tar c /home", "--cron", "0 3 * * *", "--queue", "night")
    listed = tailboard("saved").stdout
    assert listed.startswith("backup  (0 3 * * * UTC, next ") and "(never ran)" in listed
    assert tailboard("saved", "pause", "backup").stdout == "backup\n"
    assert "(0 3 * * * UTC, paused)" in tailboard("saved").stdout
    assert tailboard.storage.saved.load("backup").paused
    assert tailboard("saved", "resume", "backup").exit_code == 0
    saved = tailboard.storage.saved.load("backup")
    assert (saved.paused, saved.command, saved.queue) == (False, "tar c /home", "night")
    assert tailboard("saved", "delete", "backup").stdout == "backup\n"
    assert tailboard("saved").stdout == ""


def test_times_are_shown_in_the_zone_of_the_schedule(tailboard: Tailboard) -> None:
    tailboard("save", "a", "true", "--cron", "30 2 * * *", "--zone", "Asia/Tokyo")
    job_id = tailboard("start", "a").stdout.strip()
    listed, shown = tailboard("saved").stdout, tailboard("saved", "show", "a").stdout
    begun = datetime.fromisoformat(str(tailboard.storage.get(job_id).submitted_at))
    ran = f"{begun.astimezone(ZoneInfo('Asia/Tokyo')):%Y-%m-%d %H:%M} Asia/Tokyo"
    assert re.search(r", next \d{4}-\d\d-\d\d 02:30 Asia/Tokyo\)", listed), listed
    assert f"(queued {ran})" in listed
    assert re.search(r"30 2 \* \* \* Asia/Tokyo, next \d{4}-\d\d-\d\d 02:30 Asia/Tokyo\n", shown)
    assert re.search(f"run +{job_id}  queued +{ran}\n", shown)
    tailboard("save", "a", "true", "--cron", "30 2 * * *")
    listed = tailboard("saved").stdout
    assert re.search(r"\(30 2 \* \* \* UTC, next \d{4}-\d\d-\d\dT02:30Z\)", listed)


def test_a_zone_that_this_machine_does_not_know_is_replaced_by_utc() -> None:
    for zone in ("Mars/Olympus", "../x", "UTC"):
        assert time_in_zone("2026-11-25T03:00:00.000Z", zone) == "2026-11-25T03:00Z"
    assert time_in_zone("2026-11-25T03:00:00.000Z", "Europe/Berlin").endswith("04:00 Europe/Berlin")


def test_show_prints_everything_that_is_set(tailboard: Tailboard) -> None:
    tailboard(
        *("save", "deploy", "echo 1\necho 2", "--name", "Deploy it", "--env", "A=x y"),
        *("--retries", "2", "--retry-delay", "1.5", "--param", "PLACE=the test", "--param", "N"),
        *("--choice", "PLACE=the test,live", "--label", "PLACE=Where to?"),
    )
    job_id = tailboard("start", "deploy", "N=1").stdout.strip()
    tailboard("cancel", job_id)
    lines = tailboard("saved", "show", "deploy").stdout.splitlines()
    assert lines[:-2] == [
        "saved        deploy",
        "command      echo 1",
        "             echo 2",
        "name         Deploy it",
        "queue        default",
        "env          A=x y",
        "retries      2",
        "retry delay  1.5",
        "param        PLACE='the test'  one of 'the test', live  Where to?",
        "param        N  required",
        "schedule     no times",
    ]
    assert re.fullmatch(r"saved at     \d{4}-\d\d-\d\dT\d\d:\d\dZ", lines[-2])
    assert lines[-1].startswith(f"run          {job_id}  cancelled       20")
    shown = json.loads(tailboard("saved", "show", "deploy", "--json").stdout)
    assert shown["env"] == {"A": "x y"} and shown["runs"][0]["id"] == job_id


def test_skipped_runs_are_shown_with_their_cause(tailboard: Tailboard) -> None:
    tailboard.storage.saved.save(SavedCommand(saved="a", command="true", cron="@daily"))
    path = tailboard.folder / "schedules" / "a.state"
    skipped = {"skipped": 3, "skipped_at": "2026-11-25T03:00:00.000Z", "skipped_for": "JOB"}
    path.write_text(json.dumps(json.loads(path.read_text()) | skipped))
    shown = tailboard("saved", "show", "a").stdout
    assert "skipped   3, last at 2026-11-25T03:00Z while JOB was active\n" in shown
    assert "(never ran, 3 skipped)" in tailboard("saved").stdout


# --- Export and import ----------------------------------------------------------------------------


def test_exported_commands_can_be_imported_elsewhere(tailboard: Tailboard, tmp_path: Path) -> None:
    storage, kept = tailboard.storage, tmp_path / "kept"
    tailboard("save", "grüße", "true")
    tailboard("save", "a", "echo 行", "--param", "X=1", "--cron", "@daily", "--env", "A=secret")
    tailboard("save", "b", "true")
    exported = tailboard("saved", "export", str(kept)).stdout.split()
    assert exported == [str(kept / "a.json"), str(kept / "b.json")]
    content = (kept / "a.json").read_text()
    assert "行" in content and '"A": "secret"' in content
    assert content == (tailboard.folder / "saved" / "a.json").read_text()
    before = storage.saved.load("a").definition()
    storage.saved.delete("a")
    (kept / "b.json").write_text('{"command": "false"}')
    shutil.copy(kept / "b.json", kept / "c.json")
    done = tailboard("saved", "import", str(kept))
    assert done.stdout.splitlines() == ["saved a", "replaced b", "saved c"]
    assert storage.saved.load("a").definition() == before
    assert tailboard("saved", "import", str(kept)).stdout.count("unchanged") == 3


def test_if_one_file_is_invalid_nothing_is_imported(tailboard: Tailboard, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"command": "true"}')
    for content, sentence in (
        ('{"command": "true", "cron": "0 25 * * *"}', "cron: its hour '25' cannot be read"),
        ('{\n "command" "x"}', "expecting ':' delimiter at line 2, column 12"),
        ("[]", "the body must be a JSON object"),
        ('{"command": "true", "color": "red"}', "unknown field 'color'"),
        ('{"command": "true", "retries": NaN}', "cannot be sent as JSON"),
        ("[" * 100_000, "it is nested too deeply"),
    ):
        (tmp_path / "b.json").write_text(content)
        done = tailboard("saved", "import", str(tmp_path))
        assert done.stderr.startswith(f"Error: {tmp_path}/b.json: ") and sentence in done.stderr
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert tailboard.storage.saved.list() == []


def test_an_import_that_is_too_large_saves_nothing(
    on_folder: Tailboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.json").write_text('{"command": "true"}')
    monkeypatch.setattr("tailboard.saved_command.MAX_SAVED", 1)
    done = on_folder("saved", "import", str(tmp_path))
    assert done.stderr == "Error: b: there are already 1 saved commands: delete one first\n"
    assert on_folder.storage.saved.list() == []


def test_an_export_is_private_and_follows_no_link(tailboard: Tailboard, tmp_path: Path) -> None:
    kept, target = tmp_path / "kept", tmp_path / "target"
    kept.mkdir()
    tailboard("save", "a", "true", "--env", "PASSWORD=x")
    tailboard("save", "b", "true")
    (kept / "a.json").write_text("of an earlier version")
    assert tailboard("saved", "export", str(kept)).exit_code == 0
    assert {oct(path.stat().st_mode & 0o777) for path in kept.iterdir()} == {"0o600"}
    target.write_text("mine")
    (kept / "b.json").unlink()
    (kept / "b.json").symlink_to(target)
    (kept / "a.json").write_text("older")
    done = tailboard("saved", "export", str(kept))
    reported = f"Error: {kept / 'b.json'} is not a regular file: remove it first\n"
    assert (done.exit_code, done.stderr, done.stdout) == (1, reported, "")
    assert (target.read_text(), (kept / "a.json").read_text()) == ("mine", "older")


def test_only_regular_files_are_imported(on_folder: Tailboard, tmp_path: Path) -> None:
    kept, path = tmp_path / "[kept]", tmp_path / "[kept]" / "a.json"
    kept.mkdir()
    for make, why in (
        (lambda: os.mkfifo(path), "it is not a regular file"),
        (lambda: path.symlink_to("/etc/passwd"), "it is a symbolic link"),
        (lambda: path.write_bytes(b" " * (1 << 21)), "it is larger than 1,048,576 bytes"),
    ):
        make()
        done = on_folder("saved", "import", str(kept))
        assert done.stderr == f"Error: {path} cannot be read: {why}\n"
        path.unlink()
