"""Secret params in the page: a password field, whose value goes to the server and stays nowhere."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_site import Site, log_of, visit
from playwright.sync_api import Page, WebSocket, expect
from test_secret_params import HASH, PRINTS_HASH, VALUE, files_with, forms

from tailboard.job import Job
from tailboard.page import saved_forms
from tailboard.saved_command import Param, SavedCommand

# Everything that the page contains and stores, as text.
COLLECT = """() => {
  const texts = [];
  const walk = (root) => {
    texts.push(root.innerHTML);
    for (const node of root.querySelectorAll("*")) {
      texts.push(node.value ?? "");
      node.shadowRoot && walk(node.shadowRoot);
    }
  };
  walk(document.documentElement);
  const stored = [localStorage, sessionStorage].map((each) => JSON.stringify({ ...each }));
  return [...texts, ...stored, location.href, JSON.stringify(history.state)].join("\\n");
}"""


class Frames:
    """What the page sends to its server and receives from it."""

    def __init__(self, page: Page) -> None:
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        page.on("websocket", self.watch)

    def watch(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: self.sent.append(as_bytes(frame)))
        socket.on("framereceived", lambda frame: self.received.append(as_bytes(frame)))


def as_bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def with_value(frames: list[bytes]) -> int:
    return sum(any(form in frame for form in forms(VALUE)) for frame in frames)


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def save(site: Site, name: str) -> None:
    params = [Param(name="PASSWORD", secret=True), Param(name="PLACE", default="test")]
    site.storage.saved.save(SavedCommand(saved=name, command=PRINTS_HASH, params=params))


def test_a_secret_value_is_typed_sent_once_and_forgotten(site: Site, page: Page) -> None:
    frames = Frames(page)
    save(site, "typed-secret")
    visit(page, f"{site.url}/?saved=typed-secret")
    field = page.get_by_label("PASSWORD")
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_value("")
    run = page.locator(".saved-run")
    run.click()
    expect(page.get_by_text("PASSWORD is required: a string; it is secret")).to_be_visible()
    field.fill(VALUE)
    page.get_by_label("PLACE").fill("live")
    run.click()
    expect(log_of(page)).to_contain_text(f"{HASH}  -")
    expect(log_of(page)).to_contain_text("place=live")
    [job_id] = site.storage.saved.runs("typed-secret")
    assert not any(form.decode() in page.evaluate(COLLECT) for form in forms(VALUE))
    page.reload()
    expect(log_of(page)).to_contain_text(f"{HASH}  -")
    assert (with_value(frames.sent), with_value(frames.received)) == (1, 0)
    assert files_with(VALUE, site.root) == []
    assert site.storage.get(job_id).values == {"PLACE": "live"}


def test_run_again_opens_the_form_with_the_other_values(site: Site, page: Page) -> None:
    save(site, "again-secret")
    values = {"PASSWORD": VALUE, "PLACE": "there"}
    job = site.storage.submit(site.storage.saved.load("again-secret").job(values))
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    expect(log_of(page)).to_contain_text(HASH)
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Run again").last.click()
    expect(page.get_by_label("PLACE")).to_have_value("there")
    expect(page.get_by_label("PASSWORD")).to_have_value("")
    assert site.storage.saved.runs("again-secret") == [job.id]
    page.get_by_label("PASSWORD").fill(VALUE)
    page.get_by_label("PASSWORD").press("Enter")
    expect(page).not_to_have_url(re.compile(job.id))
    expect(log_of(page)).to_contain_text(HASH)
    assert len(site.storage.saved.runs("again-secret")) == 2


def test_a_param_is_made_secret_in_the_form(site: Site, page: Page) -> None:
    saved = SavedCommand(saved="made-secret", command='echo "$PASSWORD"', params=[])
    site.storage.saved.save(saved)
    visit(page, f"{site.url}/?saved=made-secret")
    page.get_by_role("button", name="Edit…").click()
    editor = page.locator(".save-dialog")
    editor.get_by_role("checkbox", name="PASSWORD", exact=True).check()
    editor.get_by_label("Default of PASSWORD").fill("old")
    editor.get_by_role("button", name="Label and choices of PASSWORD").click()
    editor.get_by_role("checkbox", name="PASSWORD is secret").check()
    expect(editor.get_by_label("Default of PASSWORD")).to_be_disabled()
    expect(editor.get_by_role("textbox", name="Choices of PASSWORD")).to_have_count(0)
    editor.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#param-PASSWORD")).to_have_attribute("type", "password")
    assert site.storage.saved.load("made-secret").params == [Param(name="PASSWORD", secret=True)]


def test_a_job_with_secret_values_is_saved_as_a_command_that_asks_for_them() -> None:
    job: Any = Job(command="c", saved="a", values={"PLACE": "x"}, secret_params=["PASSWORD"])
    declared = {"name": "PASSWORD", "label": "Of the database", "default": None, "choices": None}
    shown = saved_forms.saved_form(job.as_dict(), {"params": [declared | {"secret": True}]})
    place = {"name": "PLACE", "label": None, "default": "x", "choices": None, "secret": False}
    assert shown["params"] == [place, declared | {"secret": True}]
    given: Any = {"name": "A", "label": "", "default": "x", "choices": "1\n2", "required": False}
    param = saved_forms.parse_param(given | {"secret": True}, {"A": "x"})
    assert param == {"name": "A", "label": None, "default": None, "choices": None, "secret": True}
