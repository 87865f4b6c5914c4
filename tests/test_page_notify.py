"""Notifications in the page: the bell, a job's details, and the rules of a saved command."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from conftest import free_port
from page_site import Site, check_with_axe, open_palette, visit
from playwright.sync_api import Locator, Page, expect

from tailboard.notices import Delivery, Notice, NoticeRecord
from tailboard.page import notices, notify_forms, rows, settings
from tailboard.page.client import ApiClient, Visitor
from tailboard.saved_command import SavedCommand
from tailboard.values import utc

FAILING = "seq 300; echo 'ERROR: disk full'; seq 300; exit 2"


@pytest.fixture
def site(page_site: Site) -> Site:
    return page_site


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def test_the_bell_lists_what_was_sent_and_leads_to_the_line_of_the_error(
    site: Site, page: Page
) -> None:
    job = site.submit(FAILING, "noticed")
    site.wait(job, "failed")
    now = utc(time.time())
    sent = Delivery(to="mailto://u:secret@example.org", tries=1, next_at=None, sent_at=now)
    refused = Delivery(to="ops", tries=1, next_at=time.time() + 600, error="HTTP 500")
    notice = Notice(event="failed", at=now, text="exit 2", deliveries=[sent, refused])
    record = NoticeRecord(job=job.id, title="noticed", notices=[notice])
    site.storage.notices.save(record)
    visit(page, site.url)
    bell = page.locator(".open-notices")
    expect(bell).to_have_accessible_name("Notifications, 1 new")
    page.keyboard.press("n")
    panel = page.get_by_role("dialog", name="Notifications")
    item = panel.get_by_role("listitem").filter(has_text="noticed")
    expect(item).to_contain_text("failed · exit 2")
    expect(item).to_contain_text("sent to mailto://example.org/…")
    expect(item).to_contain_text("not sent to ops: HTTP 500, trying again")
    check_with_axe(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    item.get_by_role("link", name="noticed").click()
    expect(panel).to_be_hidden()
    expect(page.locator(".line.current")).to_contain_text("ERROR: disk full")
    button(page, "Details").click()
    details = page.locator(".details-panel").get_by_role("table", name="Notifications")
    expect(details).to_contain_text("sent to mailto://example.org/… today")
    expect(details).to_contain_text("not sent to ops: HTTP 500, trying again")
    refused.next_at = None  # the sender gives up
    site.storage.notices.save(record)
    expect(details).not_to_contain_text("trying again")
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(bell).to_have_accessible_name("Notifications")  # seen
    open_palette(page).fill("show notif")
    page.keyboard.press("Enter")
    expect(panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(bell).to_be_focused()


def test_the_rules_of_a_saved_command_are_edited_in_its_form(site: Site, page: Page) -> None:
    secret = f"json://127.0.0.1:{free_port()}/secret"
    rule = {"on": ["failed"], "to": secret}
    site.storage.saved.save(SavedCommand(saved="watched", command="true", notify=[rule]))
    site.storage.notices.set_target("ops", secret)
    visit(page, f"{site.url}/?saved=watched")
    hidden = secret.replace("secret", "…")
    expect(page.get_by_text(f"Notifications: failed → {hidden}")).to_be_visible()
    button(page, "Edit…").click()
    form = page.locator(".save-dialog")
    form.get_by_text("Notifications failed →").click()
    first = form.get_by_role("group", name="Rule 1")
    expect(first.get_by_role("textbox", name="URL")).to_have_value(hidden)
    first.get_by_role("checkbox", name="lost").check()
    first.get_by_role("button", name="Test rule 1").click()
    expect(first.get_by_role("status")).to_contain_text("Not sent: ")  # nobody listens there
    button(page, "Add rule").click()
    second = form.get_by_role("group", name="Rule 2")
    expect(second.get_by_role("checkbox", name="failed")).to_be_focused()
    second.get_by_label("To", exact=True).select_option("ops")
    form.get_by_label("Waiting too long after").fill("soon")
    page.keyboard.press("Control+Enter")
    expect(form.get_by_text("Choose at least one event.")).to_be_visible()
    second.get_by_role("checkbox", name="waiting").check()
    expect(form.get_by_text("Choose at least one event.")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    expect(form.get_by_text(notify_forms.WRONG_SECONDS)).to_be_visible()
    check_with_axe(page)
    form.get_by_label("Waiting too long after").fill("900")
    form.get_by_label("Ping URL").fill("https://hc-ping.com/key")
    page.keyboard.press("Control+Enter")
    expect(form).to_be_hidden()
    shown = requests.get(f"{site.api}/saved/watched").json()
    changed = {"on": ["failed", "lost"], "to": hidden}
    assert shown["notify"] == [changed, {"on": ["waiting"], "to": "ops"}]
    assert (shown["warn_waiting"], shown["ping"]) == (900, "https://hc-ping.com/…")
    kept = site.storage.saved.load("watched")
    assert kept.notify is not None
    assert (kept.notify[0]["to"], kept.ping) == (secret, "https://hc-ping.com/key")


def test_a_job_that_is_edited_and_run_keeps_what_the_form_does_not_show(
    site: Site, page: Page
) -> None:
    secret = f"json://127.0.0.1:{free_port()}/secret"
    rules = [{"on": ["succeeded"], "to": secret}]
    job = site.submit("true", "copied rules", notify=rules, warn_after=7, keep_runs=5)
    site.wait(job, "succeeded")
    visit(page, f"{site.url}/?job={job.id}")
    button(page, "Edit and run…").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("with rules")
    button(page, "Run job").click()
    expect(page.locator(".head-title")).to_contain_text("with rules")
    copy = site.storage.get(page.url.rpartition("job=")[2])
    assert (copy.notify, copy.warn_after, copy.keep_runs) == (rules, 7, 5)


# --- Functions without a browser ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "targets", "field"),
    [
        ("There is no URL named 'a'; known names: b.", ["b", "a"], "rule 1"),
        ("The end of json://x/… is hidden: give it again.", ["a", "json://x/…"], "rule 1"),
        ("Apprise does not know this kind of URL.", ["zzz://"], "rule 0"),
        ("Unparseable URL zzz://….", ["json://x", "zzz://x"], "rule 1"),
        ("Unparseable URL zzz://….", ["zzz://x", "zzz://y"], "notify"),
    ],
)
def test_an_error_is_shown_at_its_rule(sentence: str, targets: list[str], field: str) -> None:
    rules = [{"on": ["failed"], "to": to} for to in targets]
    assert notify_forms.notify_errors({"notify": sentence}, rules) == {field: sentence}


def test_the_log_is_refreshed_while_a_message_is_to_be_sent() -> None:
    def job(pending: bool) -> dict[str, Any]:
        delivery = Delivery(to="ops", next_at=0.0 if pending else None)
        notice = Notice(event="failed", at=utc(0.0), deliveries=[delivery])
        return {"status": "failed", "notifications": [notice.as_dict()]}

    assert rows.log_interval("5 s", job(pending=True), "") == 5
    assert rows.log_interval("5 s", job(pending=False), "") is None


def test_the_page_does_not_need_notifications(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example if the API is older."""
    monkeypatch.setattr(settings, "API", f"http://127.0.0.1:{free_port()}")
    assert notices.load_noticed(ApiClient("", Visitor(is_remote=False), {})) is None
