"""Saved commands in the page: the form that saves and edits them, and what a run of one shows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_site import Site, check_with_axe, log_of, submitted, visit
from playwright.sync_api import Locator, Page, expect

from tailboard.page import saved_forms
from tailboard.page.client import ApiError
from tailboard.page.shapes import SavedForm
from tailboard.saved_command import Param, SavedCommand


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def save(site: Site, name: str, **fields: Any) -> None:
    """Saves a command that reads $TARGET, which is a param."""
    plain = {"saved": name, "command": 'echo "to $TARGET"', "params": [Param(name="TARGET")]}
    site.storage.saved.save(SavedCommand(**plain | fields))


def editor(page: Page) -> Locator:
    return page.locator(".save-dialog")


def schedule(page: Page) -> Locator:
    return editor(page).get_by_role("textbox", name="Schedule")


def press_save(page: Page) -> None:
    editor(page).get_by_role("button", name="Save", exact=True).click()


# --- The form -------------------------------------------------------------------------------------


def test_a_command_is_saved_without_running_it_and_asks_for_its_variables(
    site: Site, page: Page
) -> None:
    visit(page, site.url)
    page.keyboard.press("c")
    page.locator(".new-job [name=command]").fill('echo "$VERSION to ${PLACE:-test}" by $USER')
    page.get_by_role("button", name="Save…").click()
    expect(editor(page).get_by_label("Save as")).to_have_value("echo-to-by")
    expect(page.get_by_role("checkbox", name="VERSION", exact=True)).to_be_checked()
    expect(page.get_by_label("Default of PLACE")).to_have_value("test")
    expect(page.get_by_role("checkbox", name="USER", exact=True)).to_have_count(0)
    command = editor(page).get_by_role("textbox", name="Command")
    command.press_sequentially("$HOST ")
    expect(page.get_by_role("checkbox", name="HOST", exact=True)).to_be_checked()
    page.get_by_role("checkbox", name="HOST", exact=True).uncheck()
    editor(page).get_by_label("Save as").fill("announce")
    press_save(page)
    expect(page.get_by_role("heading", name="announce")).to_be_visible()
    expect(page.get_by_role("textbox", name="VERSION", exact=True)).to_have_value("")
    kept = site.storage.saved.load("announce")
    assert kept.params == [Param(name="VERSION"), Param(name="PLACE", default="test")]
    assert site.storage.saved.runs("announce") == []
    page.get_by_role("button", name="+ New command").click()
    expect(page.locator(".new-job [name=command]")).to_have_value("")


def test_everything_in_a_saved_command_can_be_edited(site: Site, page: Page) -> None:
    save(site, "edited", env={"KEY": "secret", "GONE": "x"}, params=[Param(name="TARGET")])
    visit(page, f"{site.url}/?saved=edited")
    page.get_by_role("button", name="Edit…").click()
    fields = editor(page)
    fields.get_by_role("textbox", name="Command").fill('echo "$MODE: $TARGET"')
    fields.get_by_role("checkbox", name="MODE", exact=True).check()
    fields.get_by_role("button", name="Label and choices of MODE").click()
    fields.get_by_role("textbox", name="Label of MODE").fill("How")
    fields.get_by_role("textbox", name="Choices of MODE").fill("full\npart")
    fields.get_by_label("Default of MODE").fill("part")
    fields.get_by_role("button", name="Move MODE up").click()
    fields.get_by_label("Name of another parameter").fill("extra")
    page.keyboard.press("Enter")
    fields.get_by_label("Default of EXTRA").fill("e")
    env = fields.get_by_role("textbox", name="Environment")
    expect(env).to_have_value("KEY=•••\nGONE=•••")
    env.fill("KEY=•••\nNEW=1")
    page.keyboard.press("Escape")
    expect(fields).to_be_hidden()
    page.get_by_role("button", name="Edit…").click()
    expect(page.get_by_text("Your changes are still here.")).to_be_visible()
    for name, text in (("Queue", "slow"), ("Time limit", "90"), ("Retries", "2")):
        fields.get_by_role("textbox", name=name).fill(text)
    fields.get_by_role("textbox", name="Job name").fill("Edited job")
    fields.get_by_role("textbox", name="Working folder").fill("tmp")
    press_save(page)
    expect(page.get_by_text("Use an absolute path, such as /srv/app.")).to_be_visible()
    fields.get_by_role("textbox", name="Working folder").fill("/tmp")
    expect(page.get_by_text("Use an absolute path")).to_have_count(0)
    press_save(page)
    expect(fields).to_be_hidden()
    expect(page.get_by_label("How MODE")).to_have_value("part")
    kept = site.storage.saved.load("edited")
    mode = Param(name="MODE", label="How", default="part", choices=["full", "part"])
    assert kept.params == [mode, Param(name="TARGET"), Param(name="EXTRA", default="e")]
    assert (kept.command, kept.name, kept.cwd) == ('echo "$MODE: $TARGET"', "Edited job", "/tmp")
    assert (kept.queue, kept.timeout, kept.retries) == ("slow", 90, 2)
    assert kept.env == {"KEY": "secret", "NEW": "1"}


def test_the_variable_at_the_caret_becomes_a_param_when_the_form_is_sent(
    site: Site, page: Page
) -> None:
    save(site, "typed")
    visit(page, f"{site.url}/?saved=typed")
    page.get_by_role("button", name="Edit…").click()
    command = editor(page).get_by_role("textbox", name="Command")
    command.fill("echo $TARGET in $REGION")
    command.press("Control+Enter")
    expect(editor(page)).to_be_hidden()
    expect(page.get_by_label("REGION")).to_be_visible()
    assert site.storage.saved.load("typed").params == [Param(name="TARGET"), Param(name="REGION")]


def test_a_schedule_shows_its_next_times_and_its_errors_at_their_fields(
    site: Site, page: Page
) -> None:
    save(site, "to-schedule")
    visit(page, f"{site.url}/?saved=to-schedule")
    page.get_by_role("button", name="Edit…").click()
    schedule(page).fill("0 3 * *")
    sentence = "“0 3 * *” has 4 fields; cron needs 5: minute hour day month weekday."
    expect(editor(page).get_by_text(sentence)).to_be_visible()
    schedule(page).fill("0 3 * * *")
    expect(editor(page).get_by_text(sentence)).to_have_count(0)
    times = editor(page).locator(".save-next time")
    expect(times).to_have_count(5)
    editor(page).get_by_label("Time zone").fill("Asia/Tokyo")
    expect(times.first).to_have_attribute("datetime", re.compile("T18:00:00"))
    expect(editor(page).locator(".save-next")).to_contain_text("Asia/Tokyo")
    press_save(page)
    row = editor(page).locator("[data-name=TARGET]")
    expect(row).to_contain_text("TARGET needs a default before this can run on a schedule.")
    expect(page.get_by_label("Default of TARGET")).to_be_focused()
    page.keyboard.type("/home")
    editor(page).get_by_role("checkbox", name="Paused").check()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Paused: scheduled runs are skipped.")).to_be_visible()
    kept = site.storage.saved.load("to-schedule")
    assert (kept.cron, kept.zone, kept.paused) == ("0 3 * * *", "Asia/Tokyo", True)
    assert kept.params == [Param(name="TARGET", default="/home")]


def test_an_edit_does_not_silently_overwrite_that_of_another_person(site: Site, page: Page) -> None:
    save(site, "contested", params=[])
    visit(page, f"{site.url}/?saved=contested")
    page.get_by_role("button", name="Edit…").click()
    editor(page).get_by_role("textbox", name="Command").fill("echo mine")
    save(site, "contested", params=[], command="echo theirs")
    press_save(page)
    expect(editor(page).get_by_text("Someone else has changed or deleted")).to_be_visible()
    expect(editor(page).get_by_role("textbox", name="Command")).to_have_value("echo mine")
    assert site.storage.saved.load("contested").command == "echo theirs"
    site.storage.saved.delete("contested")
    press_save(page)
    expect(editor(page)).to_be_hidden()
    assert site.storage.saved.load("contested").command == "echo mine"


def test_a_copy_of_a_job_keeps_the_values_that_the_form_hides(site: Site, page: Page) -> None:
    job = site.submit('echo "key $KEY, $COLOUR"', "hides", env={"KEY": "k1", "COLOUR": "red"})
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    page.get_by_role("button", name="Edit and run…").click()
    env = page.locator(".new-job [name=env]")
    expect(env).to_have_value("KEY=•••\nCOLOUR=•••")
    env.fill("KEY=•••\nCOLOUR=blue\nNEW=•••")
    page.locator(".new-job .reveal-env").click()
    expect(env).to_have_value("KEY=k1\nCOLOUR=blue\nNEW=•••")
    env.fill("KEY=•••\nCOLOUR=blue")
    page.get_by_role("button", name="Run job").click()
    expect(page).not_to_have_url(re.compile(job.id))
    expect(log_of(page)).to_have_text("key k1, blue")
    assert site.storage.get(submitted(page)).env == {"KEY": "k1", "COLOUR": "blue"}


def test_axe_finds_nothing_serious_in_the_form_of_a_saved_command(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    save(site, "editor-axe", env={"KEY": "k"})
    visit(page, f"{site.url}/?saved=editor-axe")
    page.get_by_role("button", name="Edit…").click()
    page.get_by_role("button", name="Label and choices of TARGET").click()
    schedule(page).fill("0 3 * * *")
    expect(editor(page).locator(".save-next time")).to_have_count(5)
    press_save(page)
    expect(editor(page).get_by_text("TARGET needs a default")).to_be_visible()
    check_with_axe(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    editor(page).get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Edit…")).to_be_focused()


# --- Functions without Streamlit ------------------------------------------------------------------

FORM: SavedForm = {
    "saved": "deploy",
    "origin": {},
    "seen": "",
    "values": {"command": "deploy $A", "env": "B=•••", "queue": "default"},
    "params": [],
    "cron": "",
    "zone": "",
    "paused": False,
    "follower": "",
    "notify": {"rules": None, "warn_after": "", "warn_waiting": "", "ping": ""},
}


def param(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "label": "", "default": "", "required": False, "choices": ""} | fields


def test_the_form_of_a_job_becomes_a_saved_command() -> None:
    job = {
        "id": "1",
        "command": ["deploy", "$A"],
        "name": "old",
        "saved": "old",
        "env": {"A": "1", "B": "2"},
        "values": {"A": "1"},
        "retries": 3,
    }
    shown = saved_forms.saved_form(job)
    assert (shown["values"]["name"], shown["values"]["command"]) == ("", "deploy '$A'")
    known = {"name": "A", "label": None, "default": "1", "choices": None, "secret": False}
    assert shown["params"] == [known]
    params = [param("A", default="•••"), param("C", required=True, default="x")]
    form = FORM | {"values": shown["values"], "params": params, "cron": "@daily", "zone": "UTC"}
    body, wrong = saved_forms.parse_saved_form(form, job)  # type: ignore[arg-type]
    assert not wrong
    assert body["command"] == ["deploy", "$A"], "it was not changed"
    assert (body["env"], body["cron"], body["retries"]) == ({"B": "2"}, "@daily", 3)
    assert body["params"] == [known, known | {"name": "C", "default": None}]
    assert "name" not in body and "saved" not in body


def test_a_job_that_replaces_its_saved_command_keeps_the_schedule() -> None:
    job = {"id": "1", "command": "c", "saved": "old", "env": {"A": "1"}, "values": {"A": "1"}}
    declared = {"name": "A", "label": "Which", "default": "0", "choices": ["0", "1"]}
    command = {"params": [declared], "cron": "@daily", "zone": "Asia/Tokyo", "paused": True}
    shown = saved_forms.saved_form(job, command)
    assert shown["params"] == [declared | {"default": "1", "secret": False}]
    assert (shown["cron"], shown["zone"], shown["paused"]) == ("@daily", "Asia/Tokyo", True)


def test_options_that_the_form_does_not_show_are_kept() -> None:
    command = {"saved": "deploy", "command": "x", "env": {"B": "2"}, "timeout": 5, "retries": 2}
    unseen = {"keep_runs": 20, "keep_days": 90, "log_max_bytes": 1 << 20, "max_memory": 1 << 30}
    unseen |= {"nice": 5, "keep_files": True}
    command |= unseen
    body, wrong = saved_forms.parse_saved_form(FORM, command)
    assert unseen.items() <= body.items()
    assert (body["timeout"], body["retries"], body["env"]) == (5, 2, {"B": "2"})
    assert (body["command"], wrong) == ("deploy $A", {})


def test_a_command_whose_answer_was_lost_is_known_to_be_saved() -> None:
    body, _ = saved_forms.parse_saved_form(FORM, {"command": "x", "env": {"B": "2"}})
    shown = dict.fromkeys(("name", "cwd", "timeout"), None)
    shown |= {"retries": 0, "retry_delay": 0, "urgent": False, "secrets": []}
    shown |= {"keep_files": False}
    command = shown | body | {"saved_at": "2026-11-25T22:39:19.386Z"}
    assert saved_forms.is_same_command(body, command)
    for change in ({"timeout": 5}, {"env": {}}, {"paused": True}, {"command": "y"}):
        assert not saved_forms.is_same_command(body, command | change)


def test_all_errors_of_the_form_are_shown_at_once() -> None:
    values = {"command": " ", "env": "B=•••", "retries": "many"}
    form: Any = FORM | {"saved": "Deploy it", "values": values}
    assert saved_forms.parse_saved_form(form, {})[1].keys() == {
        *("saved", "command", "env", "retries")
    }


@pytest.mark.parametrize(
    ("detail", "field", "sentence"),
    [
        ("cron: “x” has 1 field", "cron", "“x” has 1 field."),
        ("zone must be an IANA name", "zone", "Zone must be an IANA name."),
        ("A needs a default before", "param A", "A needs a default before."),
        (
            "params: the default of A must be one of b",
            "param A",
            "The default of A must be one of b.",
        ),
        ("params: 'a b' must be named", "params", "'a b' must be named."),
        ("queue must be 1 to 32", "queue", "Queue must be 1 to 32."),
        ("The API does not answer.", "", "The API does not answer."),
        ("storage unavailable", "", "Storage unavailable."),
    ],
)
def test_an_error_is_shown_at_the_field_that_it_is_about(
    detail: str, field: str, sentence: str
) -> None:
    assert saved_forms.saved_form_errors(ApiError(detail), ["A"]) == {field: sentence}


def test_the_next_times_of_a_schedule_are_computed_as_workers_do() -> None:
    now = 1_764_000_000.0  # 2025-11-24T16:00:00Z
    shown = saved_forms.preview_schedule("0 3 * * *", "Asia/Tokyo", now)
    assert (len(shown["times"]), shown["times"][0]) == (5, "2025-11-24T18:00:00.000Z")
    wrong = saved_forms.preview_schedule("0 3 * *", "UTC", now)["wrong"]
    assert wrong == {"cron": "“0 3 * *” has 4 fields; cron needs 5: minute hour day month weekday."}
    assert list(saved_forms.preview_schedule("@daily", "Mars", now)["wrong"]) == ["zone"]
